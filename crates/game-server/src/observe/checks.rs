//! The health checks of the server, beside those of its stores.

use std::{path::Path, sync::Arc, time::Duration};

use infra_core::{Clock, health::HealthCheck};
use infra_observability::health::{
    Group,
    check::{Cpu, Disk, LoopLag, Memory},
};

/// Free bytes of the disk below which it is down.
const DISK_DOWN: u64 = 16 << 20;

/// Shares of the memory above which it is degraded, and down.
const MEMORY: (f64, f64) = (0.9, 0.98);

/// Shares of the processors above which they are degraded, and down.
const CPU: (f64, f64) = (0.9, 1.5);

/// How late tasks may wake: later the runtime is degraded, and down.
const LAG: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Returns the checks of the server, the disk of `data` being degraded below so many free bytes: without its stores and the room on the disk it takes no new
/// work; memory, processors and late tasks are reported only, since turning players away heals none.
pub(crate) fn checks(
    stores: Vec<Arc<dyn HealthCheck>>,
    (data, disk_low): (&Path, u64),
    clock: &Arc<dyn Clock>,
) -> Vec<(Group, Arc<dyn HealthCheck>)> {
    let mut all: Vec<(Group, Arc<dyn HealthCheck>)> =
        stores.into_iter().map(|store| (Group::Ready, store)).collect();
    all.push((Group::Ready, Arc::new(Disk::new(data, disk_low, DISK_DOWN.min(disk_low)))));
    all.push((Group::Info, Arc::new(Memory::new(MEMORY.0, MEMORY.1))));
    all.push((Group::Info, Arc::new(Cpu::new(Arc::clone(clock), CPU.0, CPU.1))));
    all.push((Group::Info, Arc::new(LoopLag::new(Arc::clone(clock), LAG.0, LAG.1))));
    all
}
