//! A limit as it is declared: an algorithm and what happens around it.

use std::{num::NonZeroU32, time::Duration};

use infra_core::{Error, Result};

use crate::{quota::Quota, window::Window};

/// How many bytes the keys of one limit may take by default: some 170,000 keys.
const DEFAULT_BUDGET: usize = 16 << 20;

/// How much of a limit is spent, in percent, when it is said to be near.
const DEFAULT_NEAR: u8 = 80;

/// How a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Bucket(Quota),
    Fixed(Window),
    Sliding(Window),
    Log(Window),
    Concurrent(NonZeroU32),
}

/// A limit: how it counts, and what else it does.
///
/// | made by | counts | admits in any interval as long as the window | bytes of a key |
/// |---|---|---|---|
/// | [`bucket`](Self::bucket) | GCRA (ITU-T I.371) | burst + rate x time | 8 |
/// | [`log`](Self::log) | each admission | capacity, exactly | 16 for each admission |
/// | [`sliding`](Self::sliding) | two windows, the older one weighted | see there | 16 |
/// | [`fixed`](Self::fixed) | one aligned window | twice the capacity | 16 |
/// | [`concurrent`](Self::concurrent) | who holds a reservation | - | 4 |
///
/// ```
/// use std::time::Duration;
/// use infra_ratelimit::{Limit, Quota, Window};
///
/// let messages = Limit::bucket(Quota::new(120, Duration::from_secs(1))?);
/// let rooms = Limit::fixed(Window::per_minute(5)?).block(Duration::from_mins(5));
/// let connections = Limit::concurrent(10)?;
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub(crate) algorithm: Algorithm,
    pub(crate) block: Duration,
    pub(crate) is_shadow: bool,
    pub(crate) near: u8,
    pub(crate) budget: usize,
}

