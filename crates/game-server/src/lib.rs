//! Liap Tui, a four-player board game served by the infra crates.

pub mod assets;
pub mod config;
pub mod credentials;
pub mod domain;
pub mod protocol;
pub mod rooms;
pub mod server;
pub mod session;
pub mod simulate;
mod telemetry;

/// Creates the exporter of every metric that the server has.
pub fn exporter() -> infra_observability::exporter::Exporter {
    infra_observability::exporter::Exporter::new(&server::declarations())
}
