//! The tokio runtime, from its own counters.

use infra_core::metric::{Counter, Declaration, Gauge};
use tokio::runtime::Handle;

use super::growing;
use crate::exporter::Collector;

const WORKERS: Gauge = Gauge::new("infra_runtime_workers", "", "Worker threads of the runtime.");
const TASKS: Gauge =
    Gauge::new("infra_runtime_alive_tasks", "", "Tasks that were spawned and have not ended.");
const QUEUE: Gauge = Gauge::new(
    "infra_runtime_global_queue_depth",
    "",
    "Tasks that are ready and wait for any worker.",
);
const BUSY: Gauge = Gauge::new(
    "infra_runtime_busy_seconds_total",
    "seconds",
    "Time that all workers together were busy.",
);
const PARKS: Counter =
    Counter::new("infra_runtime_parks_total", "Times that a worker had nothing to do and slept.");

pub(super) const METRICS: &[Declaration] = &[
    WORKERS.declaration(),
    TASKS.declaration(),
    QUEUE.declaration(),
    growing(&BUSY),
    PARKS.declaration(),
];

/// Reads the figures of a tokio runtime.
#[derive(Debug, Clone)]
pub struct Runtime(Handle);

impl Runtime {
    /// Reads from the runtime of this handle.
    pub const fn of(handle: Handle) -> Self {
        Self(handle)
    }
}

impl Collector for Runtime {
    fn declarations(&self) -> Vec<Declaration> {
        METRICS.to_vec()
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
    fn collect(&self) {
        let metrics = self.0.metrics();
        let workers = 0..metrics.num_workers();
        WORKERS.set(metrics.num_workers() as f64);
        TASKS.set(metrics.num_alive_tasks() as f64);
        QUEUE.set(metrics.global_queue_depth() as f64);
        let busy = workers.clone().map(|worker| metrics.worker_total_busy_duration(worker));
        BUSY.set(busy.map(|busy| busy.as_secs_f64()).sum());
        PARKS.handle().absolute(workers.map(|worker| metrics.worker_park_count(worker)).sum());
    }
}
