//! What an operator sees of the server's inside: health with ages, games, the picture of all rooms,
//! queues, limits, breakers, the archive, alerts, and what the telemetry does itself.

use infra_core::health::HealthReport;
use infra_observability::{
    alert::Alert,
    diagram::View,
    game::{Analytics, Hour},
    health::Readiness,
    live::{Dump, Stats},
};
use serde::Serialize;

use super::{inside::Inside, overview::Observatory};

/// The hours of games that are told.
const HOURS: u64 = 24;

/// The alerts that are over and told.
const PAST: usize = 20;

/// The answer to `GET /api/observed`.
#[derive(Debug, Serialize)]
pub(super) struct Observed {
    /// Why the server takes no new work; none if it does.
    unready: Option<String>,
    health: HealthReport,
    games: Analytics,
    hours: Vec<Hour>,
    #[serde(flatten)]
    inside: Inside,
    /// All rooms in memory, on the machine of one.
    diagram: View,
    alerts: Vec<Told>,
    past_alerts: Vec<Told>,
    stream: Stats,
    dumps: Vec<Dump>,
}

/// An alert, and how long ago it was raised and over.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    alert: Alert,
    raised_ms_ago: u64,
    over_ms_ago: Option<u64>,
}

impl Observatory {
    /// Tells the inside.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub(super) async fn observed(&self) -> Observed {
        let samples = self.exporter.samples();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let there_are = (count(self.registry.summaries().len()), count(self.hub.count()));
        let inside = self.bounds.inside(&samples, there_are).await;
        let unready = match self.monitor.readiness() {
            Readiness::Ready => None,
            Readiness::Unready(why) => Some(why),
        };
        let telemetry = &self.telemetry;
        Observed {
            unready,
            health: self.monitor.report(),
            games: telemetry.games().analytics(),
            hours: telemetry.games().hours(HOURS),
            inside,
            diagram: telemetry.diagram().view(),
            alerts: self.told(self.alerts.active()),
            past_alerts: self.told(self.alerts.history().into_iter().take(PAST)),
            stream: telemetry.stream().stats(),
            dumps: telemetry.flights().dumps(),
        }
    }

    fn told(&self, alerts: impl IntoIterator<Item = Alert>) -> Vec<Told> {
        let now = self.clock.now();
        let ago = |at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        let told = |alert: Alert| Told {
            raised_ms_ago: ago(alert.raised),
            over_ms_ago: alert.resolved.map(ago),
            alert,
        };
        alerts.into_iter().map(told).collect()
    }
}
