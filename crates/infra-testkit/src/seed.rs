//! Randomness that a failing test names, so that the failure can be had again.

use std::{env, fmt};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The environment variable that repeats one seed.
pub const SEED: &str = "TEST_SEED";

/// The seed of one run of a randomised test. Print it in every assertion.
///
/// ```
/// use infra_testkit::seed::Seed;
/// use rand::RngExt as _;
///
/// for seed in Seed::each(3) {
///     let mut dice = seed.dice();
///     let roll = dice.random_range(1..=6);
///     assert!((1..=6).contains(&roll), "{seed}");
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// Yields the seeds `0..count`, or only the one that the environment names in [`SEED`].
    pub fn each(count: u64) -> impl Iterator<Item = Self> {
        Self::chosen(env::var(SEED).ok().as_deref(), count)
    }

    fn chosen(named: Option<&str>, count: u64) -> impl Iterator<Item = Self> + use<> {
        let one = named.and_then(|text| text.parse().ok());
        let (first, end) = one.map_or((0, count), |seed: u64| (seed, seed.saturating_add(1)));
        (first..end).map(Self)
    }

    /// Returns the generator of this seed; its numbers are the same on every machine.
    pub fn dice(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repeat with {SEED}={}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use super::*;

    #[test]
    fn a_named_seed_stands_alone_and_rolls_the_same_dice() {
        let seeds: Vec<_> = Seed::chosen(Some("41"), 3).collect();
        assert_eq!(seeds, [Seed(41)]);
        let roll = || Seed(41).dice().random::<u64>();
        assert_eq!(roll(), roll());
        assert_eq!(Seed(41).to_string(), "repeat with TEST_SEED=41");
    }

    #[test]
    fn without_a_name_every_seed_below_the_count_has_its_turn() {
        assert_eq!(Seed::chosen(None, 3).collect::<Vec<_>>(), [Seed(0), Seed(1), Seed(2)]);
    }
}
