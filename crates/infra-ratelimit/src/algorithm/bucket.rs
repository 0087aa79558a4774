//! One bucket, decided by governor's GCRA on a cell that is lent to it.
//!
//! governor decides one key of one limit at a time and writes at once. Here its arithmetic runs
//! over a staging cell, so that several limits can be judged before any of them is paid.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};

use super::Answer;
use crate::{quota::Quota, time::nanos};

/// The time that governor sees: nanoseconds since the clock's start, set before each decision.
#[derive(Debug, Clone, Default)]
struct Now(Arc<AtomicU64>);

impl Clock for Now {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

/// The cell that governor reads and writes; `u64::MAX` stands for a bucket never used.
#[derive(Debug, Clone)]
struct Staging(Arc<AtomicU64>);

const UNUSED: u64 = u64::MAX;

impl StateStore for Staging {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // Relaxed: the bucket is lent to one decision at a time, under the limiter's lock.
        let before = self.0.load(Ordering::Relaxed);
        let (value, after) = f(Some(before).filter(|cell| *cell != UNUSED).map(Nanos::new))?;
        self.0.store(after.as_u64(), Ordering::Relaxed);
        Ok(value)
    }
}

/// The arithmetic of one limit.
#[derive(Debug)]
pub(crate) struct Bucket {
    quota: Quota,
    /// In nanoseconds.
    refill: u64,
    window: Duration,
    now: Now,
    governor: RateLimiter<NotKeyed, Staging, Now, NoOpMiddleware<Nanos>>,
    staging: Staging,
}

impl Bucket {
    pub(crate) fn new(quota: Quota) -> Option<Self> {
        let now = Now::default();
        let staging = Staging(Arc::new(AtomicU64::new(UNUSED)));
        let rate = governor::Quota::with_period(quota.refill())?;
        let rate = rate.allow_burst(quota.nonzero_capacity());
        let governor = RateLimiter::new(rate, staging.clone(), now.clone());
        let refill = nanos(quota.refill());
        let window = quota.refill().saturating_mul(quota.capacity());
        Some(Self { quota, refill, window, now, governor, staging })
    }

    /// Returns the time in which it becomes full from empty.
    #[inline]
    pub(crate) const fn window(&self) -> Duration {
        self.window
    }

    #[inline]
    pub(crate) const fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Judges a cost against a cell, the theoretical arrival time; pure but for the staging cell.
    #[inline]
    pub(crate) fn judge(&self, cell: Option<u64>, cost: NonZeroU32, now: u64) -> Answer<u64> {
        self.now.0.store(now, Ordering::Relaxed);
        self.staging.0.store(cell.unwrap_or(UNUSED), Ordering::Relaxed);
        match self.governor.check_n(cost) {
            Ok(Ok(())) => Answer::Fits(self.staging.0.load(Ordering::Relaxed)),
            Ok(Err(refused)) => Answer::Wait(refused.wait_time_from(Nanos::new(now))),
            Err(_) => Answer::Never,
        }
    }

    /// Gives back `unused` tokens that were paid at `paid_at`.
    ///
    /// What dripped in since then has given back as much already, whatever else was paid meanwhile;
    /// only the rest is taken off. Taking off more would let an interval pass more than the burst
    /// and what drips meanwhile.
    pub(crate) fn refund(&self, cell: u64, unused: u32, elapsed: u64) -> u64 {
        let paid = self.refill().saturating_mul(u64::from(unused));
        cell.saturating_sub(paid.saturating_sub(elapsed))
    }

    /// Returns the tokens that are gone from a cell.
    #[inline]
    pub(crate) fn spent(&self, cell: u64, now: u64) -> u32 {
        let owed = cell.saturating_sub(now).div_ceil(self.refill().max(1));
        u32::try_from(owed).unwrap_or(u32::MAX).min(self.quota.capacity())
    }

    /// Returns a cell from which so many tokens are gone.
    #[inline]
    pub(crate) fn having_spent(&self, tokens: u32, now: u64) -> u64 {
        now.saturating_add(self.refill().saturating_mul(u64::from(tokens)))
    }

    /// Takes a cell over from a bucket of another quota: what is gone stays gone, to the fraction
    /// of a token, and no more is gone than there can be.
    pub(crate) fn carry(&self, old: &Self, cell: u64, now: u64) -> u64 {
        let owed = u128::from(cell.saturating_sub(now)) * u128::from(self.refill());
        let owed = u64::try_from(owed / u128::from(old.refill().max(1))).unwrap_or(u64::MAX);
        let full = self.refill().saturating_mul(u64::from(self.quota.capacity()));
        now.saturating_add(owed.min(full))
    }

    #[inline]
    const fn refill(&self) -> u64 {
        self.refill
    }
}
