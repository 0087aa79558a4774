//! What the operator chose: command line over environment over file over defaults.

mod backend;
mod options;
mod resolve;

pub use backend::{Backend, Role};
pub use options::{Cli, Job, Options};
pub use resolve::{ConfigError, Settings};
