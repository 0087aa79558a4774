//! A seedable source of randomness for jitter and ids.
//!
//! It is not for secrets: keys, tokens and shuffles take the operating system's entropy.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// The golden-ratio step of `SplitMix64`.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of pseudo-random numbers, shared by reference and free of locks.
///
/// It is `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
///
/// ```
/// use infra_core::random::Random;
///
/// let random = Random::seeded(7);
/// assert_eq!(random.next_u64(), Random::seeded(7).next_u64());
/// assert!(random.below(10) < 10);
/// ```
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// Creates the stream of `seed`; the same seed gives the same numbers.
    pub const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Creates a stream whose seed comes from the operating system.
    pub fn from_system() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// Returns the next number.
    pub fn next_u64(&self) -> u64 {
        // Relaxed: each call takes its own step, and no other memory hangs on the order.
        let state = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, or zero if `bound` is zero.
    pub fn below(&self, bound: u64) -> u64 {
        // Lemire's multiplication; the bias is below bound / 2^64.
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Returns a number in `0.0..1.0`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub fn unit(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_those_of_the_paper() {
        let random = Random::seeded(0);
        assert_eq!(random.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_values() {
        let random = Random::seeded(1);
        let mut seen = [false; 6];
        for _ in 0..1_000 {
            let value = usize::try_from(random.below(6)).unwrap();
            seen[value] = true;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        assert_eq!(seen, [true; 6]);
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn two_system_streams_differ() {
        assert_ne!(Random::from_system().next_u64(), Random::from_system().next_u64());
    }
}
