//! What the operator chose: command line over environment over file over defaults.

mod backend;
mod limits;
mod log;
mod options;
mod resolve;

pub use backend::{Backend, Role, ServerUrl};
pub use limits::{Allowance, Limits};
pub use log::{LogFiles, LogFormat, LogRotation};
pub use options::{Cli, Job, Options, Recovery};
pub use resolve::{ConfigError, Settings};
