//! The monitor: runs each check on its own, on time, and keeps its last word.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock,
    clock::Instant,
    health::{Change, CheckReport, Finding, HealthCheck, HealthReport},
    lifecycle::Shutdown,
    metric::{self, Declaration},
};
use parking_lot::RwLock;
use tokio::task::JoinHandle;

use super::{
    hysteresis::{Hysteresis, Thresholds},
    state::Readiness,
};

/// The changes of a status that are kept.
const KEPT_CHANGES: usize = 16;

const READY: metric::Gauge =
    metric::Gauge::new("infra_health_ready", "", "Whether the service takes new work.");
const FAILING: metric::Gauge =
    metric::Gauge::new("infra_health_failing_checks", "", "Checks that are down.");

/// The metrics of health.
pub(crate) const METRICS: &[Declaration] = &[READY.declaration(), FAILING.declaration()];

/// How often checks run, how long one may take, and how many findings change a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    interval: Duration,
    timeout: Duration,
    thresholds: Thresholds,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            thresholds: Thresholds::default(),
        }
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

    /// Sets how many findings in a row change a status; one by default.
    #[must_use]
    pub const fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }
}

/// What a check stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Without it no new work is taken.
    Ready,
    /// It is reported, and nothing more.
    Info,
}

#[derive(Debug)]
struct Word {
    finding: Finding,
    at: Instant,
    duration: Duration,
    failures: u32,
    changes: VecDeque<(Finding, Instant)>,
}

#[derive(Debug)]
struct Watched {
    check: Arc<dyn HealthCheck>,
    group: Group,
    word: RwLock<Option<Word>>,
}

/// Watches checks in the background; asking it never waits for one of them.
///
/// A check that has not spoken yet counts as down, so a service is not ready before all its parts
/// were looked at once. A word that is older than three rounds is no word: a check that hangs must
/// not keep its last good one.
///
/// Liveness, startup and readiness are published states: the service lives until somebody says that
/// it cannot go on ([`fail`](Monitor::fail)), however its checks stand; it has started once it was
/// ready; it is ready while no check of [`Group::Ready`] is down and it does not drain.
#[derive(Debug)]
pub struct Monitor {
    options: Options,
    clock: Arc<dyn Clock>,
    watched: Vec<Watched>,
    started: Instant,
    is_draining: AtomicBool,
    has_been_ready: AtomicBool,
    failure: RwLock<Option<String>>,
}

impl Monitor {
    /// Starts to watch `checks`, all of [`Group::Ready`]; the tasks belong to `shutdown`.
    pub fn start(
        options: Options,
        clock: Arc<dyn Clock>,
        checks: Vec<Arc<dyn HealthCheck>>,
        shutdown: &Shutdown,
    ) -> Arc<Self> {
        let grouped = checks.into_iter().map(|check| (Group::Ready, check)).collect();
        Self::start_grouped(options, clock, grouped, shutdown)
    }

    /// Starts to watch `checks`, each in its group; the tasks belong to `shutdown`.
    pub fn start_grouped(
        options: Options,
        clock: Arc<dyn Clock>,
        checks: Vec<(Group, Arc<dyn HealthCheck>)>,
        shutdown: &Shutdown,
    ) -> Arc<Self> {
        let watched = checks
            .into_iter()
            .map(|(group, check)| Watched { check, group, word: RwLock::new(None) })
            .collect();
        let monitor = Arc::new(Self {
            options,
            started: clock.now(),
            clock,
            watched,
            is_draining: AtomicBool::new(false),
            has_been_ready: AtomicBool::new(false),
            failure: RwLock::new(None),
        });
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
        self.report_where(|_| true)
    }

    /// Returns the last word of every check of one group.
    pub fn report_of(&self, group: Group) -> HealthReport {
        self.report_where(|own| own == group)
    }

