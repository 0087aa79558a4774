//! How much, how fast: a validated value.

use std::{num::NonZeroU32, time::Duration};

use infra_core::{Error, Result};

/// The longest time that a limit looks back.
pub(crate) const YEAR: Duration = Duration::from_hours(24 * 366);

/// A bucket's capacity and how fast it refills.
///
/// ```
/// use std::time::Duration;
/// use infra_ratelimit::Quota;
///
/// let quota = Quota::new(120, Duration::from_secs(1))?;
/// assert_eq!(quota.capacity(), 120);
/// assert!(Quota::new(0, Duration::from_secs(1)).is_err());
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    capacity: NonZeroU32,
    refill: Duration,
}

impl Quota {
    /// Creates a bucket of `capacity` tokens that gets one back each `refill`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if either is zero, or if a bucket would take
    /// more than a year to fill.
    pub fn new(capacity: u32, refill: Duration) -> Result<Self> {
        let refuse = |detail: String| Error::invalid("declare quota", detail);
        let capacity =
            NonZeroU32::new(capacity).ok_or_else(|| refuse("a capacity of zero".to_owned()))?;
        if refill.is_zero() {
            return Err(refuse("a refill without time".to_owned()));
        }
        match refill.checked_mul(capacity.get()) {
            Some(full) if full <= YEAR => Ok(Self { capacity, refill }),
            _ => Err(refuse(format!("{capacity} times {refill:?} is more than a year"))),
        }
    }

    /// Creates a bucket of `count` tokens that is full again after a second.
    ///
    /// # Errors
    ///
    /// As for [`Quota::new`].
    pub fn per_second(count: u32) -> Result<Self> {
        Self::new(count, Duration::from_secs(1) / count.max(1))
    }

    /// Creates a bucket of `count` tokens that is full again after a minute.
    ///
    /// # Errors
    ///
    /// As for [`Quota::new`].
    pub fn per_minute(count: u32) -> Result<Self> {
        Self::new(count, Duration::from_mins(1) / count.max(1))
    }

    /// Returns what the bucket holds when it is full.
    pub const fn capacity(&self) -> u32 {
        self.capacity.get()
    }

    /// Returns the time in which it gets one token back.
    pub const fn refill(&self) -> Duration {
        self.refill
    }

    pub(crate) const fn nonzero_capacity(&self) -> NonZeroU32 {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        let refused = |capacity, refill| Quota::new(capacity, refill).unwrap_err().to_string();
        assert!(refused(0, Duration::from_secs(1)).contains("a capacity of zero"));
        assert!(refused(1, Duration::ZERO).contains("without time"));
        assert!(refused(u32::MAX, Duration::from_secs(1)).contains("more than a year"));
        assert!(Quota::per_second(0).is_err() && Quota::per_minute(0).is_err());
        assert_eq!(Quota::per_minute(300).unwrap().refill(), Duration::from_millis(200));
    }
}
