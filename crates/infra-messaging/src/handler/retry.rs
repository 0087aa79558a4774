//! When a failed message is tried again, as data.

use std::{num::NonZeroU32, time::Duration};

use infra_core::random::Random;

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is tried again after this pause.
    Again(Duration),
    /// It was tried as often as it may.
    GiveUp,
}

/// The pauses before the retries of a message; when they are used up, it is given up.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use infra_messaging::handler::{Schedule, Step};
///
/// let schedule = Schedule::exponential(Duration::from_secs(1), 2.0, 5).capped_at(Duration::from_secs(10));
/// let pauses: Vec<u64> = (1..=5)
///     .filter_map(NonZeroU32::new)
///     .map(|attempt| schedule.pause_after(attempt).as_secs())
///     .collect();
/// assert_eq!(pauses, [1, 2, 4, 8, 10]);
/// assert_eq!(schedule.after(NonZeroU32::MAX), Step::GiveUp);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    pauses: Pauses,
    cap: Duration,
    /// The part of each pause that is drawn by lot.
    jitter: f64,
    retries: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Pauses {
    Listed(Vec<Duration>),
    Growing { initial: Duration, multiplier: f64 },
}

impl Schedule {
    /// Creates a schedule of listed pauses; there are as many retries.
    pub fn listed(pauses: impl Into<Vec<Duration>>) -> Self {
        let pauses = pauses.into();
        let retries = u32::try_from(pauses.len()).unwrap_or(u32::MAX);
        Self { pauses: Pauses::Listed(pauses), cap: Duration::MAX, jitter: 0.0, retries }
    }

    /// Creates a schedule where every pause is the same.
    pub fn fixed(pause: Duration, retries: u32) -> Self {
        Self::exponential(pause, 1.0, retries)
    }

    /// Creates a schedule where each pause is `multiplier` times the one before (at least once),
    /// at most five minutes unless [`Schedule::capped_at`] says otherwise.
    pub fn exponential(initial: Duration, multiplier: f64, retries: u32) -> Self {
        let multiplier = if multiplier.is_finite() { multiplier.max(1.0) } else { 1.0 };
        let pauses = Pauses::Growing { initial, multiplier };
        Self { pauses, cap: Duration::from_mins(5), jitter: 0.0, retries }
    }

    /// Sets the longest pause.
    #[must_use]
    pub const fn capped_at(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Sets which part of each pause, from 0 to 1, is drawn by lot: at 1 a pause is anything
    /// between nothing and the whole (full jitter), at 0 (the default) it is exact.
    #[must_use]
    pub const fn jitter(mut self, part: f64) -> Self {
        self.jitter = part.clamp(0.0, 1.0);
        self
    }

    /// Returns how many retries there are.
    pub const fn retries(&self) -> u32 {
        self.retries
    }

    /// Returns the whole pause after the `attempt`-th failure, as if there were no end of retries.
    pub fn pause_after(&self, attempt: NonZeroU32) -> Duration {
        let before = attempt.get() - 1;
        let pause = match &self.pauses {
            Pauses::Listed(pauses) => {
                let place = usize::try_from(before).unwrap_or(usize::MAX);
                pauses.get(place).or(pauses.last()).copied().unwrap_or_default()
            }
            Pauses::Growing { initial, multiplier } => {
                grown(*initial, *multiplier, before, self.cap)
            }
        };
        pause.min(self.cap)
    }

    /// Returns what follows the `attempt`-th failure.
    pub fn after(&self, attempt: NonZeroU32) -> Step {
        if self.retries < attempt.get() {
            return Step::GiveUp;
        }
        Step::Again(self.pause_after(attempt))
    }

    /// Returns the same, its jitter drawn.
    pub fn drawn(&self, attempt: NonZeroU32, random: &Random) -> Step {
        match self.after(attempt) {
            Step::Again(pause) => {
                Step::Again(pause.mul_f64(1.0 - self.jitter * random.unit()).min(pause))
            }
            Step::GiveUp => Step::GiveUp,
        }
    }
}

/// Returns `initial * multiplier ^ power`, at most `cap`.
fn grown(initial: Duration, multiplier: f64, power: u32, cap: Duration) -> Duration {
    let power = i32::try_from(power).unwrap_or(i32::MAX);
    // An overflow is infinity, and anything beyond the cap is the cap.
    let seconds = initial.as_secs_f64() * multiplier.powi(power);
    Duration::try_from_secs_f64(seconds).unwrap_or(cap).min(cap).max(initial.min(cap))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn listed_pauses_are_taken_in_turn_and_then_it_is_given_up() {
        let pauses = [5, 60, 600].map(Duration::from_secs);
        let schedule = Schedule::listed(pauses);
        for (number, pause) in (1..).zip(pauses) {
            assert_eq!(schedule.after(attempt(number)), Step::Again(pause));
        }
        assert_eq!(schedule.after(attempt(4)), Step::GiveUp);
        assert_eq!(Schedule::listed([]).after(attempt(1)), Step::GiveUp);
    }

    #[test]
    fn one_two_four_eight_and_then_the_cap() {
        let schedule = Schedule::exponential(Duration::from_secs(1), 2.0, 9)
            .capped_at(Duration::from_secs(10));
        let pauses = [1, 2, 3, 4, 5].map(|number| schedule.pause_after(attempt(number)).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 10]);
    }

    proptest! {
        #[test]
        fn a_growing_pause_never_shrinks_never_passes_its_cap_and_never_overflows(
            initial in 0..100_000_u64, multiplier in 0.0..1e9_f64, cap in 0..1_000_000_u64,
            first in 1..u32::MAX, seed: u64, jitter in 0.0..=1.0_f64,
        ) {
            let cap = Duration::from_millis(cap);
            let schedule = Schedule::exponential(Duration::from_millis(initial), multiplier, u32::MAX)
                .capped_at(cap)
                .jitter(jitter);
            let mut last = Duration::ZERO;
            for number in (1..40).chain([first, u32::MAX]).map(attempt) {
                let pause = schedule.pause_after(number);
                prop_assert!(pause <= cap);
                prop_assert!(last <= pause || number.get() == first);
                last = if number.get() == first { last } else { pause };
                let Step::Again(drawn) = schedule.drawn(number, &Random::seeded(seed)) else {
                    return Err(TestCaseError::fail("given up"));
                };
                prop_assert!(drawn <= pause && pause.mul_f64(1.0 - jitter).saturating_sub(drawn) <= Duration::from_nanos(9));
                prop_assert_eq!(schedule.drawn(number, &Random::seeded(seed)), Step::Again(drawn));
            }
        }

        #[test]
        fn a_fixed_pause_is_the_same_for_every_attempt(
            pause in 0..300_000_u64, number in 1..=u32::MAX,
        ) {
            let pause = Duration::from_millis(pause);
            let schedule = Schedule::fixed(pause, u32::MAX);
            prop_assert_eq!(schedule.after(attempt(number)), Step::Again(pause));
        }
    }
}
