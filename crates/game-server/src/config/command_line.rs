//! The command line and the environment, and which of them each option came from.

use std::ffi::OsString;

use clap::{
    Arg, Command, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue},
};

use super::{options::Cli, origin::Origins, themes};

impl Cli {
    /// Returns the command with its options grouped by theme.
    pub fn grouped() -> Command {
        let mut command = Self::command();
        for theme in themes::THEMES {
            for option in theme.options {
                let id = option.replace('-', "_");
                command = command.mut_arg(id, |argument| argument.help_heading(theme.title));
            }
        }
        command
    }

    /// Reads a command line, and the environment.
    ///
    /// # Errors
    ///
    /// What is wrong, naming the option, or the variable if the value is the environment's; also
    /// the wish for help or the version.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<(Self, Origins), clap::Error> {
        let line: Vec<OsString> = line.into_iter().collect();
        let command = Self::grouped();
        let matches = command
            .clone()
            .try_get_matches_from(&line)
            .map_err(|error| name_variable(error, &command, &line))?;
        let cli = Self::from_arg_matches(&matches)?;
        Ok((cli, Origins::of(&command, &matches)))
    }
}

/// Names the variable that a bad value came from.
fn name_variable(error: clap::Error, command: &Command, line: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let option = shown.split(' ').next().unwrap_or_default().to_owned();
    let is_meant = |argument: &&Arg| {
        argument.get_long().is_some_and(|long| option.strip_prefix("--") == Some(long))
    };
    let variable = command.get_arguments().find(is_meant).and_then(Arg::get_env);
    let Some(variable) = variable.filter(|variable| std::env::var_os(variable).is_some()) else {
        return error;
    };
    let with_value = format!("{option}=");
    let names = |word: &OsString| {
        word.to_str().is_some_and(|word| word == option || word.starts_with(&with_value))
    };
    if line.iter().any(names) {
        return error;
    }
    let text = error.to_string();
    let why = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let message = format!("variable {}: {why}", variable.to_string_lossy());
    command.clone().error(error.kind(), message)
}
