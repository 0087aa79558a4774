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
    /// The base, multiplied by this many percent each time: 150 gives 1, 1.5, 2.25, ...
    Percent(u32),
}

/// How a pause is scattered, so that callers who failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// The pause itself.
    None,
    /// Anything from zero to the pause ("full jitter").
    Full,
    /// The pause, more or less by at most this many percent.
    Within(u8),
    /// Anything from the base to three times the pause before ("decorrelated jitter").
    Decorrelated,
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
    jitter: Jitter,
}

impl Backoff {
    /// Creates a schedule that grows from `base` as `growth` says, capped at one minute.
    pub const fn new(growth: Growth, base: Duration) -> Self {
        Self { growth, base, cap: Duration::from_mins(1), jitter: Jitter::Full }
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

    /// Sets the scatter of [`Self::pause`]; full by default.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Returns the scattered pause before retry number `retry`, after a pause of `previous`.
    ///
    /// It never exceeds the cap. The scatters follow Brooker, "Exponential Backoff and Jitter",
    /// AWS Architecture Blog, 2015.
    pub fn pause(&self, retry: u32, previous: Duration, random: &Random) -> Duration {
        let pause = self.pause_before(retry);
        let scattered = match self.jitter {
            Jitter::None => pause,
            Jitter::Full => return pause.mul_f64(random.unit()),
            Jitter::Within(percent) => {
                let share = f64::from(percent.min(100)) / 100.0;
                scaled(pause, 1.0 - share + 2.0 * share * random.unit())
            }
            Jitter::Decorrelated => {
                let span = previous.max(self.base).saturating_mul(3).saturating_sub(self.base);
                self.base.saturating_add(span.mul_f64(random.unit()))
            }
        };
        scattered.min(self.cap)
    }

    /// Returns the pause before retry number `retry`, counted from 1.
    pub fn pause_before(&self, retry: u32) -> Duration {
        let step = retry.max(1);
        let factor = match self.growth {
            Growth::Fixed => 1,
            Growth::Linear => step,
            Growth::Exponential => 1_u32.checked_shl(step - 1).unwrap_or(u32::MAX),
            Growth::Fibonacci => fibonacci(step),
            Growth::Percent(percent) => {
                let times = i32::try_from(step - 1).unwrap_or(i32::MAX);
                return scaled(self.base, (f64::from(percent) / 100.0).powi(times)).min(self.cap);
            }
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

/// Multiplies without a panic: what is too long for a duration is the longest one.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
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
    use proptest::prelude::*;

    use super::*;

    const GROWTHS: [Growth; 5] = [
        Growth::Fixed,
        Growth::Linear,
        Growth::Exponential,
        Growth::Fibonacci,
        Growth::Percent(150),
    ];
    const JITTERS: [Jitter; 4] =
        [Jitter::None, Jitter::Full, Jitter::Within(10), Jitter::Decorrelated];

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
        assert_eq!(pauses(Growth::Percent(300)), [10, 30, 90, 270, 810, 2_430]);
        assert_eq!(pauses(Growth::Percent(150)), [10, 15, 22, 33, 50, 75]);
    }

    #[test]
    fn no_retry_number_overflows() {
        for growth in GROWTHS {
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

    #[test]
    fn a_scatter_within_ten_percent_lies_on_both_sides_of_the_pause() {
        let backoff = Backoff::exponential(Duration::from_millis(10)).jitter(Jitter::Within(10));
        let random = Random::seeded(5);
        let drawn = |retry| backoff.pause(retry, Duration::ZERO, &random).as_secs_f64() * 1e3;
        let second: Vec<_> = (0..200).map(|_| drawn(2)).collect();
        assert!(second.iter().all(|pause| (18.0..=22.0).contains(pause)), "{second:?}");
        assert!(second.iter().any(|pause| *pause < 19.0));
        assert!(second.iter().any(|pause| 21.0 < *pause));
    }

    #[test]
    fn a_decorrelated_pause_lies_between_the_base_and_three_times_the_last() {
        let base = Duration::from_millis(10);
        let backoff = Backoff::exponential(base).jitter(Jitter::Decorrelated);
        let (random, mut previous) = (Random::seeded(6), Duration::ZERO);
        for retry in 1..50 {
            let pause = backoff.pause(retry, previous, &random);
            assert!(base <= pause && pause <= previous.max(base) * 3, "{pause:?} {previous:?}");
            previous = pause;
        }
        assert!(base * 3 < previous, "it grows");
    }

    proptest! {
        #[test]
        fn no_scatter_leads_above_the_cap(
            (growth, jitter) in (0_usize..5, 0_usize..4),
            (base, cap) in (0_u64..100_000, 0_u64..70_000),
            (retry, previous, seed) in (any::<u32>(), 0_u64..1_000_000, any::<u64>()),
        ) {
            let cap = Duration::from_millis(cap);
            let backoff = Backoff::new(GROWTHS[growth], Duration::from_millis(base))
                .capped_at(cap)
                .jitter(JITTERS[jitter]);
            let previous = Duration::from_millis(previous);
            prop_assert!(backoff.pause(retry, previous, &Random::seeded(seed)) <= cap);
        }

        #[test]
        fn the_cap_is_one_minute_unless_another_is_set(
            (growth, base, retry) in (0_usize..5, 0_u64..100_000, any::<u32>()),
        ) {
            let backoff = Backoff::new(GROWTHS[growth], Duration::from_millis(base));
            prop_assert!(backoff.pause_before(retry) <= Duration::from_mins(1));
        }
    }
}
