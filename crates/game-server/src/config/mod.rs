//! What the operator chose: command line over environment over file over defaults.

mod backend;
mod command_line;
mod error;
mod file;
mod game;
mod limits;
mod log;
mod options;
mod origin;
mod resolve;
mod themes;
mod tuning;

pub use backend::{Backend, Role, ServerUrl};
pub use error::ConfigError;
pub use limits::{Allowance, Limits};
pub use log::{LogFiles, LogFormat, LogRotation};
pub use options::{Cli, Job, Options, Recovery};
pub use origin::{Origin, Origins, Place};
pub use resolve::Settings;
pub use themes::{THEMES, Theme};
pub use tuning::Tuning;
