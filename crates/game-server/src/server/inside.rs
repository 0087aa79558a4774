//! What the server stands on and what it holds off: queues, limits, breakers, the archive.

use std::time::Duration;

use infra_core::{Result, health::HealthCheck, metric::Label as _, queue::Stats};
use infra_observability::exporter::{Sample, Value};
use serde::Serialize;

use super::tasks::Tasks;
use crate::{config::Settings, telemetry::Store};

/// How long a queue on a server of its own may take to say what it holds.
const PATIENCE: Duration = Duration::from_secs(1);

/// A figure: its words, its metric, and the label value that counts.
type Shown = (&'static str, &'static str, Option<&'static str>);

const LIMITS: [Shown; 8] = [
    ("requests refused", "infra_game_throttled_total", None),
    ("decisions that admitted", "infra_ratelimit_decisions_total", Some("admitted")),
    ("decisions that refused", "infra_ratelimit_decisions_total", Some("refused")),
    ("charges near their limit", "infra_ratelimit_signs_total", Some("near")),
    ("callers remembered", "infra_ratelimit_keys", None),
    ("connections refused", "infra_ws_refused_total", Some("limit")),
    ("messages not passed on", "infra_ws_rejected_messages_total", Some("limited")),
    ("times the shared limiter was lost", "infra_ratelimit_store_outages_total", None),
];

const CALLS: [Shown; 4] = [
    ("times a breaker opened", "infra_resilience_breaker_transitions_total", Some("open")),
    ("calls refused by an open breaker", "infra_resilience_refused_total", Some("breaker_open")),
    ("calls given up at their deadline", "infra_resilience_timeouts_total", None),
    ("attempts after the first", "infra_resilience_retries_total", None),
];

const ARCHIVE: [Shown; 2] = [
    ("games archived", "infra_game_archived_total", None),
    ("bytes of them, as JSON", "infra_game_archived_bytes_total", None),
];

/// The queues, and what the server takes at most.
#[derive(Debug)]
pub(super) struct Bounds {
    queues: [Tasks; 2],
    rooms: u32,
    connections: u32,
}

/// What is told, part by part; figures are of this process, since its start.
#[derive(Debug, Serialize)]
pub(super) struct Inside {
    queues: Vec<Depth>,
    limits: Vec<Figure>,
    breakers: Vec<Breaker>,
    calls: Vec<Figure>,
    archive: Vec<Figure>,
}

/// What a queue of tasks holds.
#[derive(Debug, Serialize)]
struct Depth {
    name: &'static str,
    /// How many tasks it takes.
    at_most: usize,
    /// None if the queue does not say it.
    holds: Option<Held>,
    problem: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Held {
    ready: u64,
    delayed: u64,
    in_hand: u64,
    dead: u64,
    /// For how long the oldest that is ready has waited.
    oldest_ms: u64,
}

#[derive(Debug, Serialize)]
struct Breaker {
    store: &'static str,
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    value: f64,
    at_most: Option<u32>,
}

impl Bounds {
    /// Creates them, of the queue of the archive and of that of cleaning up.
    pub(super) const fn new(queues: [Tasks; 2], settings: &Settings) -> Self {
        Self { queues, rooms: settings.rooms, connections: settings.connections }
    }

    /// Tells the parts, beside how many rooms and connections there are.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub(super) async fn inside(&self, samples: &[Sample], (rooms, open): (u32, u32)) -> Inside {
        let [archive, clean_up] = &self.queues;
        let (archive, clean_up) = tokio::join!(depth(archive), depth(clean_up));
        let bounded =
            [("rooms in memory", rooms, self.rooms), ("connections", open, self.connections)].map(
                |(name, value, most)| Figure { name, value: value.into(), at_most: Some(most) },
            );
        Inside {
            queues: vec![archive, clean_up],
            limits: bounded.into_iter().chain(figures(&LIMITS, samples)).collect(),
            breakers: breakers(samples).collect(),
            calls: figures(&CALLS, samples).collect(),
            archive: figures(&ARCHIVE, samples).collect(),
        }
    }
}

async fn depth(tasks: &Tasks) -> Depth {
    let queue = tasks.queue();
    let answer = tokio::time::timeout(PATIENCE, queue.stats()).await;
    let (holds, problem) = told(answer.ok());
    Depth { name: tasks.name(), at_most: tasks.capacity(), holds, problem }
}

/// Returns what a queue holds, or what is wrong with it; `None` is a queue that did not answer.
fn told(answer: Option<Result<Stats>>) -> (Option<Held>, Option<String>) {
    match answer {
        Some(Ok(Stats { ready, delayed, leased: in_hand, dead, oldest })) => {
            let oldest_ms = u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX);
            (Some(Held { ready, delayed, in_hand, dead, oldest_ms }), None)
        }
        Some(Err(error)) => (None, Some(error.to_string())),
        None => (None, Some("no answer".to_owned())),
    }
}

