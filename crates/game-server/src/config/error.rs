//! What is wrong with the configuration, and where it was written.

use std::fmt;

use super::origin::{Origin, Origins, Place};

/// What is wrong with which option, and where its value was written: the option's name on the command
/// line, the variable, or file, line and column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// None for what is no option at all.
    option: Option<String>,
    why: String,
    origin: Option<Origin>,
}

impl ConfigError {
    pub(super) fn new(option: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { option: Some(option.into()), why: why.to_string(), origin: None }
    }

    /// Returns what is wrong at a place of a file, within the value of an option or outside of all.
    pub(super) fn in_file(place: Place, option: Option<String>, why: impl fmt::Display) -> Self {
        Self { option, why: why.to_string(), origin: Some(Origin::File(place)) }
    }

    /// Adds where the option was written, if it was.
    #[must_use]
    pub(super) fn found_by(mut self, origins: &Origins) -> Self {
        self.origin = self.option.as_ref().and_then(|option| origins.get(option)).cloned();
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = &self.why;
        match (&self.origin, &self.option) {
            (Some(Origin::File(place)), Some(option)) => write!(f, "{place}: {option}: {why}"),
            (Some(Origin::File(place)), None) => write!(f, "{place}: {why}"),
            (Some(Origin::Variable(variable)), _) => write!(f, "variable {variable}: {why}"),
            (Some(Origin::Argument) | None, Some(option)) => write!(f, "option --{option}: {why}"),
            (Some(Origin::Argument) | None, None) => f.write_str(why),
        }
    }
}

impl std::error::Error for ConfigError {}
