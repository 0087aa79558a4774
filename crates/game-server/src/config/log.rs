//! How and where the log is written.

use std::path::PathBuf;

use clap::ValueEnum;
use infra_observability::log::{Every, Format};
use serde::Deserialize;

use super::{error::ConfigError, options::Options, resolve::at_least_one};

/// How an entry of the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One flat JSON object a line.
    #[default]
    Json,
    /// `key=value` pairs.
    Logfmt,
    /// Text for a person at a terminal.
    Pretty,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Logfmt => Self::Logfmt,
            LogFormat::Pretty => Self::Pretty,
        }
    }
}

/// When a new log file begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogRotation {
    /// At each full hour, UTC.
    Hour,
    /// At each midnight, UTC.
    #[default]
    Day,
}

impl From<LogRotation> for Every {
    fn from(rotation: LogRotation) -> Self {
        match rotation {
            LogRotation::Hour => Self::Hour,
            LogRotation::Day => Self::Day,
        }
    }
}

/// Files that the log is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFiles {
    /// Where they are.
    pub folder: PathBuf,
    /// When a new one begins.
    pub rotation: LogRotation,
    /// How many are kept.
    pub kept: usize,
}

/// Returns the files that the options name, if they do.
pub(super) fn files(options: &Options) -> Result<Option<LogFiles>, ConfigError> {
    let Some(folder) = options.log_folder.clone() else {
        let idle = [
            ("log-rotation", options.log_rotation.is_some()),
            ("log-kept", options.log_kept.is_some()),
        ];
        return match idle.into_iter().find(|(_, is_set)| *is_set) {
            Some((option, _)) => Err(ConfigError::new(option, "it needs --log-folder")),
            None => Ok(None),
        };
    };
    let kept = at_least_one("log-kept", options.log_kept.unwrap_or(14))? as usize;
    Ok(Some(LogFiles { folder, rotation: options.log_rotation.unwrap_or_default(), kept }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_folder_and_kept_for_a_fortnight() {
        let none = Options::default();
        assert_eq!(files(&none), Ok(None));
        let folder = || Some(PathBuf::from("logs"));
        let some = files(&Options { log_folder: folder(), ..Options::default() });
        let (rotation, kept) = (LogRotation::Day, 14);
        assert_eq!(some, Ok(Some(LogFiles { folder: "logs".into(), rotation, kept })));
        let kept = Options { log_kept: Some(3), ..Options::default() };
        let refused = files(&kept).unwrap_err().to_string();
        assert_eq!(refused, "option --log-kept: it needs --log-folder");
        let none_kept = Options { log_folder: folder(), log_kept: Some(0), ..Options::default() };
        assert!(files(&none_kept).unwrap_err().to_string().contains("1 or more"));
        let rotation = Options { log_rotation: Some(LogRotation::Hour), ..Options::default() };
        assert!(files(&rotation).unwrap_err().to_string().contains("--log-rotation"));
    }
}
