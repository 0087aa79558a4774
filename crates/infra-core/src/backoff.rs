//! The pause before each retry, as a pure function of the attempt.

use std::time::Duration;

use crate::random::Random;

/// How the pause grows from one attempt to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Growth {
    /// The same pause each time.
    Fixed,
    /// The base, twice the base, three times the base, ...
    Linear,
    /// The base, doubled each time.
    Exponential,
    /// The base times 1, 1, 2, 3, 5, 8, ...
    Fibonacci,
}

/// A schedule of pauses; it holds no clock and no state.
///
/// ```
/// use std::time::Duration;
/// use infra_core::backoff::Backoff;
///
/// let backoff = Backoff::exponential(Duration::from_millis(20)).capped_at(Duration::from_secs(1));
/// assert_eq!(backoff.pause_before(1), Duration::from_millis(20));
/// assert_eq!(backoff.pause_before(3), Duration::from_millis(80));
/// assert_eq!(backoff.pause_before(60), Duration::from_secs(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    growth: Growth,
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// Creates a schedule that grows from `base` as `growth` says, capped at one minute.
    pub const fn new(growth: Growth, base: Duration) -> Self {
        Self { growth, base, cap: Duration::from_mins(1) }
    }

    /// Creates a schedule of equal pauses.
    pub const fn fixed(base: Duration) -> Self {
        Self::new(Growth::Fixed, base)
    }

    /// Creates a schedule that doubles.
    pub const fn exponential(base: Duration) -> Self {
        Self::new(Growth::Exponential, base)
    }

    /// Sets the longest pause; one minute by default.
    #[must_use]
    pub const fn capped_at(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Returns the pause before retry number `retry`, counted from 1.
    pub fn pause_before(&self, retry: u32) -> Duration {
        let step = retry.max(1);
        let factor = match self.growth {
            Growth::Fixed => 1,
            Growth::Linear => step,
            Growth::Exponential => 1_u32.checked_shl(step - 1).unwrap_or(u32::MAX),
            Growth::Fibonacci => fibonacci(step),
        };
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// Returns a pause drawn evenly from zero to [`Self::pause_before`] ("full jitter").
    ///
    /// It follows Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    pub fn jittered(&self, retry: u32, random: &Random) -> Duration {
        self.pause_before(retry).mul_f64(random.unit())
    }
}

fn fibonacci(step: u32) -> u32 {
    let (mut current, mut next) = (1_u32, 1_u32);
    for _ in 1..step.min(64) {
        (current, next) = (next, current.saturating_add(next));
    }
    current
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(growth: Growth) -> Vec<u128> {
        let backoff = Backoff::new(growth, Duration::from_millis(10));
        (1..=6).map(|retry| backoff.pause_before(retry).as_millis()).collect()
    }

    #[test]
    fn each_growth_gives_its_series() {
        assert_eq!(pauses(Growth::Fixed), [10; 6]);
        assert_eq!(pauses(Growth::Linear), [10, 20, 30, 40, 50, 60]);
        assert_eq!(pauses(Growth::Exponential), [10, 20, 40, 80, 160, 320]);
        assert_eq!(pauses(Growth::Fibonacci), [10, 10, 20, 30, 50, 80]);
    }

    #[test]
    fn no_retry_number_overflows() {
        for growth in [Growth::Fixed, Growth::Linear, Growth::Exponential, Growth::Fibonacci] {
            let backoff = Backoff::new(growth, Duration::MAX).capped_at(Duration::from_secs(5));
            assert_eq!(backoff.pause_before(u32::MAX), Duration::from_secs(5));
            assert_eq!(backoff.pause_before(0), Duration::from_secs(5));
        }
    }

    #[test]
    fn jitter_stays_within_the_pause_and_follows_the_seed() {
        let backoff = Backoff::fixed(Duration::from_millis(100));
        let (one, other) = (Random::seeded(3), Random::seeded(3));
        for retry in 1..100 {
            let pause = backoff.jittered(retry, &one);
            assert!(pause < Duration::from_millis(100));
            assert_eq!(pause, backoff.jittered(retry, &other));
        }
    }
}
