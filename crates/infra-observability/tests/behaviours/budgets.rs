//! One budget over all telemetry: what is given up, in which order, and how it comes back.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock,
    context::Context,
    metric::{Counter, Histogram},
    random::Random,
    trace::TraceContext,
};
use infra_observability::{
    budget::{Budget, Options, Part, Thrift, Withheld},
    exporter::{Exporter, Format as PageFormat},
    log::{Format, Lines as Layer},
    trace::{Buffer, Sampler, Spans},
};
use infra_testkit::clock::ManualClock;
use tracing_subscriber::{Registry, fmt::MakeWriter, layer::SubscriberExt};

use crate::support::{Lines, clock, sample};

const CALLS: Counter = Counter::new("infra_t_calls_total", "Calls.");
const TOOK: Histogram = Histogram::new("infra_t_call_seconds", "seconds", "Calls.", &[1.0]);

/// What was seen of one round of everything.
#[derive(Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is seen or not, whatever the others are")]
struct Seen {
    info: bool,
    warning: bool,
    own_trace: bool,
    foreign_trace: bool,
    exemplar: bool,
    calls: f64,
}

#[test]
fn over_its_budget_it_gives_up_logs_then_traces_then_exemplars_and_metrics_never() {
    let (hands, time) = clock();
    let declared = [CALLS.declaration(), TOOK.declaration()];
    let all = infra_observability::declarations();
    let exporter = Exporter::builder().metrics(&declared).metrics(&all).build();
    let _recorder = metrics::set_default_local_recorder(&exporter);
    let (lines, spans, random) = (Lines::default(), Buffer::new(99), Arc::new(Random::seeded(1)));
    let thrift = exporter.thrift();
    let layer = Layer::new(Format::Json, time.clone(), lines.clone()).thrift(thrift.clone());
    let recorder = Spans::new(Sampler::all(), time.clone(), random.clone(), spans.clone());
    let subscriber = Registry::default().with(recorder.thrift(thrift.clone())).with(layer);
    let _default = tracing::subscriber::set_default(subscriber);
    let held = Arc::new(AtomicUsize::new(0));
    let read = held.clone();
    let options = Options::default().memory(1_000).calm(Duration::from_secs(10));
    let budget = Budget::new(options, thrift, time)
        .part(Part::Lines, || 100)
        .part(Part::Spans, move || read.load(Ordering::SeqCst));

    let mut rounds = 0.0;
    let mut round = || {
        rounds += 1.0;
        let from = lines.text().len();
        tracing::info!("told");
        tracing::warn!("warned");
        drop(tracing::info_span!("own"));
        let foreign = TraceContext::root(&random, true);
        Context::default().trace(foreign).sync_scope(|| {
            drop(tracing::info_span!("foreign"));
            TOOK.record(0.5);
        });
        CALLS.add(1);
        let (text, spans) = (lines.text().split_off(from), spans.take(9));
        let page = exporter.render_as(PageFormat::OpenMetrics);
        assert!(page.contains(&format!("infra_t_call_seconds_count {rounds}")), "{page}");
        Seen {
            info: text.contains("told"),
            warning: text.contains("warned"),
            own_trace: spans.iter().any(|span| span.name == "own"),
            foreign_trace: spans.iter().any(|span| span.name == "foreign"),
            exemplar: page.contains(&format!("{:032x}", foreign.trace_id())),
            calls: sample(&exporter, "infra_t_calls_total").unwrap() - rounds,
        }
    };
    let seen = |info, own_trace, exemplar| Seen {
        info,
        warning: true,
        own_trace,
        foreign_trace: true,
        exemplar,
        calls: 0.0,
    };
    let all = seen(true, true, true);
    assert_eq!((budget.look(), round()), (None, seen(true, true, true)));
    held.store(899, Ordering::SeqCst);
    assert_eq!((budget.look(), round()), (None, seen(true, true, true)), "it is not full");
    held.store(900, Ordering::SeqCst);
    let logs = Some(Withheld::Logs);
    assert_eq!((budget.look(), round()), (logs, seen(false, true, true)));
    let traces = Some(Withheld::Traces);
    assert_eq!((budget.look(), round()), (traces, seen(false, false, true)));
    let exemplars = Some(Withheld::Exemplars);
    assert_eq!((budget.look(), round()), (exemplars, seen(false, false, false)));
    assert_eq!((budget.look(), round()), (exemplars, seen(false, false, false)));
    assert!(lines.text().contains("telemetry is over its budget"));
    let figure = |series: &str| sample(&exporter, &format!("infra_observability_{series}"));
    assert_eq!(figure("withholding"), Some(3.0));
    assert_eq!(figure("held_bytes{part=\"spans\"}"), Some(900.0));
    assert_eq!(figure("held_bytes{part=\"lines\"}"), Some(100.0));

    held.store(0, Ordering::SeqCst);
    assert_eq!(budget.look(), exemplars, "it must have been calm for a while");
    for (back, after) in
        [(traces, seen(false, false, true)), (logs, seen(false, true, true)), (None, all)]
    {
        hands.advance(Duration::from_secs(10));
        assert_eq!((budget.look(), round()), (back, after));
    }
    let withheld = ["logs", "traces", "exemplars"]
        .map(|what| figure(&format!("withheld_total{{what=\"{what}\"}}")).unwrap());
    assert_eq!(withheld, [6.0, 4.0, 2.0]);
    assert_eq!(figure("withholding"), Some(0.0));
    assert!(format!("{budget:?}").contains("[Lines, Spans]"));
}

