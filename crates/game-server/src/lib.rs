//! Liap Tui, a four-player board game served by the infra crates.

pub mod assets;
pub mod backup;
pub mod config;
pub mod credentials;
pub mod domain;
pub mod protocol;
pub mod rooms;
pub mod server;
pub mod session;
pub mod simulate;
mod telemetry;

/// Creates the exporter of every metric that the server has, with figures of its process, of its
/// cgroup and, within a runtime, of that.
pub fn exporter() -> infra_observability::exporter::Exporter {
    use infra_observability::{
        collect::{Cgroup, Process, Runtime},
        exporter::Exporter,
    };
    let all = Exporter::builder()
        .metrics(&server::declarations())
        .metrics(&infra_observability::declarations())
        .collector(Process::default())
        .collector(Cgroup::default());
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => all.collector(Runtime::of(runtime)).build(),
        Err(_) => all.build(),
    }
}
