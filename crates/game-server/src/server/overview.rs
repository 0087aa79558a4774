//! The state of the whole server in numbers, from what the exporter counts.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use infra_core::{Clock, clock::Instant, lifecycle::Stop};
use infra_observability::{
    alert::Alerts,
    exporter::{Exporter, Sample, Value},
    health::Monitor,
    log::Levels,
};
use infra_ws::Hub;
use parking_lot::Mutex;

use super::inside::Bounds;
use crate::{
    domain::Status,
    observe::RoomTelemetry,
    protocol::admin::{
        Bucket, ConnectionCounts, Histogram, Overview, PlayerCounts, Quantiles, RATE_SECONDS, Rate,
        RoomCounts,
    },
    rooms::Registry,
};

/// What is shown as a rate: its words, its metric, and the label value that counts.
const RATES: [(&str, &str, Option<&str>); 4] = [
    ("actions", "infra_game_actions_total", Some("done")),
    ("events", "infra_events_events_total", None),
    ("messages received", "infra_ws_received_total", None),
    ("messages sent", "infra_ws_sent_total", None),
];

/// What is shown as a histogram: its words, its metric, and the label value that counts.
const HISTOGRAMS: [(&str, &str, Option<&str>); 5] = [
    ("durable append of a room", "infra_game_append_seconds", None),
    ("broadcast to a room", "infra_game_broadcast_seconds", None),
    ("action of a person", "infra_game_action_seconds", Some("person")),
    ("group commit of the event log", "infra_events_commit_seconds", None),
    ("group commit of documents", "infra_persistence_commit_seconds", None),
];

/// Watches the counters and describes the server.
#[derive(Debug)]
pub(super) struct Observatory {
    pub(super) exporter: Exporter,
    pub(super) telemetry: RoomTelemetry,
    pub(super) alerts: Alerts,
    pub(super) levels: Option<Levels>,
    pub(super) registry: Arc<Registry>,
    pub(super) hub: Arc<Hub>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) bounds: Bounds,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started: Instant,
    /// For each rate the last total and the last seconds.
    pub(super) seconds: Mutex<BTreeMap<&'static str, Seconds>>,
}

/// A counter over the last seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Seconds {
    total: u64,
    per_second: VecDeque<u32>,
}

impl Seconds {
    fn tick(&mut self, total: u64) {
        let count = u32::try_from(total.saturating_sub(self.total)).unwrap_or(u32::MAX);
        self.total = total;
        self.per_second.push_back(count);
        if RATE_SECONDS < self.per_second.len() {
            self.per_second.pop_front();
        }
    }
}

impl Observatory {
    /// Samples the rates each second until the service stops.
    pub(super) async fn run(&self, stop: Stop) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.requested() => return,
            }
            let samples = self.exporter.samples();
            let mut seconds = self.seconds.lock();
            for (name, metric, series) in RATES {
                seconds.entry(name).or_default().tick(count(&samples, metric, series));
            }
        }
    }

    pub(super) fn overview(&self) -> Overview {
        let now = self.clock.now();
        let samples = self.exporter.samples();
        let summaries = self.registry.summaries();
        let mut rooms = RoomCounts::default();
        let mut players = PlayerCounts::default();
        for summary in &summaries {
            *match summary.lobby.status {
                Status::Waiting => &mut rooms.waiting,
                Status::Ready => &mut rooms.ready,
                Status::InGame => &mut rooms.in_game,
                Status::Completed => &mut rooms.completed,
                Status::Abandoned => &mut rooms.abandoned,
            } += 1;
            players.people += u32::from(summary.lobby.people);
            players.connected += u32::from(summary.connected);
            players.bots += u32::from(summary.lobby.bots);
            players.spectators += summary.spectators;
        }
        let open = u32::try_from(self.hub.count()).unwrap_or(u32::MAX);
        let ended = total(&samples, "infra_ws_closed_total");
        Overview {
            server: concat!("game-server ", env!("CARGO_PKG_VERSION")).to_owned(),
            now_ms: self.clock.wall().as_millis(),
            uptime_ms: u64::try_from(now.since(self.started).as_millis()).unwrap_or(u64::MAX),
            ready: self.monitor.readiness().is_ready(),
            rooms,
            players,
            connections: ConnectionCounts {
                open,
                accepted: ended + u64::from(open),
                refused: total(&samples, "infra_ws_refused_total"),
                resumed: total(&samples, "infra_game_resumed_total"),
            },
            rates: self.rates(&samples),
            histograms: HISTOGRAMS
                .into_iter()
                .filter_map(|(name, metric, of)| histogram(name, &samples, metric, of))
                .collect(),
        }
    }

    fn rates(&self, samples: &[Sample]) -> Vec<Rate> {
        let seconds = self.seconds.lock();
        let rate = |(name, metric, series): (&'static str, &str, Option<&str>)| Rate {
            name: name.to_owned(),
            total: count(samples, metric, series),
            per_second: seconds
                .get(name)
                .map(|seconds| seconds.per_second.iter().copied().collect())
                .unwrap_or_default(),
        };
        RATES.into_iter().map(rate).collect()
    }
}

