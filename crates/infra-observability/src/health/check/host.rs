//! Disk, memory and processor, within the limits of the cgroup.

use std::{fmt, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use infra_core::{
    Clock,
    clock::Instant,
    health::{Finding, HealthCheck},
};
use parking_lot::Mutex;

use crate::collect::{Cgroup, Process, number, read};

/// The room of a file system in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Free for an ordinary user.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

type ReadSpace = Arc<dyn Fn() -> io::Result<Space> + Send + Sync>;

/// Whether a file system has room: below `warn` free bytes it is degraded, below `critical` down.
#[derive(Clone)]
pub struct Disk {
    read: ReadSpace,
    warn: u64,
    critical: u64,
}

impl Disk {
    /// Watches the file system of `path`.
    pub fn new(path: impl Into<PathBuf>, warn: u64, critical: u64) -> Self {
        let path = path.into();
        Self::reading(move || space(&path), warn, critical)
    }

    /// Watches what a function reads.
    pub fn reading(
        read: impl Fn() -> io::Result<Space> + Send + Sync + 'static,
        warn: u64,
        critical: u64,
    ) -> Self {
        Self { read: Arc::new(read), warn, critical }
    }
}

fn space(path: &std::path::Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read: _, warn, critical } = self;
        f.debug_struct("Disk")
            .field("warn", warn)
            .field("critical", critical)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl HealthCheck for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    async fn check(&self) -> Finding {
        let read = Arc::clone(&self.read);
        // A file system of a network can hang, and must hang no worker.
        let space = match tokio::task::spawn_blocking(move || read()).await {
            Ok(Ok(space)) => space,
            Ok(Err(error)) => return Finding::down(format!("cannot be read: {error}")),
            Err(_) => return Finding::down("cannot be read: the reader panicked"),
        };
        let detail = format!("{} of {} MiB free", space.free >> 20, space.total >> 20);
        if space.free < self.critical {
            return Finding::down(detail);
        }
        if space.free < self.warn { Finding::degraded(detail) } else { Finding::up() }
    }
}

/// Whether there is memory: above a share `warn` in use it is degraded, above `critical` down.
///
/// The figures are those of the cgroup where it has a limit, else those of the host.
#[derive(Debug, Clone)]
pub struct Memory {
    cgroup: Cgroup,
    proc: PathBuf,
    warn: f64,
    critical: f64,
}

impl Memory {
    /// Watches the memory of this process's cgroup or host; shares are between 0 and 1.
    pub fn new(warn: f64, critical: f64) -> Self {
        Self::reading(Cgroup::default(), "/proc", warn, critical)
    }

    /// Watches what a cgroup and a folder like `/proc` say.
    pub fn reading(cgroup: Cgroup, proc: impl Into<PathBuf>, warn: f64, critical: f64) -> Self {
        Self { cgroup, proc: proc.into(), warn, critical }
    }

    /// Returns the bytes in use and those there are.
    pub fn usage(&self) -> Option<(u64, u64)> {
        let limits = self.cgroup.limits();
        if let Some((limits, limit)) = limits.and_then(|l| Some((l, l.memory_limit?))) {
            return Some((limits.memory_bytes, limit));
        }
        let info = read(&self.proc.join("meminfo"))?;
        let total = number(&info, "MemTotal:")?;
        let available = number(&info, "MemAvailable:")?;
        Some((total.saturating_sub(available) * 1_024, total * 1_024))
    }
}

#[async_trait]
impl HealthCheck for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn check(&self) -> Finding {
        let Some((used, total)) = self.usage() else {
            return Finding::degraded("the system does not tell");
        };
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = used as f64 / total.max(1) as f64;
        let detail = format!("{:.1} % of {} MiB in use", share * 100.0, total >> 20);
        banded(share, self.warn, self.critical, detail)
    }
}

/// Whether the processor keeps up: the share of what this process may use, since the last look.
///
/// Above `warn` it is degraded, above `critical` down. With a limit of the cgroup the share is of
/// that, else of all processors.
#[derive(Debug)]
pub struct Cpu {
    clock: Arc<dyn Clock>,
    process: Process,
    cpus: f64,
    warn: f64,
    critical: f64,
    last: Mutex<Option<(Instant, f64)>>,
}

impl Cpu {
    /// Watches this process; shares are between 0 and 1.
    pub fn new(clock: Arc<dyn Clock>, warn: f64, critical: f64) -> Self {
        let limit = Cgroup::default().limits().and_then(|limits| limits.cpus);
        #[expect(clippy::cast_precision_loss, reason = "a handful of processors")]
        let all = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        Self::reading(clock, Process::default(), limit.unwrap_or(all), warn, critical)
    }

    /// Watches what a process reader says, that may use this many processors.
    pub fn reading(
        clock: Arc<dyn Clock>,
        process: Process,
        cpus: f64,
        warn: f64,
        critical: f64,
    ) -> Self {
        Self { clock, process, cpus, warn, critical, last: Mutex::new(None) }
    }
}

#[async_trait]
impl HealthCheck for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    async fn check(&self) -> Finding {
        let Some(usage) = self.process.usage() else {
            return Finding::degraded("the system does not tell");
        };
        let now = self.clock.now();
        let last = self.last.lock().replace((now, usage.cpu_seconds));
        let Some((then, before)) = last else { return Finding::up() };
        let span = now.since(then).as_secs_f64() * self.cpus;
        if span <= 0.0 {
            return Finding::up();
        }
        let share = (usage.cpu_seconds - before) / span;
        banded(share, self.warn, self.critical, format!("{:.1} % in use", share * 100.0))
    }
}

fn banded(share: f64, warn: f64, critical: f64, detail: String) -> Finding {
    if critical < share {
        return Finding::down(detail);
    }
    if warn < share { Finding::degraded(detail) } else { Finding::up() }
}
