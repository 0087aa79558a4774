//! Health: checks that run in the background, published as one report.

mod monitor;
mod state;

pub use monitor::{Monitor, Options};
pub use state::Readiness;
