//! A clock that a test moves by hand.

use std::{sync::Arc, time::Duration};

use infra_core::clock::{Clock, Instant, Timestamp};
use parking_lot::Mutex;

/// Where the wall clock of a [`ManualClock`] starts: 2024-01-01T00:00:00Z.
pub const DAWN: Timestamp = Timestamp::from_millis(1_704_067_200_000);

/// A [`Clock`] that stands still until it is told to move. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    now: Instant,
    wall: Timestamp,
}

impl ManualClock {
    /// Creates a clock at its start, its wall clock at [`DAWN`].
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Hands { now: Instant::START, wall: DAWN })))
    }

    /// Moves both hands forward.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.0.lock();
        hands.now = hands.now + by;
        hands.wall = hands.wall.plus(by);
    }

    /// Sets the wall clock alone, as an operator or a time service would: it may go back.
    pub fn skew(&self, wall: Timestamp) {
        self.0.lock().wall = wall;
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.0.lock().now
    }

    fn wall(&self) -> Timestamp {
        self.0.lock().wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_moves_both_hands_and_every_clone() {
        let clock = ManualClock::new();
        let other = clock.clone();
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(other.now().since_start(), Duration::from_millis(1_500));
        assert_eq!(other.wall().since(DAWN), Duration::from_millis(1_500));
    }

    #[test]
    fn a_skewed_wall_clock_leaves_the_monotonic_one_alone() {
        let clock = ManualClock::default();
        clock.advance(Duration::from_secs(5));
        clock.skew(Timestamp::EPOCH);
        assert_eq!(clock.wall(), Timestamp::EPOCH);
        assert_eq!(clock.now().since_start(), Duration::from_secs(5));
    }
}