fn breakers(samples: &[Sample]) -> impl Iterator<Item = Breaker> {
    Store::SET.values.iter().map(|store| breaker(store, samples))
}

fn breaker(store: &'static str, samples: &[Sample]) -> Breaker {
    let level = sum(samples, "infra_game_store_breaker", Some(store));
    let state = match level {
        level if level < 0.5 => "closed",
        level if level < 1.5 => "half_open",
        _ => "open",
    };
    Breaker { store, state }
}

fn figures(shown: &'static [Shown], samples: &[Sample]) -> impl Iterator<Item = Figure> {
    shown.iter().map(|&(name, metric, series)| {
        let value = sum(samples, metric, series);
        Figure { name, value, at_most: None }
    })
}

#[expect(clippy::cast_precision_loss, reason = "JSON has no other numbers, nor has the page")]
fn sum(samples: &[Sample], metric: &str, series: Option<&str>) -> f64 {
    let is_it = |sample: &&Sample| {
        sample.metric.name == metric && series.is_none_or(|value| sample.series.has(value))
    };
    let value = |sample: &Sample| match sample.value {
        Value::Count(count) => count as f64,
        Value::Level(level) => level,
        Value::Distribution { .. } => 0.0,
    };
    samples.iter().filter(is_it).map(value).sum()
}

#[cfg(test)]
mod tests {
    use infra_core::{Error, ErrorKind};

    use super::*;
    use crate::telemetry::{STORE_BREAKER, THROTTLED};

    #[test]
    fn every_figure_is_of_a_metric_that_is_there() {
        let samples = crate::exporter().samples();
        let all = LIMITS.iter().chain(&CALLS).chain(&ARCHIVE);
        for (name, metric, series) in all {
            let is_there = samples.iter().any(|sample| {
                sample.metric.name == *metric && series.is_none_or(|value| sample.series.has(value))
            });
            assert!(is_there, "{name}: {metric} {series:?}");
        }
        for store in Store::SET.values {
            let is_it = |sample: &Sample| {
                sample.metric.name == "infra_game_store_breaker" && sample.series.has(store)
            };
            assert!(samples.iter().any(is_it), "{store}");
        }
    }

    #[test]
    fn a_queue_that_does_not_say_what_it_holds_is_told_with_its_problem() {
        let refused = Error::new(ErrorKind::Unavailable, "count messages");
        assert!(told(Some(Err(refused))).1.unwrap().contains("count messages"));
        assert_eq!(told(None), (None, Some("no answer".to_owned())));
        let stats = Stats { leased: 2, oldest: Duration::from_secs(3), ..Stats::default() };
        let held = Held { ready: 0, delayed: 0, in_hand: 2, dead: 0, oldest_ms: 3_000 };
        assert_eq!(told(Some(Ok(stats))), (Some(held), None));
    }

    #[test]
    fn a_breaker_is_told_by_its_state_and_a_figure_by_its_count() {
        let exporter = crate::exporter();
        metrics::with_local_recorder(&exporter, || {
            STORE_BREAKER.set_for(Store::Events, 2.0);
            STORE_BREAKER.set_for(Store::Bus, 1.0);
            THROTTLED.add(3);
        });
        let samples = exporter.samples();
        let states: Vec<&str> = breakers(&samples).map(|breaker| breaker.state).collect();
        assert_eq!(states, ["open", "closed", "closed", "half_open"]);
        let refused = figures(&LIMITS, &samples).next().unwrap();
        assert_eq!((refused.name, refused.value), ("requests refused", 3.0));
    }
}
