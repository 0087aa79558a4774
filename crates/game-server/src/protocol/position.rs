//! Where a viewer stands in a room's events.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The incarnation of a room's event stream: offsets of different epochs do not compare.
///
/// Clients only ever compare it; it is 1 to 64 letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Epoch(String);

impl Epoch {
    /// The most characters of an epoch.
    pub const LONGEST: usize = 64;

    /// Takes `text` if it can be an epoch.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let fits = !text.is_empty() && text.len() <= Self::LONGEST;
        let is_plain = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
        (fits && text.bytes().all(is_plain)).then_some(Self(text))
    }

    /// Returns the epoch as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> Self {
        epoch.0
    }
}

impl TryFrom<String> for Epoch {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text).ok_or("an epoch is 1 to 64 letters, digits and hyphens")
    }
}

/// The last event that a viewer has seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The epoch of the room's stream.
    pub epoch: Epoch,
    /// The offset of the last event seen; 0 is before everything.
    pub offset: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_short_and_plain() {
        assert_eq!(Epoch::new("0195-aF").unwrap().as_str(), "0195-aF");
        assert!(Epoch::new("x".repeat(64)).is_some());
        for bad in [String::new(), "x".repeat(65), "a b".to_owned(), "a\n".to_owned()] {
            assert_eq!(Epoch::new(bad.clone()), None, "{bad:?}");
        }
        assert!(serde_json::from_str::<Epoch>("\"ü\"").is_err());
    }
}
