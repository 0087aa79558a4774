//! The budget of retries and hedges that all callers of a service share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use infra_core::{Clock, clock::Instant, context::Context};

use crate::telemetry::SAVED;

/// What one extra attempt costs, in thousandths, so that shares of it can be saved.
const ATTEMPT: u64 = 1_000;

/// How many extra attempts a client may make, in proportion to its calls.
///
/// Each call saves a share of an extra attempt; each extra attempt takes a whole one. So when a
/// service fails, its load grows by that share and no more, and a storm of retries ends by itself.
/// A trickle per second on top lets rare callers retry too. What is saved is capped, so a quiet hour
/// does not pay for a storm. Clones share the balance; give one to all retries and hedges of a
/// service. The design is Finagle's (`RetryBudget`, 2016).
///
/// ```
/// use infra_core::SystemClock;
/// use infra_resilience::RetryBudget;
///
/// let budget = RetryBudget::new(SystemClock::shared()).share(0.1).trickle(0).cap(50);
/// (0..20).for_each(|_| budget.deposit());
/// assert!(budget.withdraw() && budget.withdraw() && !budget.withdraw());
/// ```
#[derive(Debug, Clone)]
pub struct RetryBudget {
    purse: Arc<Purse>,
    /// Thousandths of an attempt per call.
    share: u64,
    /// Attempts per second.
    trickle: u32,
    /// Thousandths of an attempt.
    cap: u64,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Purse {
    saved: AtomicU64,
    /// Up to when the trickle has been paid in, in nanoseconds since the clock's start.
    paid_until: AtomicU64,
}

impl RetryBudget {
    /// Creates a budget of 0.2 extra attempts per call and 10 a second, of which at most 100 are
    /// saved; ten seconds' trickle is there at the start.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let purse = Purse {
            saved: AtomicU64::new(100 * ATTEMPT),
            paid_until: AtomicU64::new(nanos(clock.now())),
        };
        Self { purse: Arc::new(purse), share: 200, trickle: 10, cap: 100 * ATTEMPT, clock }.fresh()
    }

    /// Sets how many extra attempts a call saves; 0.2 by default, counted in thousandths.
    #[must_use]
    pub fn share(mut self, share: f64) -> Self {
        let thousandths = Duration::try_from_secs_f64(share).unwrap_or_default().as_millis();
        self.share = u64::try_from(thousandths).unwrap_or(u64::MAX);
        self.fresh()
    }

    /// Sets how many extra attempts there are each second whatever the calls; 10 by default.
    #[must_use]
    pub fn trickle(mut self, per_second: u32) -> Self {
        self.trickle = per_second;
        self.fresh()
    }

    /// Sets how many extra attempts are saved at most; 100 by default.
    #[must_use]
    pub fn cap(mut self, attempts: u32) -> Self {
        self.cap = u64::from(attempts) * ATTEMPT;
        self.fresh()
    }

    /// Saves a share for one call that was begun.
    pub fn deposit(&self) {
        self.add(self.share);
    }

    /// Takes one extra attempt; returns false if too little is saved.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.pay_trickle(self.clock.now());
        let take = |saved: u64| saved.checked_sub(ATTEMPT);
        // Relaxed here and below: the balance alone is shared, no other memory hangs on it.
        let before = self.purse.saved.fetch_update(Relaxed, Relaxed, take);
        let left = before.map_or_else(|poor| poor, |rich| rich - ATTEMPT);
        #[expect(clippy::cast_precision_loss, reason = "budgets are far below 2^53")]
        SAVED.set((left / ATTEMPT) as f64);
        before.is_ok()
    }

    /// Returns how many whole extra attempts are saved.
    pub fn saved(&self) -> u64 {
        self.pay_trickle(self.clock.now());
        self.purse.saved.load(Relaxed) / ATTEMPT
    }

    /// Starts over with what the options give for the first ten seconds.
    fn fresh(self) -> Self {
        let start = (u64::from(self.trickle) * 10 * ATTEMPT).min(self.cap);
        self.purse.saved.store(start, Relaxed);
        self
    }

    fn add(&self, thousandths: u64) {
        let add = |saved: u64| {
            let sum = saved.saturating_add(thousandths).min(self.cap);
            (sum != saved).then_some(sum)
        };
        let _at_cap = self.purse.saved.fetch_update(Relaxed, Relaxed, add);
    }

    /// Pays in what the time since the last payment gives, in whole thousandths, once.
    fn pay_trickle(&self, now: Instant) {
        let Some(step) = 1_000_000_000_u64.checked_div(u64::from(self.trickle) * ATTEMPT) else {
            return;
        };
        let now = nanos(now);
        let mut paid = 0;
        let advance = |until: u64| {
            paid = now.saturating_sub(until) / step.max(1);
            (paid != 0).then(|| until + paid * step.max(1))
        };
        if self.purse.paid_until.fetch_update(Relaxed, Relaxed, advance).is_ok() {
            self.add(paid);
        }
    }
}

