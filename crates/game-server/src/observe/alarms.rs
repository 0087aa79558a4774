//! Alerts within the process, for those who run no Prometheus: the worst of those that it would
//! raise, under the same names.

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, Result};
use infra_observability::alert::{
    Alerts, Bound,
    Measure::{self, Level, PerSecond, Share},
    Notice, Rule,
    Severity::{Critical, Error, Warning},
};
use infra_observability::live::Draft;
use serde_json::json;

use super::stage::RoomTelemetry;

/// The rules: name, how bad, bound, seconds, what is measured, and what is said.
fn rules() -> [(Rule, Measure); 8] {
    let minutes = Duration::from_mins;
    [
        (
            Rule::new("ServerNotReady", Critical, Bound::Below(1.0), |_| {
                "the server takes no new work".to_owned()
            })
            .lasting(minutes(1)),
            Level("infra_health_ready"),
        ),
        (
            Rule::new("ChecksFailing", Warning, Bound::Above(0.0), |count| {
                format!("{count} health checks are down")
            })
            .lasting(minutes(2)),
            Level("infra_health_failing_checks"),
        ),
        (
            Rule::new("EventStorePoisoned", Critical, Bound::Above(0.0), |_| {
                "the event store takes nothing more, since a write or sync has failed".to_owned()
            }),
            Level("infra_events_poisoned"),
        ),
        (
            Rule::new("DocumentStorePoisoned", Critical, Bound::Above(0.0), |_| {
                "the document store takes nothing more, since a write or sync has failed".to_owned()
            }),
            Level("infra_persistence_poisoned"),
        ),
        (
            Rule::new("AppendsFailing", Error, Bound::Above(0.0), |share| {
                format!("{:.1} % of the appends fail", share * 100.0)
            }),
            Share { metric: "infra_events_appends_total", of: "failed" },
        ),
        (
            Rule::new("HandlerPanics", Error, Bound::Above(0.0), |rate| {
                format!("{rate:.2} messages a second panic in their handler")
            }),
            PerSecond("infra_ws_handler_panics_total"),
        ),
        (
            Rule::new("MemoryHigh", Warning, Bound::Above(1_048_576_000.0), |bytes| {
                format!("{:.0} MiB are held in memory", bytes / 1_048_576.0)
            })
            .lasting(minutes(5)),
            Level("process_resident_memory_bytes"),
        ),
        (
            Rule::new("LogLinesLost", Warning, Bound::Above(0.0), |share| {
                format!("{:.1} % of the lines of the log are lost", share * 100.0)
            }),
            Share { metric: "infra_observability_log_lines_total", of: "dropped" },
        ),
    ]
}

/// Creates the alerts; what they raise also goes to the live stream.
pub(crate) fn alarms(clock: Arc<dyn Clock>, telemetry: &RoomTelemetry) -> Result<Alerts> {
    let alerts = Alerts::new(clock);
    for (rule, measure) in rules() {
        alerts.watch(rule, measure)?;
    }
    let stream = telemetry.stream().clone();
    alerts.handler(move |notice: &Notice| {
        let (kind, alert) = match notice {
            Notice::Raised(alert) => ("alert.raised", alert),
            Notice::Resolved(alert) => ("alert.over", alert),
        };
        let data = json!({"rule": alert.rule, "severity": alert.severity, "says": alert.message});
        stream.publish(Draft::new(kind).data(data));
    })?;
    Ok(alerts)
}

#[cfg(test)]
mod tests {
    use infra_observability::{exporter::Exporter, live::Filter, telemetry::Options};
    use infra_testkit::clock::ManualClock;

    use super::*;
    use crate::{generate::ALERTS, observe::ROOM, server::declarations};

    #[test]
    fn each_is_one_of_those_for_prometheus_and_measures_what_is_declared() {
        let declared = crate::declarations();
        for (rule, measure) in rules() {
            assert!(ALERTS.iter().any(|alert| alert.name == rule.name()), "{}", rule.name());
            let (Level(metric) | PerSecond(metric) | Share { metric, .. }) = measure;
            let found = declared.iter().find(|declared| declared.name == metric);
            let found = found.unwrap_or_else(|| panic!("{metric} is not declared"));
            if let Share { of, .. } = measure {
                assert!(found.labels.iter().any(|set| set.values.contains(&of)), "{of}");
            }
        }
    }

    #[test]
    fn what_is_raised_goes_to_the_live_stream() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        let telemetry = RoomTelemetry::new("test", ROOM, Options::default(), Arc::clone(&clock));
        let alerts = alarms(clock, &telemetry).unwrap();
        let exporter = Exporter::new(&declarations());
        alerts.look(&exporter);
        metrics::with_local_recorder(&exporter, || {
            metrics::gauge!("infra_events_poisoned").set(1.0);
        });
        alerts.look(&exporter);
        assert_eq!(alerts.active()[0].rule, "EventStorePoisoned");
        let told = telemetry.stream().history(&Filter::default(), 0, 9);
        assert_eq!(told.last().unwrap().kind, "alert.raised");
    }
}
