//! Counters, gauges, histograms, labels, and the pages that strict parsers read.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use infra_core::{
    context::Context,
    metric::{Counter, Gauge, Histogram, Label, LabelSet},
    random::Random,
    trace::TraceContext,
};
use infra_observability::{
    collect::{Cgroup, Process},
    exporter::{Exporter, Format},
    game::{Actor, GameResult, Games, Options, Seats},
};
use proptest::prelude::*;

use crate::support::{Phase, clock, sample};

#[derive(Debug, Clone, Copy)]
enum Method {
    Get,
}

impl Label for Method {
    const SET: LabelSet = LabelSet { name: "method", values: &["GET", "POST"] };

    fn value(self) -> &'static str {
        match self {
            Self::Get => "GET",
        }
    }
}

const REQUESTS: Counter = Counter::new("infra_t_requests_total", "Requests.");
const CALLS: Counter<Method> = Counter::labelled("infra_t_calls_total", "Calls.");
const LEVEL: Gauge = Gauge::new("infra_t_level", "", "Level.");
const WAIT: Histogram =
    Histogram::new("infra_t_wait_seconds", "seconds", "Wait.", &[0.1, 0.2, 0.5, 1.0]);

fn exporter() -> Exporter {
    let declared =
        [REQUESTS.declaration(), CALLS.declaration(), LEVEL.declaration(), WAIT.declaration()];
    Exporter::builder().metrics(&declared).constant("env", "te\"st\n").build()
}

const ENV: &str = "env=\"te\\\"st\\n\"";

#[test]
fn a_counter_is_the_sum_over_all_threads_and_ends_in_total() {
    let exporter = exporter();
    std::thread::scope(|scope| {
        for thread in 1..=8_u64 {
            let exporter = exporter.clone();
            scope.spawn(move || {
                metrics::with_local_recorder(&exporter, || {
                    (0..1_000).for_each(|_| REQUESTS.add(thread));
                });
            });
        }
    });
    let series = format!("infra_t_requests_total{{{ENV}}}");
    assert_eq!(sample(&exporter, &series), Some(36_000.0));
}

proptest! {
    #[test]
    fn a_gauge_follows_its_model(steps in proptest::collection::vec((any::<bool>(), -100_i32..100), 0..30)) {
        let exporter = exporter();
        let mut model = 0.0;
        metrics::with_local_recorder(&exporter, || {
            for (is_set, value) in steps {
                let value = f64::from(value);
                if is_set {
                    LEVEL.set(value);
                    model = value;
                } else {
                    LEVEL.add(value);
                    model += value;
                }
            }
        });
        prop_assert_eq!(sample(&exporter, &format!("infra_t_level{{{ENV}}}")), Some(model));
    }

    #[test]
    fn a_histogram_counts_cumulatively_and_sums(values in proptest::collection::vec(0_u32..2_000, 0..60)) {
        let exporter = exporter();
        metrics::with_local_recorder(&exporter, || {
            values.iter().for_each(|value| WAIT.record(f64::from(*value) / 1_000.0));
        });
        for (text, bound) in [("0.1", 100), ("0.2", 200), ("0.5", 500), ("1", 1_000)] {
            let series = format!("infra_t_wait_seconds_bucket{{{ENV},le=\"{text}\"}}");
            let below = values.iter().filter(|value| **value <= bound).count();
            prop_assert_eq!(sample(&exporter, &series), Some(below as f64));
        }
        let sum = sample(&exporter, &format!("infra_t_wait_seconds_sum{{{ENV}}}")).unwrap();
        prop_assert!((sum - f64::from(values.iter().sum::<u32>()) / 1_000.0).abs() < 1e-6);
        let count = sample(&exporter, &format!("infra_t_wait_seconds_count{{{ENV}}}"));
        prop_assert_eq!(count, Some(values.len() as f64));
    }
}

