//! The monitor: runs each check on its own, on time, and keeps its last word.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock,
    clock::Instant,
    health::{CheckReport, Finding, HealthCheck, HealthReport},
    lifecycle::Shutdown,
};
use parking_lot::RwLock;

use super::state::Readiness;

/// How often checks run and how long one may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    interval: Duration,
    timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval: Duration::from_secs(2), timeout: Duration::from_secs(1) }
    }
}

impl Options {
    /// Sets the pause between two runs of a check; 2 s by default.
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how long a check may take before it counts as down; 1 s by default.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

#[derive(Debug)]
struct Word {
    finding: Finding,
    at: Instant,
    duration: Duration,
}

#[derive(Debug)]
struct Watched {
    check: Arc<dyn HealthCheck>,
    word: RwLock<Option<Word>>,
}

/// Watches checks in the background; asking it never waits for one of them.
///
/// A check that has not spoken yet counts as down, so a service is not ready before all its parts
/// were looked at once.
#[derive(Debug)]
pub struct Monitor {
    options: Options,
    clock: Arc<dyn Clock>,
    watched: Vec<Watched>,
    started: Instant,
    is_draining: AtomicBool,
}

impl Monitor {
    /// Starts to watch `checks`; the tasks belong to `shutdown`.
    pub fn start(
        options: Options,
        clock: Arc<dyn Clock>,
        checks: Vec<Arc<dyn HealthCheck>>,
        shutdown: &Shutdown,
    ) -> Arc<Self> {
        let watched =
            checks.into_iter().map(|check| Watched { check, word: RwLock::new(None) }).collect();
        let started = clock.now();
        let is_draining = AtomicBool::new(false);
        let monitor = Arc::new(Self { options, clock, watched, started, is_draining });
        for place in 0..monitor.watched.len() {
            let (monitor, stop) = (Arc::clone(&monitor), shutdown.stop());
            shutdown.spawn(async move {
                tokio::select! {
                    () = monitor.watch(place) => {}
                    () = stop.requested() => {}
                }
            });
        }
        monitor
    }

    /// Returns the last word of every check, with its age.
    pub fn report(&self) -> HealthReport {
        let now = self.clock.now();
        HealthReport::of(self.watched.iter().map(|watched| self.line(watched, now)).collect())
    }

    /// Returns whether the service takes new work.
    pub fn readiness(&self) -> Readiness {
        let patience = (self.options.interval + self.options.timeout) * 3;
        // Acquire pairs with the release in `drain`.
        Readiness::judge(&self.report(), self.is_draining.load(Ordering::Acquire), patience)
    }

    /// Says that the service is about to stop: from now on it is not ready.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    fn line(&self, watched: &Watched, now: Instant) -> CheckReport {
        let name = watched.check.name().to_owned();
        match &*watched.word.read() {
            Some(word) => CheckReport {
                name,
                finding: word.finding.clone(),
                age: now.since(word.at),
                duration: word.duration,
            },
            None => CheckReport {
                name,
                finding: Finding::down("not checked yet"),
                age: now.since(self.started),
                duration: Duration::ZERO,
            },
        }
    }

    async fn watch(&self, place: usize) {
        let Some(watched) = self.watched.get(place) else { return };
        loop {
            let begun = self.clock.now();
            let patience = self.options.timeout;
            let finding = tokio::time::timeout(patience, watched.check.check()).await;
            let finding = finding.unwrap_or_else(|_| {
                Finding::down(format!("no answer within {} ms", patience.as_millis()))
            });
            let at = self.clock.now();
            *watched.word.write() = Some(Word { finding, at, duration: at.since(begun) });
            tokio::time::sleep(self.options.interval).await;
        }
    }
}
