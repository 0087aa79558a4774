//! A message that failed for good.

use super::{Attempts, Message};
use crate::clock::Timestamp;

/// What kind of end made a message a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It failed as often as it may.
    Failed,
    /// A consumer said that it can never be done.
    Refused,
    /// As many consumers as may were lost with it.
    Crashed,
    /// Its time to live was over.
    Expired,
    /// Newer messages needed its place.
    Displaced,
    /// It was delivered or given back as often as it may.
    Exhausted,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 6] = [
        Self::Failed,
        Self::Refused,
        Self::Crashed,
        Self::Expired,
        Self::Displaced,
        Self::Exhausted,
    ];

    /// Returns the cause's name, for stored records, metrics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Crashed => "crashed",
            Self::Expired => "expired",
            Self::Displaced => "displaced",
            Self::Exhausted => "exhausted",
        }
    }
}

/// How one attempt on a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When, by the engine's clock.
    pub at: Timestamp,
    /// What the consumer said, or what is known of its loss.
    pub reason: String,
}

/// How many of the latest failures are kept of a message.
pub const MAX_HISTORY: usize = 16;

/// A message that failed for good, with why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message as it was published.
    pub message: Message,
    /// How often it was tried.
    pub attempts: Attempts,
    /// What kind of end it was.
    pub cause: Cause,
    /// Why it is dead.
    pub reason: String,
    /// The latest [`MAX_HISTORY`] failures and crashes, oldest first, also of earlier lives.
    pub history: Vec<Failure>,
    /// When it died, by the engine's clock.
    pub died: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Cause::ALL.map(Cause::name).into();
        assert_eq!(names.len(), Cause::ALL.len());
    }
}