fn count(samples: &[Sample], metric: &str, series: Option<&str>) -> u64 {
    let is_it = |sample: &&Sample| {
        sample.metric.name == metric && series.is_none_or(|value| sample.series.has(value))
    };
    samples.iter().filter(is_it).map(value).sum()
}

fn total(samples: &[Sample], metric: &str) -> u64 {
    samples.iter().filter(|sample| sample.metric.name == metric).map(value).sum()
}

const fn value(sample: &Sample) -> u64 {
    match sample.value {
        Value::Count(count) => count,
        Value::Level(_) | Value::Distribution { .. } => 0,
    }
}

fn histogram(name: &str, samples: &[Sample], metric: &str, of: Option<&str>) -> Option<Histogram> {
    let is_it = |sample: &&Sample| {
        sample.metric.name == metric && of.is_none_or(|value| sample.series.has(value))
    };
    let mut all: Option<(&[f64], Vec<u64>)> = None;
    for sample in samples.iter().filter(is_it) {
        let Value::Distribution { bounds, cumulated, .. } = &sample.value else { continue };
        match &mut all {
            None => all = Some((bounds, cumulated.clone())),
            Some((_, sums)) => sums.iter_mut().zip(cumulated).for_each(|(sum, one)| *sum += one),
        }
    }
    let (bounds, cumulated) = all?;
    let bounds: Vec<Option<f64>> =
        bounds.iter().map(|bound| Some(bound * 1_000.0)).chain([None]).collect();
    let mut before = 0;
    let buckets: Vec<Bucket> = bounds
        .into_iter()
        .zip(cumulated)
        .map(|(at_most_ms, upto)| {
            let count = upto - before;
            before = upto;
            Bucket { at_most_ms, count }
        })
        .collect();
    let quantiles = (0 < before).then(|| Quantiles {
        p50_ms: quantile(&buckets, before, 0.50),
        p95_ms: quantile(&buckets, before, 0.95),
        p99_ms: quantile(&buckets, before, 0.99),
    });
    Some(Histogram { name: name.to_owned(), count: before, buckets, quantiles })
}

/// Estimates a quantile by a straight line within its bucket, as Prometheus does.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn quantile(buckets: &[Bucket], count: u64, share: f64) -> f64 {
    let rank = share * count as f64;
    let (mut seen, mut low) = (0.0, 0.0);
    for bucket in buckets {
        let here = bucket.count as f64;
        let Some(high) = bucket.at_most_ms else { return low };
        if rank <= seen + here && 0.0 < here {
            return low + (high - low) * (rank - seen) / here;
        }
        seen += here;
        low = high;
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_rank() {
        let bucket = |at_most_ms, count| Bucket { at_most_ms, count };
        let buckets = [bucket(Some(1.0), 50), bucket(Some(2.0), 50), bucket(None, 0)];
        assert!((quantile(&buckets, 100, 0.5) - 1.0).abs() < 1e-9);
        assert!((quantile(&buckets, 100, 0.75) - 1.5).abs() < 1e-9);
        assert!((quantile(&[bucket(Some(1.0), 0), bucket(None, 9)], 9, 0.99) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_rate_keeps_a_minute() {
        let mut seconds = Seconds::default();
        (1..=100).for_each(|second| seconds.tick(second * 3));
        assert_eq!(seconds.per_second.len(), RATE_SECONDS);
        assert!(seconds.per_second.iter().all(|count| *count == 3));
    }
}
