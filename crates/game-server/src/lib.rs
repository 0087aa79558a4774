//! Liap Tui, a four-player board game served by the infra crates.

pub mod assets;
pub mod config;
pub mod credentials;
pub mod domain;
pub mod protocol;
pub mod rooms;
pub mod session;
pub mod simulate;
mod telemetry;
