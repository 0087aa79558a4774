//! When entities are handed over to the archive, and how.

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, Error, Result, SystemClock, backoff::Backoff};

use crate::repository::Limits;

/// When entities are handed over to the archive, and how.
#[derive(Debug, Clone)]
pub struct HybridOptions {
    pub(super) limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) completed: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) pressure: Option<u8>,
    pub(super) drains: Option<Duration>,
    pub(super) interval: Duration,
    pub(super) batch: usize,
    pub(super) linger: Duration,
    pub(super) concurrency: usize,
    pub(super) patience: Duration,
    pub(super) retries: u32,
    pub(super) backoff: Backoff,
    pub(super) ageing: Duration,
    pub(super) queue: usize,
}

impl HybridOptions {
    /// Creates options with limits of the memory: completed entities are handed over at once.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            clock: SystemClock::shared(),
            completed: Some(Duration::ZERO),
            idle: None,
            pressure: None,
            drains: None,
            interval: Duration::from_mins(1),
            batch: 100,
            linger: Duration::from_millis(100),
            concurrency: 4,
            patience: Duration::from_secs(30),
            retries: 3,
            backoff: Backoff::exponential(Duration::from_secs(1)),
            ageing: Duration::from_secs(30),
            queue: 2_500,
        }
    }

    /// Sets the clock of ages and turns; the system's by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.limits = self.limits.clock(Arc::clone(&clock));
        self.clock = clock;
        self
    }

    /// Hands completed entities over so long after their save; at once by default, never if `None`.
    #[must_use]
    pub const fn completed(mut self, after: Option<Duration>) -> Self {
        self.completed = after;
        self
    }

    /// Hands entities over that are not active and were neither saved nor read for so long; never by
    /// default. Looked for every [`interval`](Self::interval). Where reads are to count, the entity
    /// has to stay in memory: one that was pushed out counts from its save.
    #[must_use]
    pub const fn idle(mut self, idle: Duration) -> Self {
        (self.idle, self.limits.ages) = (Some(idle), true);
        self
    }

    /// Hands entities over, the longest unsaved first, while memory is fuller than a percentage of
    /// its limits; never by default.
    #[must_use]
    pub const fn pressure(mut self, percent: u8) -> Self {
        self.pressure = Some(percent);
        self
    }

    /// Hands everything over that waits, when the service stops, for at most so long; by default it
    /// waits for the next start. Nothing is lost either way.
    #[must_use]
    pub const fn drain(mut self, at_most: Duration) -> Self {
        self.drains = Some(at_most);
        self
    }

    /// Sets how often idle entities and pressure are looked for; every minute by default.
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how many make a batch that is handed over at once, 100 by default, and how long fewer wait
    /// for more, 100 ms by default.
    #[must_use]
    pub const fn batch(mut self, size: usize, linger: Duration) -> Self {
        (self.batch, self.linger) = (size, linger);
        self
    }

    /// Sets how many objects are written at once, 4 by default, and how long each may take, 30 s by
    /// default.
    #[must_use]
    pub const fn concurrency(mut self, objects: usize, patience: Duration) -> Self {
        (self.concurrency, self.patience) = (objects, patience);
        self
    }

    /// Sets how often a hand-over is tried again that failed for now, 3 times by default, and the
    /// pauses before; then it is a dead letter.
    #[must_use]
    pub const fn retries(mut self, retries: u32, backoff: Backoff) -> Self {
        (self.retries, self.backoff) = (retries, backoff);
        self
    }

    /// Sets by how much one level of priority goes ahead; 30 s by default. What waits longer than
    /// that goes before what came later one level higher, so nothing waits for ever.
    #[must_use]
    pub const fn ageing(mut self, ageing: Duration) -> Self {
        self.ageing = ageing;
        self
    }

    /// Sets how many hand-overs of one priority may wait, 2,500 by default; more are refused.
    #[must_use]
    pub const fn queue(mut self, waiting: usize) -> Self {
        self.queue = waiting;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        const OPEN: &str = "open hybrid repository";
        self.limits.check(OPEN)?;
        if self.batch == 0 || self.concurrency == 0 || self.queue == 0 {
            return Err(Error::invalid(OPEN, "a batch, concurrency or queue of zero"));
        }
        if self.interval.is_zero() || self.patience.is_zero() {
            return Err(Error::invalid(OPEN, "an interval or a patience of zero"));
        }
        if self.pressure.is_some_and(|percent| percent == 0 || 100 < percent) {
            return Err(Error::invalid(OPEN, "a pressure beyond 1 to 100 per cent"));
        }
        Ok(())
    }
}