/// A sink that takes time, by a clock that only it moves.
#[derive(Clone)]
struct Slow(ManualClock);

impl Write for Slow {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.advance(Duration::from_micros(50));
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Slow {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn what_the_log_costs_is_part_of_the_budget() {
    let (hands, time) = clock();
    let exporter = Exporter::new(&infra_observability::declarations());
    let _recorder = metrics::set_default_local_recorder(&exporter);
    let thrift = Thrift::default();
    let layer = Layer::new(Format::Json, time.clone(), Slow(hands.clone())).thrift(thrift.clone());
    let _default = tracing::subscriber::set_default(Registry::default().with(layer));
    let options = Options::default().processors(0.5).calm(Duration::from_secs(1));
    let budget = Budget::new(options, thrift, time.clone());
    // One entry in 64 is measured for all of them: here every one takes all the time there is.
    (0..64).for_each(|_| tracing::info!("told"));
    assert_eq!(budget.look(), None, "three milliseconds say nothing");
    (0..64 * 160).for_each(|_| tracing::info!("told"));
    assert_eq!(budget.look(), Some(Withheld::Logs));
    let cost = sample(&exporter, "infra_observability_cost_ratio").unwrap();
    assert!((cost - 1.0).abs() < 1e-9, "{cost}");
    let before = time.now();
    (0..64).for_each(|_| tracing::info!("withheld"));
    assert_eq!(time.now(), before, "what is withheld costs nothing");
    hands.advance(Duration::from_secs(1));
    assert_eq!(budget.look(), Some(Withheld::Logs));
    hands.advance(Duration::from_secs(1));
    assert_eq!(budget.look(), None);
}

#[tokio::test(start_paused = true)]
async fn a_budget_looks_each_second_until_the_service_stops() {
    let shutdown = infra_core::lifecycle::Shutdown::new();
    let (looks, thrift) = (Arc::new(AtomicUsize::new(0)), Thrift::default());
    let count = looks.clone();
    let read = move || if count.fetch_add(1, Ordering::SeqCst) < 2 { usize::MAX } else { 0 };
    let clock = infra_core::SystemClock::shared();
    let budget = Budget::new(Options::default(), thrift.clone(), clock).part(Part::Records, read);
    shutdown.spawn(budget.run(shutdown.stop()));
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    assert_eq!(looks.load(Ordering::SeqCst), 11);
    assert_eq!(thrift.withheld(), Some(Withheld::Traces));
    // The runtime stood still: one look is late, and those that were missed are not made up.
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(looks.load(Ordering::SeqCst), 12);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(thrift.withheld(), None);
    assert_eq!(shutdown.close(Duration::from_secs(1)).await.finished, 1);
}
