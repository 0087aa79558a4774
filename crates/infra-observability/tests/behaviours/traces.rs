//! Spans, their place in a trace, their way out and in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use infra_core::{
    SystemClock, baggage::Baggage, context::Context, id::CorrelationId, metric::Histogram,
    random::Random, trace::TraceContext,
};
use infra_observability::{
    exporter::{Exporter as Metrics, Format as PageFormat},
    trace::{
        Attribute, Buffer, Carrier, Finished, Kind, Sampler, Spans, Status, context_of, extract,
        inject, link, traced, traced_result,
    },
};
use proptest::prelude::*;
use tracing_subscriber::{Registry, layer::SubscriberExt};

fn recorded(sampler: Sampler) -> (Buffer<Finished>, tracing::subscriber::DefaultGuard) {
    let buffer = Buffer::new(1_000);
    let random = Arc::new(Random::seeded(11));
    let spans = Spans::new(sampler, SystemClock::shared(), random, buffer.clone());
    (buffer, tracing::subscriber::set_default(Registry::default().with(spans)))
}

fn by_name(spans: &[Finished], name: &str) -> Finished {
    spans.iter().find(|span| span.name == name).cloned().unwrap()
}

#[test]
fn ids_are_those_of_the_w3c_and_all_different() {
    let random = Random::from_system();
    let roots: Vec<TraceContext> = (0..10_000).map(|_| TraceContext::root(&random, true)).collect();
    let traces: BTreeSet<u128> = roots.iter().map(|root| root.trace_id()).collect();
    let spans: BTreeSet<u64> = roots.iter().map(|root| root.span_id()).collect();
    assert_eq!((traces.len(), spans.len()), (10_000, 10_000));
    assert!(!traces.contains(&0) && !spans.contains(&0));
    for root in roots.iter().take(100) {
        let text = root.to_string();
        assert_eq!((text.len(), &text[..3]), (55, "00-"));
        assert_eq!(text.to_ascii_lowercase(), text);
    }
}

proptest! {
    #[test]
    fn children_form_a_path_and_inherit_correlation_and_baggage_by_value(depth in 1..30_usize) {
        let (buffer, _default) = recorded(Sampler::all());
        let random = Random::seeded(5);
        let id = CorrelationId::generate(infra_core::clock::Timestamp::EPOCH, &random);
        fn descend(left: usize, baggage: &Baggage) -> Option<CorrelationId> {
            if left == 0 {
                return Context::current().correlation_id();
            }
            let span = tracing::info_span!("step");
            let own = context_of(&span).unwrap();
            let inner = baggage.with("depth", left.to_string()).unwrap();
            let context = Context::current().trace(own).baggage(inner.clone());
            let deepest = context.sync_scope(|| descend(left - 1, &inner));
            assert_ne!(baggage.get("depth"), Some(left.to_string().as_str()));
            deepest
        }
        let begin = Context::default().correlation(id);
        let deepest = begin.sync_scope(|| descend(depth, &Baggage::default()));
        prop_assert_eq!(deepest, Some(id));
        let mut spans = buffer.take(100);
        spans.reverse();
        prop_assert_eq!(spans.len(), depth);
        let ids: BTreeSet<u64> = spans.iter().map(|span| span.context.span_id()).collect();
        let traces: BTreeSet<u128> = spans.iter().map(|span| span.context.trace_id()).collect();
        prop_assert_eq!((ids.len(), traces.len()), (depth, 1));
        prop_assert_eq!(spans[0].parent, None);
        for pair in spans.windows(2) {
            prop_assert_eq!(pair[1].parent, Some(pair[0].context.span_id()));
        }
    }

    #[test]
    fn every_field_of_a_context_survives_every_carrier(
        trace in 1..u128::MAX, span in 1..u64::MAX, flags in any::<u8>(), value in ".{0,20}",
    ) {
        let context = Context::default()
            .trace(TraceContext::from_parts(trace, span, flags).unwrap())
            .trace_state("a=1,b@c=2".parse().unwrap())
            .baggage(Baggage::default().with("k", value).unwrap())
            .correlation(CorrelationId::generate(
                infra_core::clock::Timestamp::EPOCH, &Random::seeded(span)));
        let (mut http, mut map) = (http::HeaderMap::new(), BTreeMap::new());
        inject(&context, &mut http);
        inject(&context, &mut map);
        for back in [extract(&http), extract(&map)] {
            prop_assert_eq!(back.trace_context(), context.trace_context());
            prop_assert_eq!(back.trace_state_of(), context.trace_state_of());
            prop_assert_eq!(back.baggage_of(), context.baggage_of());
            prop_assert_eq!(back.correlation_id(), context.correlation_id());
        }
    }
}

