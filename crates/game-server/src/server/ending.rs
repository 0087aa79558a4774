//! How the time that an end may take is divided.

use std::time::Duration;

/// Within what time all connections are told, however long the end may take: players who were told first
/// wait until the last ones were. That they do not come back together is for what they are told.
const TELLING: Duration = Duration::from_millis(250);

/// How long the end takes once all connections are gone, as clients are told: rooms and stores are flushed.
const FLUSHING: Duration = Duration::from_millis(250);

/// At least and at most how long players are told that nobody is there.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);

/// The times of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// Within what time all connections are told.
    pub(super) telling: Duration,
    /// How long they then have to say goodbye; who says nothing is cut off.
    pub(super) goodbyes: Duration,
    /// How long sockets and listeners have after that.
    pub(super) edge: Duration,
    /// How long it may take until the rooms and queues have ended, from the beginning on.
    pub(super) core_by: Duration,
    /// What rooms and queues have at least.
    pub(super) core: Duration,
    /// How long the stores have to close.
    pub(super) stores: Duration,
}

impl Ending {
    /// Divides `grace`.
    pub(super) fn within(grace: Duration) -> Self {
        let eighth = grace / 8;
        Self {
            telling: TELLING.min(eighth),
            goodbyes: eighth,
            edge: eighth,
            core_by: eighth * 6,
            core: eighth,
            stores: eighth * 2,
        }
    }

    /// Returns how long nobody is there, if the next process starts at once and takes `opening` to serve,
    /// as this one did.
    pub(super) fn absence(&self, opening: Duration) -> Duration {
        (self.telling + FLUSHING).saturating_add(opening).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_keeps_within_its_time_and_tells_everybody_at_once_however_long_it_is() {
        for seconds in [0, 1, 2, 10, 60, 3_600] {
            let grace = Duration::from_secs(seconds);
            let ending = Ending::within(grace);
            let told = ending.telling + ending.goodbyes + ending.edge;
            let core = ending.core_by.saturating_sub(told).max(ending.core);
            assert!(told + core + ending.stores <= grace, "{ending:?}");
            assert!(ending.telling <= TELLING);
        }
    }

    #[test]
    fn players_are_told_what_the_end_and_the_next_start_take() {
        let ending = Ending::within(Duration::from_secs(10));
        let absence = |millis| ending.absence(Duration::from_millis(millis)).as_millis();
        assert_eq!((absence(0), absence(400), absence(3_000)), (500, 900, 3_500));
        assert_eq!(absence(600_000), 10_000, "a start that took minutes is no promise");
        assert_eq!(ending.absence(Duration::MAX), LONGEST);
    }
}
