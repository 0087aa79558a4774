//! What befalls the chunks of all connections, by chance and by a seed.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use infra_core::random::Random;
use parking_lot::Mutex;

/// How it is on the way to the server, for connections that are open as well as for new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weather {
    /// What is sent arrives.
    #[default]
    Calm,
    /// Chunks are struck by chance, in each direction.
    Rough {
        /// Of a thousand chunks so many do not arrive: their connection is cut instead.
        cut: u64,
        /// Of a thousand chunks so many arrive late.
        stalled: u64,
        /// How late.
        stall: Duration,
    },
    /// Nothing arrives. A connection over which something is sent is dead from then on, also when the
    /// weather is better: it stays open, and nobody answers. Of new connections every other one is cut,
    /// the others are dead.
    Outage,
}

/// What happens to one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    ArrivesAfter(Duration),
    Cut,
    Lost,
}

/// The weather, and the dice.
#[derive(Debug)]
pub(super) struct Sky {
    weather: Mutex<Weather>,
    random: Random,
    struck: AtomicU64,
}

impl Sky {
    pub(super) fn new(seed: u64) -> Self {
        Self { weather: Mutex::default(), random: Random::seeded(seed), struck: AtomicU64::new(0) }
    }

    pub(super) fn set(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    /// Returns how many chunks and connections did not arrive.
    pub(super) fn struck(&self) -> u64 {
        self.struck.load(SeqCst)
    }

    /// Decides about a chunk.
    pub(super) fn of_chunk(&self) -> Fate {
        let weather = *self.weather.lock();
        let fate = match weather {
            Weather::Calm => Fate::Arrives,
            Weather::Outage => Fate::Lost,
            Weather::Rough { cut, stalled, stall } => match self.random.below(1_000) {
                drawn if drawn < cut => Fate::Cut,
                drawn if drawn < cut + stalled => Fate::ArrivesAfter(stall),
                _ => Fate::Arrives,
            },
        };
        self.count(fate)
    }

    /// Decides about a new connection.
    pub(super) fn of_connection(&self) -> Fate {
        if *self.weather.lock() != Weather::Outage {
            return Fate::Arrives;
        }
        let is_refused = self.random.below(2) == 0;
        self.count(if is_refused { Fate::Cut } else { Fate::Lost })
    }

    fn count(&self, fate: Fate) -> Fate {
        if matches!(fate, Fate::Cut | Fate::Lost) {
            self.struck.fetch_add(1, SeqCst);
        }
        fate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_struck_as_often_as_was_said_and_the_same_ones_by_the_same_seed() {
        let draw = |seed| {
            let sky = Sky::new(seed);
            let stall = Duration::from_millis(200);
            sky.set(Weather::Rough { cut: 50, stalled: 100, stall });
            let fates: Vec<Fate> = (0..10_000).map(|_| sky.of_chunk()).collect();
            assert_eq!(sky.of_connection(), Fate::Arrives);
            let count = |fate| fates.iter().filter(|found| **found == fate).count();
            let (cut, late) = (count(Fate::Cut), count(Fate::ArrivesAfter(stall)));
            assert!((400..600).contains(&cut) && (850..1_150).contains(&late), "{cut} {late}");
            assert_eq!(sky.struck(), cut as u64);
            fates
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
