//! Where the value of an option was written.

use std::{collections::BTreeMap, fmt};

use clap::{ArgMatches, Command, parser::ValueSource};

/// Where the value of an option was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Argument,
    /// In the environment, in this variable.
    Variable(String),
    /// In a file.
    File(Place),
}

/// A place in a file; lines and columns are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The character of the line.
    pub column: usize,
}

impl Place {
    /// Returns the place of a byte of a file's text.
    pub(super) fn of(file: &str, text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { file: file.to_owned(), line, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}, column {}", self.file, self.line, self.column)
    }
}

/// Where each option that is set was written, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Returns where what clap found was written.
    pub(super) fn of(command: &Command, matches: &ArgMatches) -> Self {
        let origin = |argument: &clap::Arg| match matches.value_source(argument.get_id().as_str()) {
            Some(ValueSource::CommandLine) => Some(Origin::Argument),
            Some(ValueSource::EnvVariable) => {
                let variable = argument.get_env()?.to_string_lossy().into_owned();
                Some(Origin::Variable(variable))
            }
            _ => None,
        };
        let named =
            |argument: &clap::Arg| Some((argument.get_long()?.to_owned(), origin(argument)?));
        Self(command.get_arguments().filter_map(named).collect())
    }

    /// Returns these, with those of `weaker` where an option is not among them.
    #[must_use]
    pub(super) fn or(self, weaker: Self) -> Self {
        Self(weaker.0.into_iter().chain(self.0).collect())
    }

    /// Returns where an option was written, if it was.
    pub(super) fn get(&self, option: &str) -> Option<&Origin> {
        self.0.get(option)
    }
}

impl FromIterator<(String, Origin)> for Origins {
    fn from_iter<T: IntoIterator<Item = (String, Origin)>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}
