//! Keys of several parts that cannot collide.

use std::fmt::{self, Display, Write as _};

use crate::Glob;

/// A key made of parts, divided by `:`; a `:` or `%` within a part is written as in a URL (RFC 3986), so two lists
/// of parts never make one key.
///
/// ```
/// use infra_cache::CompositeKey;
///
/// let seat = CompositeKey::new("room").and("a:b").and(3);
/// assert_eq!(seat.as_str(), "room:a%3Ab:3");
/// let room = CompositeKey::new("room").and("a:b");
/// assert!(room.below().matches(seat.as_str()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompositeKey(String);

impl CompositeKey {
    /// Creates a key of one part.
    pub fn new(part: impl Display) -> Self {
        Self(String::new()).with(part)
    }

    /// Adds a part.
    #[must_use]
    pub fn and(mut self, part: impl Display) -> Self {
        self.0.push(':');
        self.with(part)
    }

    fn with(mut self, part: impl Display) -> Self {
        // Writing into a string does not fail; what `Display` fails with leaves a shorter part.
        let _written = write!(Escaping(&mut self.0), "{part}").is_ok();
        self
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the pattern of all keys that begin with these parts and have more.
    pub fn below(&self) -> Glob {
        Glob::below(format!("{}:", self.0))
    }
}

impl Display for CompositeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<CompositeKey> for String {
    /// Returns the key as text.
    fn from(key: CompositeKey) -> Self {
        key.0
    }
}

struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for letter in s.chars() {
            match letter {
                ':' => self.0.push_str("%3A"),
                '%' => self.0.push_str("%25"),
                letter => self.0.push(letter),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(parts: &[String]) -> CompositeKey {
        let (first, rest) = parts.split_first().unwrap();
        rest.iter().fold(CompositeKey::new(first), CompositeKey::and)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn two_lists_of_parts_are_one_key_only_if_they_are_equal(
            one in proptest::collection::vec("[a:%3*]{0,3}", 1..4),
            other in proptest::collection::vec("[a:%3*]{0,3}", 1..4),
        ) {
            prop_assert_eq!(key(&one) == key(&other), one == other);
            let is_below = one.len() < other.len() && other.starts_with(&one);
            prop_assert_eq!(key(&one).below().matches(key(&other).as_str()), is_below);
            prop_assert_eq!(String::from(key(&one)), key(&one).to_string());
        }
    }
}
