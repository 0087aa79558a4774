//! What a call may still spend: time, attempts, and its place in the queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::clock::Instant;

/// The instant after which nobody waits for the answer any more.
///
/// ```
/// use std::time::Duration;
/// use infra_core::{budget::Deadline, clock::Instant};
///
/// let deadline = Deadline::after(Instant::START, Duration::from_secs(2));
/// let later = Instant::START + Duration::from_millis(1_500);
/// assert_eq!(deadline.left(later), Duration::from_millis(500));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// Creates the deadline `patience` after `now`.
    pub fn after(now: Instant, patience: Duration) -> Self {
        Self(now + patience)
    }

    /// Returns the instant.
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// Returns the time left at `now`; zero if it has passed.
    pub const fn left(self, now: Instant) -> Duration {
        self.0.since(now)
    }

    /// Returns whether it has passed at `now`.
    pub fn has_passed(self, now: Instant) -> bool {
        self.0 <= now
    }

    /// Returns the earlier of two deadlines: on its way inward a deadline only shrinks.
    #[must_use]
    pub fn tightened(self, other: Self) -> Self {
        self.min(other)
    }
}

/// How important a call is when not all can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Served when nothing else waits.
    Low,
    /// The ordinary case.
    #[default]
    Normal,
    /// Served before the others.
    High,
    /// Never shed before the others.
    Critical,
}

impl Priority {
    /// All priorities, the lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Critical];

    /// Returns the stable name, for the wire and for labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// The extra attempts that a call may cause below it, shared by retries and hedges of all layers.
///
/// Clones share one count, so a retry around a retry cannot multiply.
///
/// ```
/// use infra_core::budget::CallBudget;
///
/// let budget = CallBudget::new(1);
/// let inner = budget.clone();
/// assert!(inner.take());
/// assert!(!budget.take());
/// ```
#[derive(Debug, Clone)]
pub struct CallBudget {
    extra: Arc<AtomicU32>,
    priority: Priority,
}

impl CallBudget {
    /// Creates a budget of `extra` attempts beyond the first, at normal priority.
    pub fn new(extra: u32) -> Self {
        Self { extra: Arc::new(AtomicU32::new(extra)), priority: Priority::Normal }
    }

    /// Sets the priority.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Takes one extra attempt; returns false if none is left.
    #[must_use]
    pub fn take(&self) -> bool {
        // Relaxed: the count alone is shared, no other memory hangs on it.
        let taken = self
            .extra
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.is_ok()
    }

    /// Moves up to `share` attempts into a budget of its own, for another process to spend.
    ///
    /// What it does not spend comes back by [`Self::give_back`], so that all processes together
    /// spend no more than the first one allowed.
    #[must_use]
    pub fn lend(&self, share: u32) -> Self {
        let left = self
            .extra
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(share))
            })
            .unwrap_or_default();
        Self::new(left.min(share)).priority(self.priority)
    }

    /// Returns attempts that were lent and not spent.
    pub fn give_back(&self, unspent: u32) {
        let add = |left: u32| Some(left.saturating_add(unspent));
        let _always = self.extra.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Returns the extra attempts left.
    pub fn left(&self) -> u32 {
        self.extra.load(Ordering::Relaxed)
    }

    /// Returns the priority.
    pub const fn priority_of(&self) -> Priority {
        self.priority
    }
}

impl Default for CallBudget {
    /// Three extra attempts at normal priority.
    fn default() -> Self {
        Self::new(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_only_shrinks() {
        let now = Instant::START;
        let (short, long) = (
            Deadline::after(now, Duration::from_secs(1)),
            Deadline::after(now, Duration::from_secs(2)),
        );
        assert_eq!(long.tightened(short), short);
        assert_eq!(short.tightened(long), short);
        assert!(short.has_passed(now + Duration::from_secs(1)));
        assert!(!short.has_passed(now + Duration::from_millis(999)));
    }

    #[test]
    fn threads_together_take_exactly_the_budget() {
        let budget = CallBudget::new(100);
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..100).filter(|_| budget.take()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((taken, budget.left()), (100, 0));
    }

    #[test]
    fn what_is_lent_is_gone_until_it_comes_back() {
        let budget = CallBudget::new(5).priority(Priority::High);
        let lent = budget.lend(3);
        assert_eq!((lent.left(), budget.left(), lent.priority_of()), (3, 2, Priority::High));
        assert!(lent.take());
        budget.give_back(lent.left());
        assert_eq!(budget.left(), 4);
        assert_eq!((budget.lend(9).left(), budget.left()), (4, 0), "no more than there is");
    }

    #[test]
    fn priorities_are_ordered() {
        assert!(Priority::Low < Priority::Normal && Priority::High < Priority::Critical);
        assert_eq!(Priority::ALL.map(Priority::name), ["low", "normal", "high", "critical"]);
        assert!(Priority::ALL.is_sorted());
        assert_eq!(CallBudget::default().priority(Priority::High).priority_of(), Priority::High);
    }
}
