//! Liap Tui, a four-player board game served by the infra crates.

pub mod config;
pub mod domain;
pub mod protocol;
pub mod simulate;
