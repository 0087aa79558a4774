//! What measuring costs: a counter and a histogram that are kept at hand, a page of ten thousand
//! series, a line of the log. The peers are metrics-exporter-prometheus behind the same facade,
//! prometheus-client, and the JSON of tracing-subscriber.

use std::{alloc::System, hint::black_box, io, process::ExitCode, time::Instant};

use infra_core::{
    SystemClock,
    metric::{Counter, Declaration, Histogram, Kind, LATENCY, Label, LabelSet},
};
use infra_observability::{exporter::Exporter, log};
use measure::{Better, Workload};
use metrics_exporter_prometheus::PrometheusBuilder;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter, family::Family, histogram},
    registry::Registry,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const OPERATIONS: u32 = 5_000_000;
const LOOKUPS: u32 = 1_000_000;
const LINES: u32 = 100_000;
const PAGES: u32 = 20;

/// The observations between which the memory may not grow.
const MANY: u32 = 100_000_000;

const HITS: Counter = Counter::new("infra_bench_hits_total", "Hits.");
const WAIT: Histogram = Histogram::latency("infra_bench_wait_seconds", "Wait.");
const CALLS: Counter<Method> = Counter::labelled("infra_bench_calls_total", "Calls.");

#[derive(Clone, Copy)]
enum Method {
    Get,
    Post,
}

impl Method {
    fn of(number: u32) -> Self {
        if number % 2 == 0 { Self::Get } else { Self::Post }
    }
}

impl Label for Method {
    const SET: LabelSet = LabelSet { name: "method", values: &["get", "post"] };

    fn value(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
        }
    }
}

fn main() -> ExitCode {
    let nanos = |name, ours: fn() -> f64| Workload::figure(name, "ns", Better::Lower, ours);
    measure::main(vec![
        nanos("counter", our_counter)
            .beside("metrics-exporter-prometheus", facade_counter)
            .beside("prometheus-client", client_counter),
        nanos("counter-by-label", our_lookup)
            .beside("metrics-exporter-prometheus", facade_lookup),
        nanos("histogram", our_histogram)
            .beside("metrics-exporter-prometheus", facade_histogram)
            .beside("prometheus-client", client_histogram),
        Workload::figure("render-10k", "ms", Better::Lower, our_page())
            .beside("metrics-exporter-prometheus", facade_page())
            .beside("prometheus-client", client_page()),
        nanos("log-line", our_lines).beside("tracing-subscriber", json_lines),
        Workload::figure("allocations", "per operation", Better::Lower, allocations).rounds(1),
        Workload::figure("memory-growth", "KiB", Better::Lower, growth).rounds(1),
    ])
}

/// Returns the nanoseconds of one of `count` operations.
fn timed(count: u32, mut work: impl FnMut(u32)) -> f64 {
    let start = Instant::now();
    (0..count).for_each(&mut work);
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

fn exporter() -> Exporter {
    Exporter::new(&[HITS.declaration(), WAIT.declaration()])
}

/// Returns a value that falls into another bucket each time, between 0.1 ms and 1 s.
fn value(number: u32) -> f64 {
    f64::from(number % 1_000 + 1) / 1_000.0
}

fn our_counter() -> f64 {
    let exporter = exporter();
    let hits = metrics::with_local_recorder(&exporter, || HITS.handle());
    timed(OPERATIONS, |_| hits.increment(black_box(1)))
}

/// The series is looked up each time, as where a call decides its label.
fn our_lookup() -> f64 {
    let exporter = Exporter::new(&[CALLS.declaration()]);
    metrics::with_local_recorder(&exporter, || {
        timed(LOOKUPS, |number| CALLS.add_for(black_box(Method::of(number)), 1))
    })
}

fn facade_lookup() -> f64 {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        timed(LOOKUPS, |number| {
            let method = black_box(Method::of(number)).value();
            metrics::counter!("calls_total", "method" => method).increment(1);
        })
    })
}

fn our_histogram() -> f64 {
    let exporter = exporter();
    let wait = metrics::with_local_recorder(&exporter, || WAIT.handle());
    timed(OPERATIONS, |number| wait.record(black_box(value(number))))
}

fn facade_counter() -> f64 {
    let recorder = PrometheusBuilder::new().build_recorder();
    let hits = metrics::with_local_recorder(&recorder, || metrics::counter!("hits_total"));
    timed(OPERATIONS, |_| hits.increment(black_box(1)))
}

