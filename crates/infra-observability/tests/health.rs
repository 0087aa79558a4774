//! The monitor on paused time, with checks that hang, fail and recover.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::clone_on_ref_ptr,
    reason = "a panic is how a test fails"
)]
#![allow(clippy::allow_attributes, reason = "the line above covers helpers that may have none")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    SystemClock,
    health::{Finding, HealthCheck, Status},
    lifecycle::Shutdown,
};
use infra_observability::health::{Monitor, Options, Readiness};

/// Up at 0, down at 1, hanging at 2.
#[derive(Debug)]
struct Part(&'static str, AtomicU8);

#[async_trait]
impl HealthCheck for Part {
    fn name(&self) -> &'static str {
        self.0
    }

    async fn check(&self) -> Finding {
        match self.1.load(Ordering::SeqCst) {
            0 => Finding::up(),
            1 => Finding::down("broken"),
            _ => std::future::pending().await,
        }
    }
}

fn part(name: &'static str, mode: u8) -> Arc<Part> {
    Arc::new(Part(name, AtomicU8::new(mode)))
}

#[tokio::test(start_paused = true)]
async fn hanging_and_failing_checks_are_reported_with_ages_and_hold_up_nobody() {
    let clock = SystemClock::shared();
    let shutdown = Shutdown::new();
    let (good, bad, slow) = (part("good", 0), part("bad", 1), part("slow", 2));
    let checks: Vec<Arc<dyn HealthCheck>> = vec![good, bad.clone(), slow.clone()];
    let monitor = Monitor::start(Options::default(), clock, checks, &shutdown);
    assert_eq!(monitor.report().status, Status::Down, "nothing was looked at yet");

    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let report = monitor.report();
    let details: Vec<&str> = report.checks.iter().map(|c| c.finding.detail.as_str()).collect();
    assert_eq!(details, ["", "broken", "no answer within 1000 ms"]);
    assert_eq!(report.checks[0].age, Duration::from_millis(1_500));
    assert_eq!(report.checks[2].duration, Duration::from_secs(1));
    assert_eq!(monitor.readiness(), Readiness::Unready("bad: broken".to_owned()));

    bad.1.store(0, Ordering::SeqCst);
    slow.1.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(monitor.readiness(), Readiness::Ready);
    monitor.drain();
    assert_eq!(monitor.readiness(), Readiness::Unready("draining".to_owned()));
    assert_eq!(shutdown.close(Duration::from_secs(1)).await.finished, 3);
}
