//! Health: checks that run in the background, published as one report.

pub mod check;
mod hysteresis;
mod monitor;
mod state;

pub use hysteresis::{Hysteresis, Thresholds};
pub use monitor::{Group, Monitor, Options};
pub use state::Readiness;

pub(crate) use monitor::METRICS;