impl Limit {
    const fn of(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            block: Duration::ZERO,
            is_shadow: false,
            near: DEFAULT_NEAR,
            budget: DEFAULT_BUDGET,
        }
    }

    /// Counts in a token bucket, by the generic cell rate algorithm.
    pub const fn bucket(quota: Quota) -> Self {
        Self::of(Algorithm::Bucket(quota))
    }

    /// Counts in windows that follow each other from the clock's start: cheap, and up to twice the
    /// capacity passes within a window's length around a boundary.
    pub const fn fixed(window: Window) -> Self {
        Self::of(Algorithm::Fixed(window))
    }

    /// Counts in the current window and the one before it, which is weighted by how much of it the
    /// sliding window still covers.
    ///
    /// The count differs from the exact one by less than what the earlier window admitted: with the
    /// current window gone by a fraction `f` and `p` admitted in the one before, the exact count lies
    /// between `count - p (1 - f)` and `count + p f`. So at worst, when all of `p` came at its very
    /// end, a window's length sees twice the capacity; for traffic that is even over a window the
    /// two agree.
    pub const fn sliding(window: Window) -> Self {
        Self::of(Algorithm::Sliding(window))
    }

    /// Counts exactly, by a log of what was admitted; a key takes 16 bytes for each of them.
    ///
    /// The window is half open: what was admitted at `t` counts until just before `t + length`.
    pub const fn log(window: Window) -> Self {
        Self::of(Algorithm::Log(window))
    }

    /// Counts who holds a reservation now, so only
    /// [`reserve`](infra_core::limit::RateLimiter::reserve) takes it: a permit comes back when its
    /// reservation ends, whatever way.
    ///
    /// When someone will let go is not known, so the wait that a refusal names is a second.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for zero.
    pub fn concurrent(permits: u32) -> Result<Self> {
        let permits = NonZeroU32::new(permits)
            .ok_or_else(|| Error::invalid("declare limit", "no permit at all"))?;
        Ok(Self::of(Algorithm::Concurrent(permits)))
    }

    /// Refuses a key that met this limit for so long; by default only until there is room again.
    #[must_use]
    pub const fn block(mut self, block: Duration) -> Self {
        self.block = block;
        self
    }

    /// Counts and tells what it would refuse, and refuses nothing: a limit on trial.
    #[must_use]
    pub const fn shadow(mut self) -> Self {
        self.is_shadow = true;
        self
    }

    /// Sets how much must be spent, in percent, to be near the limit; 80 by default.
    #[must_use]
    pub const fn near(mut self, percent: u8) -> Self {
        self.near = percent;
        self
    }

    /// Sets how many bytes the keys may take; 16 MiB by default, which hold some 170,000 keys.
    ///
    /// Address space for them is set aside at once; memory is used as keys come.
    #[must_use]
    pub const fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// Returns the n-th part of this limit that each of `nodes` enforces by itself.
    #[cfg(feature = "redis")]
    pub(crate) fn share(mut self, nodes: NonZeroU32) -> Result<Self> {
        let part = |capacity: u32| (capacity / nodes).max(1);
        let window = |window: Window| Window::new(part(window.capacity()), window.length());
        self.algorithm = match self.algorithm {
            Algorithm::Bucket(quota) => {
                let refill = quota.refill().saturating_mul(nodes.get());
                Algorithm::Bucket(Quota::new(part(quota.capacity()), refill)?)
            }
            Algorithm::Fixed(fixed) => Algorithm::Fixed(window(fixed)?),
            Algorithm::Sliding(sliding) => Algorithm::Sliding(window(sliding)?),
            Algorithm::Log(log) => Algorithm::Log(window(log)?),
            Algorithm::Concurrent(permits) => {
                Algorithm::Concurrent(NonZeroU32::new(part(permits.get())).unwrap_or(permits))
            }
        };
        Ok(self)
    }

    /// Returns whether it is of permits, which are held.
    #[cfg(feature = "redis")]
    pub(crate) const fn is_held(&self) -> bool {
        matches!(self.algorithm, Algorithm::Concurrent(_))
    }

    /// Returns whether so much spent is near the limit.
    #[inline]
    pub(crate) const fn is_near(&self, spent: u32) -> bool {
        self.capacity() as u64 * self.near as u64 <= spent as u64 * 100
    }

    /// Returns what it admits at once.
    pub const fn capacity(&self) -> u32 {
        match self.algorithm {
            Algorithm::Bucket(quota) => quota.capacity(),
            Algorithm::Fixed(window) | Algorithm::Sliding(window) | Algorithm::Log(window) => {
                window.capacity()
            }
            Algorithm::Concurrent(permits) => permits.get(),
        }
    }

    /// Returns the time in which it becomes full from empty; zero if time does not refill it.
    pub fn window(&self) -> Duration {
        match self.algorithm {
            Algorithm::Bucket(quota) => quota.refill().saturating_mul(quota.capacity()),
            Algorithm::Fixed(window) | Algorithm::Sliding(window) | Algorithm::Log(window) => {
                window.length()
            }
            Algorithm::Concurrent(_) => Duration::ZERO,
        }
    }
}

impl From<Quota> for Limit {
    fn from(quota: Quota) -> Self {
        Self::bucket(quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_tells_what_it_holds_and_how_long_it_takes_to_fill() {
        let quota = Quota::new(120, Duration::from_secs(1)).unwrap();
        let window = Window::per_minute(20).unwrap();
        let told = |limit: Limit| (limit.capacity(), limit.window());
        assert_eq!(told(quota.into()), (120, Duration::from_mins(2)));
        for limit in [Limit::fixed(window), Limit::sliding(window), Limit::log(window)] {
            assert_eq!(told(limit), (20, Duration::from_mins(1)));
        }
        assert_eq!(told(Limit::concurrent(3).unwrap()), (3, Duration::ZERO));
        assert!(Limit::concurrent(0).unwrap_err().to_string().contains("no permit"));
    }
}