/// Its samples wait for a scrape or its upkeep: both are counted in, as a process pays for both.
fn facade_histogram() -> f64 {
    let builder = PrometheusBuilder::new().set_buckets(LATENCY).unwrap();
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    let wait = metrics::with_local_recorder(&recorder, || metrics::histogram!("wait_seconds"));
    timed(OPERATIONS, |number| {
        wait.record(black_box(value(number)));
        if number % 1_000_000 == 999_999 {
            handle.run_upkeep();
        }
    })
}

fn client_counter() -> f64 {
    let hits: counter::Counter = counter::Counter::default();
    timed(OPERATIONS, |_| {
        hits.inc_by(black_box(1));
    })
}

fn client_histogram() -> f64 {
    let wait = histogram::Histogram::new(LATENCY.iter().copied());
    timed(OPERATIONS, |number| wait.observe(black_box(value(number))))
}

/// Returns the names of `count` values.
fn names(count: usize) -> &'static [&'static str] {
    let names: Vec<&'static str> =
        (0..count).map(|number| &*Box::leak(format!("value_{number}").into_boxed_str())).collect();
    names.leak()
}

const SETS: [(&str, usize); 3] = [("a", 25), ("b", 20), ("c", 20)];

fn our_page() -> impl Fn() -> f64 {
    let labels: Vec<LabelSet> =
        SETS.iter().map(|(name, count)| LabelSet { name, values: names(*count) }).collect();
    let pages = Declaration {
        name: "infra_bench_pages_total",
        kind: Kind::Counter,
        unit: "",
        help: "Pages.",
        labels: labels.leak(),
    };
    assert_eq!(pages.series(), 10_000);
    let exporter = Exporter::new(&[pages]);
    move || timed(PAGES, |_| drop(black_box(exporter.render()))) / 1e6
}

/// Returns every combination of the label values.
fn series() -> Vec<[(String, String); 3]> {
    let pair = |set: usize, number: usize| (SETS[set].0.to_owned(), format!("value_{number}"));
    let all = (0..SETS[0].1).flat_map(move |a| {
        (0..SETS[1].1)
            .flat_map(move |b| (0..SETS[2].1).map(move |c| [pair(0, a), pair(1, b), pair(2, c)]))
    });
    all.collect()
}

fn facade_page() -> impl Fn() -> f64 {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        for labels in series() {
            metrics::counter!("pages_total", &labels).increment(1);
        }
    });
    let handle = recorder.handle();
    move || timed(PAGES, |_| drop(black_box(handle.render()))) / 1e6
}

fn client_page() -> impl Fn() -> f64 {
    let pages = Family::<Vec<(String, String)>, counter::Counter>::default();
    for labels in series() {
        pages.get_or_create(&labels.to_vec()).inc();
    }
    let mut registry = Registry::default();
    registry.register("pages", "Pages.", pages);
    move || {
        timed(PAGES, |_| {
            let mut page = String::new();
            encode(&mut page, &registry).unwrap();
            drop(black_box(page));
        }) / 1e6
    }
}

fn line(number: u32) {
    tracing::info!(number, kind = "played", seat = 2, "an action was played");
}

fn our_lines() -> f64 {
    let subscriber = log::subscriber("info", SystemClock::shared(), io::sink).unwrap();
    tracing::subscriber::with_default(subscriber, || timed(LINES, line))
}

fn json_lines() -> f64 {
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter("info")
        .with_writer(io::sink)
        .finish();
    tracing::subscriber::with_default(subscriber, || timed(LINES, line))
}

fn allocations() -> f64 {
    let exporter = exporter();
    let handles = metrics::with_local_recorder(&exporter, || (HITS.handle(), WAIT.handle()));
    let region = Region::new(ALLOCATOR);
    for number in 0..OPERATIONS {
        handles.0.increment(1);
        handles.1.record(value(number));
    }
    region.change().allocations as f64 / f64::from(OPERATIONS)
}

/// Returns by how much the memory in use grows over many observations that nobody scrapes.
fn growth() -> f64 {
    let exporter = exporter();
    let wait = metrics::with_local_recorder(&exporter, || WAIT.handle());
    let region = Region::new(ALLOCATOR);
    (0..MANY).for_each(|number| wait.record(value(number)));
    let change = region.change();
    (change.bytes_allocated as f64 - change.bytes_deallocated as f64) / 1_024.0
}