fn nanos(instant: Instant) -> u64 {
    u64::try_from(instant.since_start().as_nanos()).unwrap_or(u64::MAX)
}

/// Takes an extra attempt from the budget of the current call and from the one that callers share: from
/// both, or from none.
pub(crate) fn afford(shared: Option<&RetryBudget>) -> bool {
    let context = Context::current();
    let own = context.budget_of();
    if own.is_some_and(|own| !own.take()) {
        return false;
    }
    let is_affordable = shared.is_none_or(RetryBudget::withdraw);
    if !is_affordable && let Some(own) = own {
        own.give_back(1);
    }
    is_affordable
}

#[cfg(test)]
mod tests {
    use infra_testkit::clock::ManualClock;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_trickle_is_paid_by_time_and_capped() {
        let clock = ManualClock::new();
        let budget = RetryBudget::new(Arc::new(clock.clone())).share(0.0).trickle(2).cap(5);
        assert_eq!(budget.saved(), 5);
        assert_eq!((0..9).filter(|_| budget.withdraw()).count(), 5);
        clock.advance(Duration::from_millis(499));
        assert!(!budget.withdraw());
        clock.advance(Duration::from_millis(1));
        assert!(budget.withdraw() && !budget.withdraw());
        clock.advance(Duration::from_hours(1));
        assert_eq!(budget.saved(), 5, "a quiet hour pays for no storm");
    }

    #[test]
    fn threads_together_withdraw_exactly_what_is_saved() {
        let budget =
            RetryBudget::new(Arc::new(ManualClock::new())).share(0.5).trickle(0).cap(1_000);
        let taken: usize = std::thread::scope(|scope| {
            let work = || {
                (0..200).for_each(|_| budget.deposit());
                (0..200).filter(|_| budget.withdraw()).count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken as u64 + budget.saved(), 400);
    }

    proptest! {
        /// However calls and retries are mixed, the retries are at most the share of the calls
        /// plus what the trickle gave.
        #[test]
        fn extra_attempts_never_exceed_their_share(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..50), 1..300),
            share in 0.0_f64..1.0,
            trickle in 0_u32..5,
        ) {
            let clock = ManualClock::new();
            let budget = RetryBudget::new(Arc::new(clock.clone())).share(share).trickle(trickle);
            let (mut calls, mut extra) = (0.0, 0.0);
            for (is_call, step) in steps {
                clock.advance(Duration::from_millis(step));
                if is_call {
                    budget.deposit();
                    calls += 1.0;
                } else if budget.withdraw() {
                    extra += 1.0;
                }
            }
            let seconds = clock.now().since_start().as_secs_f64();
            prop_assert!(extra <= calls * share + f64::from(trickle) * (10.0 + seconds) + 1e-6);
        }
    }
}
