//! Alerts within the process, for those who run no Prometheus.
//!
//! A [`Rule`] says when a value is bad, for how long, and how loudly to say it; [`Alerts`] holds
//! the rules, evaluates them, keeps what is active and what was, and tells the handlers.

mod engine;
mod manager;
mod measure;
mod rule;

pub use engine::{Alert, Notice};
pub use manager::{Alerts, Handler};
pub use measure::Measure;
pub use rule::{Bound, Rule, Severity};

pub(crate) use manager::METRICS;
