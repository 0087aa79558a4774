//! Who sits at the table: ids of people, numbers of their actions, ways of bots.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A person, known by a resume token; never shown to other players.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlayerId(Uuid);

impl PlayerId {
    /// Wraps a UUID of any version.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Returns the UUID.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for PlayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number that a client gives to an action; it grows with each one, gaps are allowed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ActionNumber(u64);

impl ActionNumber {
    /// Wraps a number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ActionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a bot plays; each way is legal and sensible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// Declares what its hand is worth, and takes a redeal of a weak hand.
    #[default]
    Steady,
    /// Declares one more than its hand is worth, and takes every redeal.
    Bold,
    /// Declares less than its hand is worth, likes zero, and keeps its weak hands.
    Cautious,
}

impl Style {
    /// Every style.
    pub const ALL: [Self; 3] = [Self::Steady, Self::Bold, Self::Cautious];
}
