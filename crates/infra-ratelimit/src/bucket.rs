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

use crate::quota::Quota;

/// What a bucket says of a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It can be paid; this is the cell's value afterwards.
    Paid(u64),
    /// It can be paid after this time.
    Wait(Duration),
    /// It is more than the bucket can hold.
    Never,
}

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
        Some(Self { quota, now, governor, staging })
    }

    pub(crate) const fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Judges a cost against a cell; pure but for the staging cell.
    pub(crate) fn judge(&self, cell: Option<u64>, cost: NonZeroU32, now: u64) -> Answer {
        self.now.0.store(now, Ordering::Relaxed);
        self.staging.0.store(cell.unwrap_or(UNUSED), Ordering::Relaxed);
        match self.governor.check_n(cost) {
            Ok(Ok(())) => Answer::Paid(self.staging.0.load(Ordering::Relaxed)),
            Ok(Err(refused)) => Answer::Wait(refused.wait_time_from(Nanos::new(now))),
            Err(_) => Answer::Never,
        }
    }

    /// Gives `count` tokens back to a cell.
    pub(crate) fn refund(&self, cell: u64, count: u32) -> u64 {
        cell.saturating_sub(nanos(self.quota.refill()).saturating_mul(u64::from(count)))
    }

    /// Returns the tokens left in a cell.
    pub(crate) fn remaining(&self, cell: Option<u64>, now: u64) -> u32 {
        let refill = nanos(self.quota.refill()).max(1);
        let owed = cell.map_or(0, |cell| cell.saturating_sub(now).div_ceil(refill));
        self.quota.capacity().saturating_sub(u32::try_from(owed).unwrap_or(u32::MAX))
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