/// The cases of the W3C's validation suite for `traceparent`, as far as they are about one header.
#[test]
fn the_vectors_of_the_w3c_are_taken_and_refused() {
    let trace = "12345678901234567890123456789012-1234567890123456";
    let good = [
        format!("00-{trace}-01"),
        format!("00-{trace}-00"),
        format!("cc-{trace}-01"),
        format!("cc-{trace}-01-what-the-future-will-be-like"),
        format!(" 00-{trace}-01\t"),
    ];
    let bad = [
        format!("00-{trace}-01."),
        format!("00-{trace}-01-what"),
        format!("cc-{trace}-01.what"),
        format!("ff-{trace}-01"),
        format!("0-{trace}-01"),
        format!(".0-{trace}-01"),
        format!("00-{trace}-1"),
        format!("00-{trace}-.0"),
        format!("00-{}-01", trace.replace("12345678901234567890123456789012", &"0".repeat(32))),
        format!("00-{}-01", trace.replace("-1234567890123456", &format!("-{}", "0".repeat(16)))),
        "00-1234567890123456789012345678901-1234567890123456-01".to_owned(),
        "00-12345678901234567890123456789012-123456789012345-01".to_owned(),
        "00-1234567890123456789012345678901.-1234567890123456-01".to_owned(),
        "00-ABCDEF78901234567890123456789012-1234567890123456-01".to_owned(),
        String::new(),
    ];
    let read = |text: &str| {
        let mut carrier = BTreeMap::new();
        carrier.set("traceparent", text.to_owned());
        carrier.set("tracestate", "a=1".to_owned());
        extract(&carrier)
    };
    for text in good {
        assert!(read(&text).trace_context().is_some(), "{text}");
    }
    for text in bad {
        let context = read(&text);
        assert!(context.trace_context().is_none(), "{text}");
        assert_eq!(context.trace_state_of().as_str(), "", "state goes with its trace");
    }
    let mut twice = http::HeaderMap::new();
    twice.append("traceparent", format!("00-{trace}-01").parse().unwrap());
    twice.append("traceparent", format!("00-{trace}-01").parse().unwrap());
    assert!(extract(&twice).trace_context().is_none());
    states_of_the_w3c();
    let mut shouted = std::collections::HashMap::new();
    shouted.insert("TraceParent".to_owned(), format!("00-{trace}-01"));
    assert!(extract(&shouted).trace_context().is_some());
    shouted.set("traceparent", "x".to_owned());
    assert_eq!(shouted.len(), 1);
}

