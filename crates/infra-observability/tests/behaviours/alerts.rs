//! Alerts over the exporter's figures.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use infra_core::{
    lifecycle::Shutdown,
    metric::{Counter, Label, LabelSet},
};
use infra_observability::{
    alert::{Alerts, Bound, Measure, Notice, Rule, Severity},
    exporter::Exporter,
};

use crate::support::clock;

#[derive(Debug, Clone, Copy)]
enum Fate {
    Ok,
    Failed,
}

impl Label for Fate {
    const SET: LabelSet = LabelSet { name: "fate", values: &["ok", "failed"] };

    fn value(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

const CALLS: Counter<Fate> = Counter::labelled("infra_t_calls_total", "Calls.");

fn rate() -> Rule {
    let message = |value: f64| format!("error rate is {:.1}%", value * 100.0);
    Rule::new("error_rate", Severity::Warning, Bound::Above(0.1), message)
}

#[test]
fn an_alert_is_told_once_resolves_while_it_cools_and_is_remembered() {
    let (hands, time) = clock();
    let alerts = Alerts::new(time);
    alerts.add(rate()).unwrap();
    assert!(alerts.add(rate()).is_err(), "a name stands for one rule");
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = told.clone();
    alerts.handler(move |notice: &Notice| hear.lock().unwrap().push(notice.clone())).unwrap();

    assert_eq!(alerts.evaluate("error_rate", 0.1), None, "the bound itself is good");
    let Some(Notice::Raised(alert)) = alerts.evaluate("error_rate", 0.15) else { panic!() };
    assert_eq!(
        (alert.severity, alert.message.as_str()),
        (Severity::Warning, "error rate is 15.0%")
    );
    assert_eq!(alerts.evaluate("error_rate", 0.2), None, "it is raised already");
    assert_eq!(alerts.active().len(), 1);
    hands.advance(Duration::from_mins(1));
    assert!(matches!(alerts.evaluate("error_rate", 0.0), Some(Notice::Resolved(_))));
    assert_eq!((alerts.active().len(), alerts.history().len()), (0, 1));
    assert_eq!(alerts.evaluate("error_rate", 0.9), None, "it cools");
    hands.advance(Duration::from_mins(4));
    assert!(matches!(alerts.evaluate("error_rate", 0.9), Some(Notice::Raised(_))));
    assert_eq!(told.lock().unwrap().len(), 3);
    assert_eq!(alerts.evaluate("unknown", 1.0), None);
}

#[tokio::test(start_paused = true)]
async fn rules_follow_figures_of_the_exporter() {
    let clock = infra_core::SystemClock::shared();
    let exporter = Exporter::new(&[CALLS.declaration()]);
    let alerts = Alerts::new(clock);
    let share = Measure::Share { metric: "infra_t_calls_total", of: "failed" };
    alerts.watch(rate(), share).unwrap();
    let busy = Rule::new("busy", Severity::Info, Bound::Above(2.0), |_| "busy".to_owned());
    alerts.watch(busy, Measure::PerSecond("infra_t_calls_total")).unwrap();
    let many = Rule::new("many", Severity::Critical, Bound::Above(50.0), |_| "many".to_owned());
    alerts.watch(many, Measure::Level("infra_t_calls_total")).unwrap();
    let shutdown = Shutdown::new();
    let (watching, pages) = (alerts.clone(), exporter.clone());
    let stop = shutdown.stop();
    shutdown.spawn(watching.run(pages, Duration::from_secs(10), stop));
    tokio::time::sleep(Duration::from_secs(1)).await;
    metrics::with_local_recorder(&exporter, || {
        CALLS.add_for(Fate::Ok, 80);
        CALLS.add_for(Fate::Failed, 20);
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    let names: Vec<&str> = alerts.active().iter().map(|alert| alert.rule).collect();
    assert_eq!(names, ["many", "error_rate", "busy"], "worst first");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let names: Vec<&str> = alerts.active().iter().map(|alert| alert.rule).collect();
    assert_eq!(names, ["many"], "nothing was called any more");
    assert_eq!(shutdown.close(Duration::from_secs(1)).await.finished, 1);
}

#[test]
fn rules_and_handlers_and_history_are_bounded() {
    const NAMES: [&str; 2] = ["a", "b"];
    let (hands, time) = clock();
    let alerts = Alerts::new(time);
    let added = (0..20).filter(|_| alerts.handler(|_: &Notice| {}).is_ok()).count();
    assert_eq!(added, 16);
    for name in NAMES {
        let rule = Rule::new(name, Severity::Info, Bound::Below(1.0), |_| String::new());
        alerts.add(rule.cooldown(Duration::ZERO)).unwrap();
    }
    for _ in 0..300 {
        hands.advance(Duration::from_secs(1));
        assert!(alerts.evaluate("a", 0.0).is_some() && alerts.evaluate("a", 2.0).is_some());
    }
    assert_eq!(alerts.history().len(), 256);
    assert_eq!(format!("{alerts:?}"), "Alerts { rules: 2, .. }");
}