    /// Returns whether the service takes new work.
    pub fn readiness(&self) -> Readiness {
        let patience = (self.options.interval + self.options.timeout) * 3;
        // Acquire pairs with the release in `drain`.
        let is_draining = self.is_draining.load(Ordering::Acquire);
        let readiness = Readiness::judge(&self.report_of(Group::Ready), is_draining, patience);
        if readiness.is_ready() {
            // Relaxed: the flag stands for itself and is never taken back.
            self.has_been_ready.store(true, Ordering::Relaxed);
        }
        readiness
    }

    /// Returns whether the service was ready once.
    pub fn has_started(&self) -> bool {
        self.has_been_ready.load(Ordering::Relaxed) || self.readiness().is_ready()
    }

    /// Says that the service is about to stop: from now on it is not ready.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Says that the service cannot go on and must be restarted.
    pub fn fail(&self, why: impl Into<String>) {
        *self.failure.write() = Some(why.into());
    }

    /// Returns why the service must be restarted; none while it lives.
    pub fn failure(&self) -> Option<String> {
        self.failure.read().clone()
    }

    fn report_where(&self, is_wanted: impl Fn(Group) -> bool) -> HealthReport {
        let now = self.clock.now();
        let wanted = self.watched.iter().filter(|watched| is_wanted(watched.group));
        HealthReport::of(wanted.map(|watched| self.line(watched, now)).collect())
    }

    fn line(&self, watched: &Watched, now: Instant) -> CheckReport {
        let name = watched.check.name().to_owned();
        match &*watched.word.read() {
            Some(word) => CheckReport {
                name,
                finding: word.finding.clone(),
                age: now.since(word.at),
                duration: word.duration,
                failures: word.failures,
                changes: word
                    .changes
                    .iter()
                    .map(|(finding, at)| Change { finding: finding.clone(), age: now.since(*at) })
                    .collect(),
            },
            None => CheckReport {
                name,
                finding: Finding::down("not checked yet"),
                age: now.since(self.started),
                duration: Duration::ZERO,
                failures: 0,
                changes: Vec::new(),
            },
        }
    }

    async fn watch(&self, place: usize) {
        let Some(watched) = self.watched.get(place) else { return };
        let mut hysteresis = Hysteresis::new(self.options.thresholds);
        loop {
            let begun = self.clock.now();
            let found = look(Arc::clone(&watched.check), self.options.timeout).await;
            let at = self.clock.now();
            let finding = hysteresis.judge(&found);
            self.note(watched, finding, hysteresis.failures(), (begun, at));
            tokio::time::sleep(self.options.interval).await;
        }
    }

    fn note(
        &self,
        watched: &Watched,
        finding: Finding,
        failures: u32,
        (begun, at): (Instant, Instant),
    ) {
        let mut word = watched.word.write();
        let mut changes = word.take().map(|word| word.changes).unwrap_or_default();
        if changes.front().map(|(last, _)| last.status) != Some(finding.status) {
            changes.push_front((finding.clone(), at));
            changes.truncate(KEPT_CHANGES);
        }
        *word = Some(Word { finding, at, duration: at.since(begun), failures, changes });
        drop(word);
        self.tell();
    }

    /// Sets the gauges.
    fn tell(&self) {
        let down = self.watched.iter().filter(|watched| {
            let word = watched.word.read();
            word.as_ref().is_none_or(|w| w.finding.status == infra_core::health::Status::Down)
        });
        #[expect(clippy::cast_precision_loss, reason = "a handful of checks")]
        FAILING.set(down.count() as f64);
        READY.set(f64::from(u8::from(self.readiness().is_ready())));
    }
}

/// Ends the task of a check that nobody waits for any more.
struct Abort(JoinHandle<Finding>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a check in a task of its own, so that one that panics or blocks harms nobody else.
async fn look(check: Arc<dyn HealthCheck>, patience: Duration) -> Finding {
    let mut task = Abort(tokio::spawn(async move { check.check().await }));
    match tokio::time::timeout(patience, &mut task.0).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(_)) => Finding::down("the check panicked"),
        Err(_) => Finding::down(format!("no answer within {} ms", patience.as_millis())),
    }
}
