//! Versions, positions and what a writer expects of them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Before everything.
            pub const ZERO: Self = Self(0);

            /// After everything.
            pub const MAX: Self = Self(u64::MAX);

            /// Creates the value `number`.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Returns the number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Returns the value after this one; the last one is its own successor.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// Returns the value `count` places after this one; it saturates.
            #[must_use]
            pub const fn plus(self, count: u64) -> Self {
                Self(self.0.saturating_add(count))
            }

            /// Returns the value before this one; zero stays zero.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// The version of a document or the number of an event in its stream; the first is 1.
    Version
}

counter! {
    /// The place of an event in its store, over all streams; the first is 1, and it only grows.
    Position
}

counter! {
    /// A fencing token: each new owner of a scope gets a higher one.
    FencingToken
}

/// What a writer expects to find before its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// Anything at all.
    #[default]
    Any,
    /// Nothing: no document under the key, no event in the stream.
    Absent,
    /// Something, at any version.
    Exists,
    /// Exactly this version.
    Exactly(Version),
}

impl Expected {
    /// Returns whether `actual` (zero for nothing) is what was expected.
    ///
    /// ```
    /// use infra_core::version::{Expected, Version};
    ///
    /// assert!(Expected::Absent.admits(Version::ZERO));
    /// assert!(!Expected::Exactly(Version::new(2)).admits(Version::new(3)));
    /// ```
    pub fn admits(self, actual: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => actual == Version::ZERO,
            Self::Exists => actual > Version::ZERO,
            Self::Exactly(version) => actual == version,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::Absent => f.write_str("nothing"),
            Self::Exists => f.write_str("something"),
            Self::Exactly(version) => write!(f, "version {version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_expectation_admits_what_it_names() {
        let (none, two) = (Version::ZERO, Version::new(2));
        let table = [
            (Expected::Any, true, true),
            (Expected::Absent, true, false),
            (Expected::Exists, false, true),
            (Expected::Exactly(two), false, true),
            (Expected::Exactly(Version::new(1)), false, false),
        ];
        for (expected, of_none, of_two) in table {
            assert_eq!((expected.admits(none), expected.admits(two)), (of_none, of_two));
        }
    }

    #[test]
    fn counters_saturate_at_both_ends() {
        assert_eq!(Version::MAX.next(), Version::MAX);
        assert_eq!(Version::ZERO.previous(), Version::ZERO);
        assert_eq!(Position::new(3).plus(4), Position::new(7));
    }
}
