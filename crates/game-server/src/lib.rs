//! Liap Tui, a four-player board game served by the infra crates.

pub mod archive;
pub mod assets;
pub mod backup;
mod checksums;
pub mod config;
pub mod credentials;
pub mod domain;
pub mod forget;
pub mod generate;
pub mod limits;
pub mod observe;
mod people;
pub mod protocol;
pub mod restore;
pub mod rooms;
pub mod server;
pub mod session;
pub mod simulate;
mod telemetry;
pub mod verify;

/// Returns every metric that the server can have, with those of its process, cgroup and runtime.
pub fn declarations() -> Vec<infra_core::metric::Declaration> {
    let mut all = server::declarations();
    all.extend(infra_observability::collect::METRICS.concat());
    all
}

/// Creates the exporter of every metric that the server has, with figures of its process, of its
/// cgroup and, within a runtime, of that.
pub fn exporter() -> infra_observability::exporter::Exporter {
    use infra_observability::{
        collect::{Cgroup, Process, Runtime},
        exporter::Exporter,
    };
    let all = Exporter::builder()
        .metrics(&server::declarations())
        .collector(Process::default())
        .collector(Cgroup::default());
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => all.collector(Runtime::of(runtime)).build(),
        Err(_) => all.build(),
    }
}
