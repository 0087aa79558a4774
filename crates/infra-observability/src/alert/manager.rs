//! The rules together: evaluated, remembered, told.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use infra_core::{
    Clock, Error, Result,
    clock::Instant,
    lifecycle::Stop,
    metric::{Counter, Declaration, Gauge},
};
use parking_lot::Mutex;

use super::{
    engine::{Alert, Notice, State},
    measure::{Measure, Seen},
    rule::Rule,
};
use crate::exporter::Exporter;

/// The most rules.
const MAX_RULES: usize = 128;

/// The most handlers.
const MAX_HANDLERS: usize = 16;

/// The alerts that are remembered after their end.
const HISTORY: usize = 256;

const ACTIVE: Gauge =
    Gauge::new("infra_observability_active_alerts", "", "Alerts of the process that are raised.");
const RAISED: Counter =
    Counter::new("infra_observability_raised_alerts_total", "Alerts that the process raised.");

pub(crate) const METRICS: &[Declaration] = &[ACTIVE.declaration(), RAISED.declaration()];

/// Is told what changed.
pub trait Handler: Send + Sync {
    /// Handles a notice. It is called while values are evaluated, so it must not block: what takes
    /// time belongs into a bounded queue of its own.
    fn handle(&self, notice: &Notice);
}

impl<F: Fn(&Notice) + Send + Sync> Handler for F {
    fn handle(&self, notice: &Notice) {
        self(notice);
    }
}

struct Watched {
    rule: Rule,
    measure: Option<Measure>,
    seen: Option<Seen>,
    state: State,
}

#[derive(Default)]
struct Book {
    rules: Vec<Watched>,
    history: VecDeque<Alert>,
    last_look: Option<Instant>,
}

/// Rules, what they raised, and who is told. Cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    clock: Arc<dyn Clock>,
    book: Arc<Mutex<Book>>,
    handlers: Arc<Mutex<Vec<Arc<dyn Handler>>>>,
}

impl Alerts {
    /// Creates a manager without rules.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, book: Arc::default(), handlers: Arc::default() }
    }

    /// Adds a rule whose values are given to [`evaluate`](Self::evaluate).
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if there are 128, or one of this name.
    pub fn add(&self, rule: Rule) -> Result<()> {
        self.insert(rule, None)
    }

    /// Adds a rule over figures of the exporter, for [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub fn watch(&self, rule: Rule, measure: Measure) -> Result<()> {
        self.insert(rule, Some(measure))
    }

    fn insert(&self, rule: Rule, measure: Option<Measure>) -> Result<()> {
        let mut book = self.book.lock();
        if MAX_RULES <= book.rules.len() || book.rules.iter().any(|w| w.rule.name == rule.name) {
            return Err(Error::invalid("add alert rule", "too many rules, or one of this name"));
        }
        book.rules.push(Watched { rule, measure, seen: None, state: State::default() });
        Ok(())
    }

    /// Adds somebody who is told.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if there are 16.
    pub fn handler(&self, handler: impl Handler + 'static) -> Result<()> {
        let mut handlers = self.handlers.lock();
        if MAX_HANDLERS <= handlers.len() {
            return Err(Error::invalid("add alert handler", "too many handlers"));
        }
        handlers.push(Arc::new(handler));
        Ok(())
    }

    /// Gives a rule its next value; returns what that changed. An unknown rule changes nothing.
    pub fn evaluate(&self, rule: &str, value: f64) -> Option<Notice> {
        let now = self.clock.now();
        let notice = {
            let mut book = self.book.lock();
            let watched = book.rules.iter_mut().find(|watched| watched.rule.name == rule)?;
            watched.state.step(&watched.rule, now, value)
        };
        notice.inspect(|notice| self.tell(notice))
    }

    /// Evaluates every rule over figures of the exporter once.
    pub fn look(&self, exporter: &Exporter) {
        let samples = exporter.samples();
        let now = self.clock.now();
        let notices: Vec<Notice> = {
            let mut book = self.book.lock();
            let passed = book.last_look.replace(now).map_or(Duration::ZERO, |last| now.since(last));
            let rules = book.rules.iter_mut();
            rules
                .filter_map(|watched| {
                    let measure = watched.measure?;
                    let (value, seen) = measure.read(&samples, watched.seen, passed);
                    watched.seen = Some(seen);
                    watched.state.step(&watched.rule, now, value)
                })
                .collect()
        };
        for notice in &notices {
            self.tell(notice);
        }
    }

    /// Looks at the exporter every `interval` until the service stops.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the looking.
    pub async fn run(self, exporter: Exporter, interval: Duration, stop: Stop) {
        let mut ticks = tokio::time::interval(interval);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look(&exporter),
                () = stop.requested() => return,
            }
        }
    }

    /// Returns what is raised now, worst first.
    pub fn active(&self) -> Vec<Alert> {
        let book = self.book.lock();
        let mut active: Vec<Alert> =
            book.rules.iter().filter_map(|watched| watched.state.active.clone()).collect();
        active.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
        active
    }

    /// Returns the last 256 alerts that are over, newest first.
    pub fn history(&self) -> Vec<Alert> {
        self.book.lock().history.iter().cloned().collect()
    }

    fn tell(&self, notice: &Notice) {
        match notice {
            Notice::Raised(alert) => {
                RAISED.add(1);
                let (rule, severity) = (alert.rule, format!("{:?}", alert.severity));
                tracing::warn!(rule, severity, value = alert.value, "alert: {}", alert.message);
            }
            Notice::Resolved(alert) => {
                tracing::info!(rule = alert.rule, "alert is over: {}", alert.message);
                let mut book = self.book.lock();
                book.history.push_front(alert.clone());
                book.history.truncate(HISTORY);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 128")]
        ACTIVE.set(self.active().len() as f64);
        // Taken out of the lock, so that a handler may add another.
        let handlers = self.handlers.lock().clone();
        for handler in &handlers {
            handler.handle(notice);
        }
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.book.lock().rules.len();
        f.debug_struct("Alerts").field("rules", &rules).finish_non_exhaustive()
    }
}