/// The cases of the same suite for `tracestate`.
fn states_of_the_w3c() {
    let members = |count| (1..=count).map(|n| format!("bar{n:02}=1")).collect::<Vec<_>>().join(",");
    let long = |key: usize, value: usize| format!("{}={}", "z".repeat(key), "v".repeat(value));
    let cases: [(&[&str], &str); 19] = [
        (&["foo=1,bar=2"], "foo=1,bar=2"),
        (&["foo=1", "bar=2"], "foo=1,bar=2"),
        (&["foo=1,", "", ",bar=2"], "foo=1,bar=2"),
        (&["foo=1", ""], "foo=1"),
        (&[""], ""),
        (&["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
        (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
        (&["foo@bar=1,bar=2"], "foo@bar=1,bar=2"),
        (&["foo=1,foo=1"], ""),
        (&["foo=1", "foo=2"], ""),
        (&["foo =1"], ""),
        (&["FOO=1"], ""),
        (&["foo.bar=1"], ""),
        (&["foo@=1,bar=2"], ""),
        (&["@foo=1,bar=2"], ""),
        (&["foo@@bar=1"], ""),
        (&["foo@bar@baz=1"], ""),
        (&["foo=bar=baz"], ""),
        (&["foo=,bar=3"], ""),
    ];
    let read = |headers: &[&str]| {
        let mut carrier = http::HeaderMap::new();
        carrier.set("traceparent", format!("00-{}-{}-00", "1".repeat(32), "2".repeat(16)));
        for header in headers {
            carrier.append("tracestate", header.parse().unwrap());
        }
        extract(&carrier).trace_state_of().as_str().to_owned()
    };
    for (headers, wanted) in cases {
        assert_eq!(read(headers), wanted, "{headers:?}");
    }
    assert_eq!(read(&[&members(32)]), members(32));
    assert_eq!(read(&[&members(33)]), "");
    assert_eq!(read(&[&long(256, 255)]), long(256, 255));
    assert_eq!((read(&[&long(257, 1)]), read(&[&long(1, 257)])), (String::new(), String::new()));
    let mut bags = http::HeaderMap::new();
    bags.append("baggage", "a=1".parse().unwrap());
    bags.append("baggage", "b=2".parse().unwrap());
    assert_eq!(extract(&bags).baggage_of().iter().count(), 2, "baggage is a list as well");
}

#[tokio::test(start_paused = true)]
async fn a_span_has_its_name_attributes_events_and_exact_duration() {
    let (buffer, _default) = recorded(Sampler::all());
    let span = tracing::info_span!(
        "test-operation",
        user_id = 123,
        later = tracing::field::Empty,
        otel.kind = "server",
        hand = "c4nary"
    );
    traced(span.clone(), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        span.record("later", true);
        tracing::info!(cards = 2, "dealt");
    })
    .await;
    drop(span);
    let [span] = buffer.take(9).try_into().unwrap();
    assert_eq!(
        (span.name.as_str(), span.kind, span.status.clone()),
        ("test-operation", Kind::Server, Status::Ok)
    );
    assert_eq!(span.attribute("user_id").as_deref(), Some("123"));
    assert_eq!(span.attribute("later").as_deref(), Some("true"));
    assert_eq!(span.attribute("hand").as_deref(), Some("[redacted]"));
    assert_eq!(span.duration, Duration::from_millis(10));
    assert_eq!((span.events[0].name.as_str(), span.events[0].after), ("dealt", span.duration));
    assert_eq!(span.events[0].attributes[0].name(), "cards");
}

#[tokio::test]
async fn spans_nest_across_interleaved_and_spawned_tasks_under_one_sampling_decision() {
    for sampler in [Sampler::all(), Sampler::none()] {
        let (buffer, _default) = recorded(sampler);
        let family = |name: &'static str| async move {
            let parent = tracing::info_span!("parent", name);
            traced(parent, async {
                tokio::task::yield_now().await;
                let child = async {
                    traced(tracing::info_span!("child"), tokio::task::yield_now()).await;
                };
                tokio::spawn(Context::carry(child)).await.unwrap();
            })
            .await;
        };
        tokio::join!(family("a"), family("b"));
        let spans = buffer.take(99);
        if sampler == Sampler::none() {
            assert!(spans.is_empty());
            continue;
        }
        let children: Vec<_> = spans.iter().filter(|span| span.name == "child").collect();
        let parents: Vec<_> = spans.iter().filter(|span| span.name == "parent").collect();
        assert_eq!((children.len(), parents.len()), (2, 2));
        for child in children {
            let parent =
                parents.iter().find(|p| Some(p.context.span_id()) == child.parent).unwrap();
            assert_eq!(parent.context.trace_id(), child.context.trace_id());
        }
        assert_ne!(parents[0].context.trace_id(), parents[1].context.trace_id());
    }
}

#[tokio::test]
async fn of_traces_that_are_sampled_in_part_each_is_whole_or_not_there() {
    let (buffer, _default) = recorded(Sampler::share(0.5));
    for _ in 0..200 {
        traced(tracing::info_span!("parent"), async {
            let child = async { traced(tracing::info_span!("child"), async {}).await };
            tokio::spawn(Context::carry(child)).await.unwrap();
            tracing::info_span!("sibling").in_scope(|| ());
        })
        .await;
    }
    let mut traces: BTreeMap<u128, usize> = BTreeMap::new();
    for span in buffer.take(1_000) {
        *traces.entry(span.context.trace_id()).or_default() += 1;
    }
    assert!((50..150).contains(&traces.len()), "{}", traces.len());
    assert!(traces.values().all(|spans| *spans == 3), "a decision was made anew: {traces:?}");
}

#[tokio::test]
async fn a_span_that_is_declared_a_root_begins_a_trace_wherever_it_is_made() {
    let (buffer, _default) = recorded(Sampler::all());
    traced(tracing::info_span!("action"), async {
        drop(tracing::info_span!(parent: None, "phase"));
    })
    .await;
    let spans = buffer.take(9);
    let (phase, action) = (by_name(&spans, "phase"), by_name(&spans, "action"));
    assert_eq!(phase.parent, None);
    assert_ne!(phase.context.trace_id(), action.context.trace_id());
}

#[tokio::test]
async fn errors_panics_and_cancellation_end_a_span_and_say_so() {
    let (buffer, _default) = recorded(Sampler::all());
    let cause = || infra_core::Error::invalid("read", "bad").because(std::io::Error::other("disk"));
    let failed: Result<(), _> =
        traced_result(tracing::info_span!("fails"), async { Err(cause()) }).await;
    assert!(failed.is_err(), "the error is passed on");
    let panics =
        tokio::spawn(traced(tracing::info_span!("panics"), async { panic!("as planned") }));
    assert!(panics.await.unwrap_err().is_panic());
    let hangs = traced(tracing::info_span!("hangs"), std::future::pending::<()>());
    assert!(tokio::time::timeout(Duration::from_millis(1), hangs).await.is_err());
    let fine: Result<(), std::io::Error> =
        traced_result(tracing::info_span!("fine"), async { Ok(()) }).await;
    assert!(fine.is_ok());
    let spans = buffer.take(9);
    let failed = by_name(&spans, "fails");
    assert!(matches!(failed.status, Status::Error(_)));
    let event = &failed.events[0];
    let names: Vec<&str> = event.attributes.iter().map(Attribute::name).collect();
    assert_eq!(event.name, "exception");
    assert_eq!(names, ["exception.type", "exception.message", "exception.stacktrace"]);
    assert!(event.attributes[0].value().ends_with("Error"));
    assert_eq!(event.attributes[2].value(), "disk", "the causes stand for a stack");
    let panicked = by_name(&spans, "panics");
    assert_eq!(
        (panicked.status, panicked.events[0].name.as_str()),
        (Status::Error("panicked".into()), "exception")
    );
    assert_eq!(by_name(&spans, "hangs").status, Status::Error("cancelled".into()));
    assert_eq!(by_name(&spans, "fine").status, Status::Ok);
}

#[tokio::test]
async fn a_message_belongs_to_the_trace_it_came_with_and_links_to_the_handshake() {
    let (buffer, _default) = recorded(Sampler::all());
    let handshake = tracing::info_span!("handshake");
    let opened = context_of(&handshake).unwrap();
    drop(handshake);
    let worker = tracing::info_span!("worker");
    let remote = TraceContext::root(&Random::seeded(99), true);
    traced(
        worker,
        Context::default().trace(remote).scope(async {
            let message = tracing::info_span!("message", otel.kind = "consumer");
            link(&message, opened);
            traced(message, async {}).await;
        }),
    )
    .await;
    let spans = buffer.take(9);
    let message = by_name(&spans, "message");
    assert_eq!(
        (message.context.trace_id(), message.parent),
        (remote.trace_id(), Some(remote.span_id()))
    );
    assert_eq!((message.links.as_slice(), message.kind), (&[opened][..], Kind::Consumer));
}

const CALLS: infra_core::metric::Counter =
    infra_core::metric::Counter::new("infra_t_calls_total", "Calls.");
const TOOK: Histogram = Histogram::latency("infra_t_call_seconds", "Calls.");

#[tokio::test]
async fn a_traced_and_measured_function_is_one_span_and_one_call_that_name_each_other() {
    let (buffer, _default) = recorded(Sampler::all());
    let metrics = Metrics::new(&[CALLS.declaration(), TOOK.declaration()]);
    #[tracing::instrument(name = "decorated_function", fields(code.module = module_path!()))]
    fn doubled(n: u64) -> u64 {
        n * 2
    }
    let output = traced(tracing::info_span!("test_operation", code.function = "doubled"), async {
        metrics::with_local_recorder(&metrics, || {
            CALLS.add(1);
            TOOK.record(0.02);
        });
        doubled(5)
    })
    .await;
    assert_eq!(output, 10);
    let spans = buffer.take(9);
    assert_eq!(spans.len(), 2);
    let (outer, inner) = (by_name(&spans, "test_operation"), by_name(&spans, "decorated_function"));
    assert_eq!(
        (inner.parent, inner.attribute("n").as_deref()),
        (Some(outer.context.span_id()), Some("5"))
    );
    assert!(inner.attribute("code.module").unwrap().contains("traces"));
    assert_eq!(outer.attribute("code.function").as_deref(), Some("doubled"));
    let page = metrics.render_as(PageFormat::OpenMetrics);
    assert!(page.contains("infra_t_calls_total 1\n"));
    let exemplar = format!(
        "trace_id=\"{:032x}\",span_id=\"{:016x}\"",
        outer.context.trace_id(),
        outer.context.span_id()
    );
    assert!(page.contains(&exemplar), "{page}");
}

#[cfg(feature = "otlp")]
mod otlp {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use infra_core::{Clock as _, lifecycle::Shutdown};
    use infra_observability::{
        log::{Format, Lines as Layer},
        otlp::{Exporter, Options},
    };
    use serde_json::Value;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::support::{Lines, sample};

    /// Takes requests as a collector does, over real HTTP, and keeps what they tell; the first so
    /// many are refused.
    async fn collector(
        listener: TcpListener,
        path: &str,
        (refuse_first, refusal): (usize, &str),
        taken: Arc<Mutex<Vec<Value>>>,
    ) {
        for request in 0.. {
            let Ok((mut socket, _)) = listener.accept().await else { return };
            let mut bytes = Vec::new();
            let body = loop {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                if let (Some((head, body)), Some(length)) = (text.split_once("\r\n\r\n"), length) {
                    assert!(head.starts_with(&format!("POST {path} HTTP/1.1")), "{head}");
                    if length.parse::<usize>().unwrap() <= body.len() {
                        break body.to_owned();
                    }
                }
                if socket.read_buf(&mut bytes).await.unwrap() == 0 {
                    break String::new();
                }
            };
            let status = if request < refuse_first { refusal } else { "200 OK" };
            if refuse_first <= request {
                taken.lock().unwrap().push(serde_json::from_str(&body).unwrap());
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    fn spans(taken: &Mutex<Vec<Value>>) -> Vec<Value> {
        let taken = taken.lock().unwrap();
        let each = taken.iter().flat_map(|request| {
            request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
        });
        each.collect()
    }

    #[tokio::test]
    async fn spans_reach_a_collector_that_was_busy_and_the_end_loses_none() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let busy = (1, "503 Busy");
        let server = tokio::spawn(collector(listener, "/v1/traces", busy, taken.clone()));
        let (buffer, _default) = recorded(Sampler::all());
        let options = Options::new(address, "test-service")
            .attribute("service.version", "1")
            .batch(10)
            .interval(Duration::from_millis(1));
        let shutdown = Shutdown::new();
        shutdown.spawn(Exporter::new(options, buffer.clone()).run(shutdown.stop()));
        // One action from socket to store to broadcast, through a queue and a stored event.
        let mut headers = BTreeMap::new();
        let action =
            tracing::info_span!("socket.message", "game.id" = "game123", otel.kind = "server");
        traced(action, async {
            traced(tracing::info_span!("store.append"), async {
                inject(&Context::current(), &mut headers);
            })
            .await;
            traced(tracing::info_span!("room.broadcast"), async { tracing::info!("sent") }).await;
        })
        .await;
        let stored = extract(&headers);
        stored.scope(async { traced(tracing::info_span!("queue.handle"), async {}).await }).await;
        for _ in 0..25 {
            let failed: Result<(), _> = traced_result(tracing::info_span!("more"), async {
                Err(std::io::Error::other("as planned"))
            })
            .await;
            assert!(failed.is_err());
        }
        let ended = shutdown.close(Duration::from_secs(20)).await;
        assert_eq!(ended.finished, 1);
        server.abort();
        let spans = spans(&taken);
        assert_eq!(spans.len(), 29, "none is lost");
        let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
        let action = named("socket.message");
        for (child, parent) in [
            ("store.append", "socket.message"),
            ("room.broadcast", "socket.message"),
            ("queue.handle", "store.append"),
        ] {
            assert_eq!(named(child)["traceId"], action["traceId"]);
            assert_eq!(named(child)["parentSpanId"], named(parent)["spanId"], "{child}");
        }
        assert_eq!((&action["kind"], &action["status"]["code"]), (&2.into(), &1.into()));
        let attribute = &action["attributes"][0];
        assert_eq!(
            (&attribute["key"], &attribute["value"]["stringValue"]),
            (&"game.id".into(), &"game123".into())
        );
        assert_eq!(named("room.broadcast")["events"][0]["name"], "sent");
        assert_eq!(named("more")["status"]["code"], 2);
        let (start, end) = (&action["startTimeUnixNano"], &action["endTimeUnixNano"]);
        assert!(start.as_str().unwrap().len() == 19 && start.as_str() <= end.as_str());
        let resource = &taken.lock().unwrap()[0]["resourceSpans"][0]["resource"]["attributes"];
        assert_eq!(resource[0]["value"]["stringValue"], "test-service");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_collector_blocks_nobody_and_memory_stays_bounded() {
        let (buffer, _default) = recorded(Sampler::all());
        // Port 1 is nobody's: every connection is refused.
        let options = Options::new("127.0.0.1:1", "test").batch(100).last(Duration::from_secs(1));
        let shutdown = Shutdown::new();
        shutdown.spawn(Exporter::new(options, buffer.clone()).run(shutdown.stop()));
        (0..5_000).for_each(|_| drop(tracing::info_span!("lost")));
        assert_eq!((buffer.len(), buffer.dropped()), (1_000, 4_000));
        let clock = SystemClock::new();
        let begun = clock.now();
        let ended = shutdown.close(Duration::from_secs(60)).await;
        assert_eq!((ended.finished, buffer.len()), (1, 0));
        let took = clock.now().since(begun);
        assert!(took <= Duration::from_millis(1_010), "the end keeps its deadline: {took:?}");
    }

    /// Takes every connection, reads nothing and never answers.
    async fn hang(listener: TcpListener, accepted: Arc<AtomicUsize>) {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::SeqCst);
            held.push(socket);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_hangs_blocks_nobody_memory_stays_bounded_and_the_end_keeps_its_time()
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let accepted = Arc::new(AtomicUsize::new(0));
        tokio::spawn(hang(listener, accepted.clone()));
        let metrics = Metrics::new(&infra_observability::declarations());
        let _recorder = metrics::set_default_local_recorder(&metrics);
        let (buffer, _default) = recorded(Sampler::all());
        let last = Duration::from_secs(3);
        let shutdown = Shutdown::new();
        let exporter = Exporter::new(Options::new(address, "test").last(last), buffer.clone());
        shutdown.spawn(exporter.run(shutdown.stop()));
        let clock = SystemClock::new();
        // What is on its way does not wait, and is held all the same.
        (0..10).for_each(|n| drop(tracing::info_span!("sent", n, text = "x".repeat(1_000))));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(buffer.len(), 0);
        assert!((10_000..30_000).contains(&buffer.bytes()), "{}", buffer.bytes());
        for _ in 0..40 {
            let begun = clock.now();
            (0..250).for_each(|n| drop(tracing::info_span!("lost", n, text = "x".repeat(1_000))));
            assert_eq!(clock.now(), begun, "nobody waits, on a clock that moves only by waiting");
            assert!(buffer.len() <= 1_000 && buffer.bytes() <= 3 << 20, "{}", buffer.bytes());
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        // The buffer is full and a batch is on its way when the end comes.
        (0..1_000).for_each(|_| drop(tracing::info_span!("last")));
        assert_eq!(buffer.len(), 1_000);
        assert!(4 < accepted.load(Ordering::SeqCst), "the collector took connections");
        let begun = clock.now();
        let ended = shutdown.close(Duration::from_secs(60)).await;
        assert_eq!((ended.finished, buffer.bytes()), (1, 0));
        let took = clock.now().since(begun);
        assert!(took <= last + Duration::from_millis(10), "{took:?}");
        let fate = |fate| {
            let series = format!("{{signal=\"traces\",fate=\"{fate}\"}}");
            sample(&metrics, &format!("infra_observability_exported_total{series}")).unwrap()
        };
        assert_eq!(fate("sent"), 0.0);
        assert_eq!(fate("dropped"), buffer.dropped() as f64);
        assert_eq!(fate("dropped") + fate("failed"), 11_010.0, "each span is counted once");
    }

    #[tokio::test]
    async fn log_entries_reach_a_collector_with_their_trace_and_those_of_the_exporter_do_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let refused = (1, "400 Bad Request");
        tokio::spawn(collector(listener, "/v1/logs", refused, taken.clone()));
        let (lines, records) = (Lines::default(), Buffer::new(100));
        let layer = Layer::new(Format::Json, SystemClock::shared(), lines.clone());
        let layer = layer.ship(records.clone());
        let _default = tracing::subscriber::set_default(Registry::default().with(layer));
        let options = Options::new(address, "test-service").interval(Duration::from_millis(1));
        let shutdown = Shutdown::new();
        shutdown.spawn(Exporter::new(options, records).run(shutdown.stop()));
        tracing::info!("refused with its whole batch");
        while !lines.text().contains("the collector refuses") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let random = Random::seeded(3);
        let trace = TraceContext::root(&random, true);
        let id = CorrelationId::generate(infra_core::clock::Timestamp::EPOCH, &random);
        Context::default().trace(trace).correlation(id).sync_scope(|| {
            let span = tracing::info_span!("room", room = "AB12CD");
            span.in_scope(|| tracing::warn!(pieces = 2, hand = "c4nary", "played"));
        });
        assert_eq!(shutdown.close(Duration::from_secs(20)).await.finished, 1);
        let taken = taken.lock().unwrap().clone();
        let [request] = taken.as_slice() else { panic!("{taken:?}") };
        let logs = &request["resourceLogs"][0];
        assert_eq!(logs["resource"]["attributes"][0]["value"]["stringValue"], "test-service");
        let records = logs["scopeLogs"][0]["logRecords"].as_array().unwrap();
        let [record] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!(
            (&record["body"]["stringValue"], &record["severityNumber"]),
            (&"played".into(), &13.into())
        );
        assert_eq!(record["traceId"], format!("{:032x}", trace.trace_id()));
        assert_eq!(record["spanId"], format!("{:016x}", trace.span_id()));
        let attribute = |name: &str| {
            let attributes = record["attributes"].as_array().unwrap();
            attributes.iter().find(|one| one["key"] == name).unwrap()["value"].clone()
        };
        let text = |name: &str| attribute(name)["stringValue"].as_str().unwrap().to_owned();
        assert_eq!((text("room"), text("hand")), ("AB12CD".into(), "[redacted]".into()));
        assert_eq!((text("correlation_id"), text("spans")), (id.to_string(), "room".into()));
        assert_eq!(attribute("pieces")["intValue"], "2");
        assert!(text("target").contains("traces"));
        assert_eq!(lines.text().lines().count(), 3, "the lines are written all the same");
    }
}
