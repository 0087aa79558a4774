//! The version of a state by what changed: major, minor, patch.

use std::{fmt, str::FromStr};

use infra_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What changed from one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// Nothing.
    None,
    /// Values, but not their shape.
    Data,
    /// The shape: fields came, went or changed their type.
    Shape,
}

impl Change {
    /// Compares two states. The shape of a list is that of its elements together, so a list that grows
    /// by more of the same is data.
    ///
    /// ```
    /// use infra_persistence::state::Change;
    /// use serde_json::json;
    ///
    /// assert_eq!(Change::between(&json!({"round": 1}), &json!({"round": 2})), Change::Data);
    /// assert_eq!(Change::between(&json!({"round": 1}), &json!({"turn": 1})), Change::Shape);
    /// ```
    pub fn between(one: &Value, other: &Value) -> Self {
        if one == other {
            return Self::None;
        }
        if is_same_shape(one, other) { Self::Data } else { Self::Shape }
    }
}

fn is_same_shape(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| {
                    other.get(key).is_some_and(|other| is_same_shape(value, other))
                })
        }
        (Value::Array(one), Value::Array(other)) => match (one.first(), other.first()) {
            (Some(first), Some(_)) => {
                one.iter().chain(other).all(|element| is_same_shape(first, element))
            }
            (None, _) | (_, None) => true,
        },
        (Value::Null, Value::Null)
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_)) => true,
        _ => false,
    }
}

/// The version of a state, ordered by its three numbers and equal by them alone.
///
/// ```
/// use infra_persistence::state::StateVersion;
///
/// let version: StateVersion = "1.2.3".parse()?;
/// assert_eq!((version.major, version.minor, version.patch), (1, 2, 3));
/// assert_eq!(version.to_string(), "1.2.3");
/// assert!("1.2".parse::<StateVersion>().is_err());
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StateVersion {
    /// Raised by hand, for a change that readers cannot ignore.
    pub major: u32,
    /// Raised when the shape changes.
    pub minor: u32,
    /// Raised when the data changes.
    pub patch: u32,
}

impl StateVersion {
    /// The version of a state that is stored for the first time.
    pub const FIRST: Self = Self::new(1, 0, 0);

    /// Creates a version from its numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Returns the version after a change; the same one if nothing changed.
    #[must_use]
    pub const fn after(self, change: Change) -> Self {
        match change {
            Change::None => self,
            Change::Data => Self { patch: self.patch.saturating_add(1), ..self },
            Change::Shape => Self { minor: self.minor.saturating_add(1), patch: 0, ..self },
        }
    }

    /// Returns the first version of the next major one.
    #[must_use]
    pub const fn next_major(self) -> Self {
        Self::new(self.major.saturating_add(1), 0, 0)
    }

    /// Returns twelve bytes that sort as the versions do; no two versions share them.
    pub fn to_bytes(self) -> [u8; 12] {
        let number =
            u128::from(self.major) << 64 | u128::from(self.minor) << 32 | u128::from(self.patch);
        let mut bytes = [0; 12];
        for (byte, from) in bytes.iter_mut().zip(number.to_be_bytes().into_iter().skip(4)) {
            *byte = from;
        }
        bytes
    }
}

impl fmt::Display for StateVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for StateVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse =
            || Error::invalid("parse state version", format!("`{text}` is not like 1.2.3"));
        let number = |part: &str| {
            let is_plain = part == "0" || !part.starts_with(['0', '+']);
            is_plain.then(|| part.parse().ok()).flatten().ok_or_else(refuse)
        };
        let mut parts = text.splitn(4, '.');
        let mut next = || number(parts.next().unwrap_or_default());
        let version = Self::new(next()?, next()?, next()?);
        if parts.next().is_some() { Err(refuse()) } else { Ok(version) }
    }
}

impl TryFrom<String> for StateVersion {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<StateVersion> for String {
    fn from(version: StateVersion) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn a_version_survives_its_text_and_sorts_as_its_bytes(
            one in any::<(u32, u32, u32)>(),
            other in any::<(u32, u32, u32)>(),
        ) {
            let [one, other] = [one, other].map(|(a, b, c)| StateVersion::new(a, b, c));
            prop_assert_eq!(one.to_string().parse::<StateVersion>().unwrap(), one);
            prop_assert_eq!(one.cmp(&other), one.to_bytes().cmp(&other.to_bytes()));
            prop_assert_eq!(one == other, one.to_bytes() == other.to_bytes());
        }

        #[test]
        fn text_that_is_no_version_is_refused(text in "[0-9.+ a-]{0,12}") {
            if let Ok(version) = text.parse::<StateVersion>() {
                prop_assert_eq!(version.to_string(), text);
            }
        }
    }

    #[test]
    fn malformed_versions_are_refused() {
        for text in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "1.2.x",
            "1.2.-3",
            "01.2.3",
            "+1.2.3",
            " 1.2.3",
            "1.2.4294967296",
        ] {
            assert!(text.parse::<StateVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn versions_rise_strictly_in_their_order() {
        let texts = ["1.0.0", "1.0.1", "1.1.0", "2.0.0", "10.0.0"];
        let versions = texts.map(|text| text.parse::<StateVersion>().unwrap());
        assert!(versions.is_sorted_by(|one, other| one < other));
        let hashed: std::collections::HashSet<_> = versions.iter().chain(&versions).collect();
        assert_eq!(hashed.len(), texts.len());
    }

    #[test]
    fn data_raises_the_patch_and_shape_the_minor_version() {
        let base = json!({"round": 1, "scores": [1, 2], "names": []});
        let cases = [
            (json!({"round": 1, "scores": [1, 2], "names": []}), "1.2.3"),
            (json!({"round": 2, "scores": [1, 2], "names": []}), "1.2.4"),
            (json!({"round": 1, "scores": [1, 2, 3], "names": ["ann"]}), "1.2.4"),
            (json!({"round": 1, "scores": [1, "2"], "names": []}), "1.3.0"),
            (json!({"round": 1, "scores": [1, 2]}), "1.3.0"),
            (json!({"round": null, "scores": [1, 2], "names": []}), "1.3.0"),
        ];
        for (state, expected) in cases {
            let change = Change::between(&base, &state);
            assert_eq!(StateVersion::new(1, 2, 3).after(change).to_string(), expected, "{state}");
        }
        assert_eq!(StateVersion::new(1, 2, 3).next_major(), StateVersion::new(2, 0, 0));
    }
}