#[test]
fn every_series_has_the_constant_labels_escaped_and_only_declared_values() {
    let exporter = exporter();
    metrics::with_local_recorder(&exporter, || {
        CALLS.add_for(Method::Get, 1);
        for forged in 0..1_000 {
            metrics::counter!("infra_t_calls_total", "method" => forged.to_string()).increment(1);
        }
    });
    let page = exporter.render();
    let series: Vec<&str> =
        page.lines().filter(|line| line.starts_with("infra_t_calls_total{")).collect();
    let wanted = [("GET", 1), ("POST", 0), ("__overflow__", 1_000)];
    let wanted =
        wanted.map(|(method, n)| format!("infra_t_calls_total{{{ENV},method=\"{method}\"}} {n}"));
    assert_eq!(series, wanted);
}

#[test]
fn an_exemplar_links_a_bucket_to_the_trace_of_its_last_value() {
    let exporter = exporter();
    let trace = TraceContext::root(&Random::seeded(5), true);
    metrics::with_local_recorder(&exporter, || {
        Context::default().trace(trace).sync_scope(|| WAIT.record(0.15));
    });
    let page = exporter.render_as(Format::OpenMetrics);
    let line = page.lines().find(|line| line.contains("le=\"0.2\"")).unwrap();
    assert!(line.contains(&format!("trace_id=\"{:032x}\"", trace.trace_id())), "{line}");
    assert!(line.ends_with("} 0.15"), "{line}");
    assert!(!exporter.render().contains("trace_id"), "the old format has no exemplars");
}

/// Runs promtool on a page; Debian's package `prometheus` has it.
fn promtool(page: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool must be installed: apt-get install prometheus");
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn promtool_finds_nothing_to_say_of_games_process_and_own_metrics() {
    let (_, time) = clock();
    let exporter = Exporter::builder()
        .metrics(&Games::<Phase>::declarations())
        .metrics(&infra_observability::declarations())
        .collector(Process::default())
        .collector(Cgroup::default())
        .build();
    metrics::with_local_recorder(&exporter, || {
        let games = Games::<Phase>::new(Options::default(), time);
        games.start("g", Seats { people: 3, bots: 1 });
        games.end("g", GameResult::Completed(Some(Actor::Bot)));
    });
    let (is_good, said) = promtool(&exporter.render());
    assert!(is_good && said.is_empty(), "{said}");
    let (is_good, _) = promtool("not a metric at all {");
    assert!(!is_good, "the parser is a strict one");
}

#[test]
fn games_have_exact_sample_lines_with_escaped_labels() {
    let (_, time) = clock();
    let exporter =
        Exporter::builder().metrics(&Games::<Phase>::declarations()).constant("q", "\"").build();
    metrics::with_local_recorder(&exporter, || {
        let games = Games::<Phase>::new(Options::default(), time);
        for game in ["a", "b", "c"] {
            games.start(game, Seats { people: 3, bots: 1 });
        }
        games.end("a", GameResult::Completed(Some(Actor::Person)));
        games.end("b", GameResult::Abandoned);
    });
    let page = exporter.render();
    for line in [
        "infra_game_started_total{q=\"\\\"\"} 3",
        "infra_game_active_games{q=\"\\\"\"} 1",
        "infra_game_ended_total{q=\"\\\"\",ending=\"completed\"} 1",
        "infra_game_ended_total{q=\"\\\"\",ending=\"abandoned\"} 1",
        "infra_game_wins_total{q=\"\\\"\",actor=\"person\"} 1",
        "infra_game_seats_total{q=\"\\\"\",actor=\"bot\"} 1",
    ] {
        assert!(page.lines().any(|is| is == line), "{line} is not in\n{page}");
    }
}

#[test]
fn two_exporters_share_nothing_and_the_first_scrape_names_service_and_build() {
    let build = |service| {
        Exporter::builder()
            .metrics(&[REQUESTS.declaration()])
            .constant("service", service)
            .constant("version", env!("CARGO_PKG_VERSION"))
            .build()
    };
    let (one, two) = (build("one"), build("two"));
    metrics::with_local_recorder(&one, || REQUESTS.add(5));
    let version = env!("CARGO_PKG_VERSION");
    let series =
        |name| format!("infra_t_requests_total{{service=\"{name}\",version=\"{version}\"}}");
    assert_eq!(sample(&one, &series("one")), Some(5.0));
    assert_eq!(sample(&two, &series("two")), Some(0.0));
}
