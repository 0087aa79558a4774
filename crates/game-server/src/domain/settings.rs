//! What the host chooses for a room: how long players and bots may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{bounds::Bounds, refusal::Refusal};

/// A number of milliseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(u32);

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Takes a number of milliseconds.
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// Returns the number of milliseconds.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the time as a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

/// The times of a room, and its bounds; in JSON whole milliseconds, and what is left out has its default.
///
/// ```
/// use game_server::domain::{Millis, Settings};
///
/// let settings: Settings = serde_json::from_str(r#"{"turn_ms": 20000}"#).unwrap();
/// assert_eq!(settings.turn_ms, Millis::new(20_000));
/// assert_eq!(settings.declaration_ms, Millis::new(120_000));
/// assert!(settings.check().is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long a player may think about a redeal; 60 s.
    pub preparation_ms: Millis,
    /// How long a player may think about a declaration; 120 s.
    pub declaration_ms: Millis,
    /// How long a player may think about a play; 300 s.
    pub turn_ms: Millis,
    /// How long a bot takes at least; 0.5 s.
    pub bot_min_ms: Millis,
    /// How long a bot takes at most; 1.5 s.
    pub bot_max_ms: Millis,
    /// How long the scores of a round stand before the next deal; 4 s.
    pub scoring_ms: Millis,
    /// How much the game may take: the operator's to choose.
    #[serde(skip_serializing_if = "Bounds::is_none")]
    pub bounds: Bounds,
}

impl Settings {
    /// The longest time that a player may be given: one hour.
    pub const LONGEST: Millis = Millis::new(3_600_000);

    /// The longest time that a bot or the scores may take: one minute.
    pub const LONGEST_PAUSE: Millis = Millis::new(60_000);

    /// Checks that no time and no bound is out of its range.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidSettings`] if a player has no time at all or more than
    /// [`LONGEST`](Self::LONGEST), a pause is longer than [`LONGEST_PAUSE`](Self::LONGEST_PAUSE),
    /// a bot's least time is above its greatest, or a bound is out of its range.
    pub fn check(&self) -> Result<(), Refusal> {
        let thinking = [self.preparation_ms, self.declaration_ms, self.turn_ms];
        let thinks = thinking.iter().all(|time| Millis::ZERO < *time && *time <= Self::LONGEST);
        let pauses = self.bot_max_ms.max(self.scoring_ms) <= Self::LONGEST_PAUSE;
        if thinks && pauses && self.bot_min_ms <= self.bot_max_ms {
            return self.bounds.check();
        }
        Err(Refusal::InvalidSettings)
    }

    /// Sets the pauses of bots and of scoring to nothing, for tests and load.
    #[must_use]
    pub const fn without_pauses(mut self) -> Self {
        self.bot_min_ms = Millis::ZERO;
        self.bot_max_ms = Millis::ZERO;
        self.scoring_ms = Millis::ZERO;
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            preparation_ms: Millis::new(60_000),
            declaration_ms: Millis::new(120_000),
            turn_ms: Millis::new(300_000),
            bot_min_ms: Millis::new(500),
            bot_max_ms: Millis::new(1_500),
            scoring_ms: Millis::new(4_000),
            bounds: Bounds::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_and_a_game_without_pauses_are_in_range() {
        assert_eq!(Settings::default().check(), Ok(()));
        let quick = Settings::default().without_pauses();
        assert_eq!(quick.check(), Ok(()));
        assert_eq!(quick.bot_max_ms.duration(), Duration::ZERO);
        assert_eq!(quick.turn_ms.duration(), Duration::from_mins(5));
    }

    #[test]
    fn a_time_out_of_its_range_is_refused() {
        let good = Settings::default();
        for bad in [
            Settings { preparation_ms: Millis::ZERO, ..good },
            Settings { declaration_ms: Millis::ZERO, ..good },
            Settings { turn_ms: Millis::ZERO, ..good },
            Settings { turn_ms: Millis::new(3_600_001), ..good },
            Settings { bot_max_ms: Millis::new(60_001), ..good },
            Settings { scoring_ms: Millis::new(60_001), ..good },
            Settings { bot_min_ms: Millis::new(1_501), ..good },
        ] {
            assert_eq!(bad.check(), Err(Refusal::InvalidSettings), "{bad:?}");
        }
    }

    #[test]
    fn an_unknown_or_negative_time_is_refused() {
        for bad in [r#"{"turn": 5}"#, r#"{"turn_ms": -1}"#, r#"{"turn_ms": 4294967296}"#] {
            assert!(serde_json::from_str::<Settings>(bad).is_err(), "{bad}");
        }
    }
}
