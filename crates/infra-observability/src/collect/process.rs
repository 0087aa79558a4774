//! The process, from `/proc/self`.

use std::path::PathBuf;

use infra_core::metric::{Declaration, Gauge};

use super::{growing, number, read};
use crate::exporter::Collector;

const CPU: Gauge = Gauge::new(
    "process_cpu_seconds_total",
    "seconds",
    "Processor time of the process, in user and kernel mode.",
);
const RESIDENT: Gauge =
    Gauge::new("process_resident_memory_bytes", "bytes", "Memory of the process that is in RAM.");
const VIRTUAL: Gauge =
    Gauge::new("process_virtual_memory_bytes", "bytes", "Address space of the process.");
const OPEN: Gauge = Gauge::new("process_open_fds", "", "Open file descriptors.");
const MAX: Gauge = Gauge::new("process_max_fds", "", "File descriptors that may be open.");
const THREADS: Gauge = Gauge::new("process_threads", "", "Threads of the process.");
const STARTED: Gauge = Gauge::new(
    "process_start_time_seconds",
    "seconds",
    "When the process started, in seconds since the Unix epoch.",
);

pub(super) const METRICS: &[Declaration] = &[
    growing(&CPU),
    RESIDENT.declaration(),
    VIRTUAL.declaration(),
    OPEN.declaration(),
    MAX.declaration(),
    THREADS.declaration(),
    STARTED.declaration(),
];

/// The kernel's clock ticks a second; Linux has told user space 100 since 2.6 on every platform.
const TICKS: f64 = 100.0;

/// The size of a page where the kernel does not tell kilobytes.
const KIB: u64 = 1_024;

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Processor time in seconds.
    pub cpu_seconds: f64,
    /// Memory in RAM, in bytes.
    pub resident_bytes: u64,
    /// Address space in bytes.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// File descriptors that may be open.
    pub max_fds: u64,
    /// When it started, in seconds since the Unix epoch.
    pub started_seconds: f64,
}

/// Reads what the process uses.
#[derive(Debug, Clone)]
pub struct Process {
    proc: PathBuf,
}

impl Default for Process {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl Process {
    /// Reads from a folder like `/proc`.
    pub fn at(proc: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into() }
    }

    /// Reads the figures of now; none where the system has no such files.
    pub fn usage(&self) -> Option<Usage> {
        let own = self.proc.join("self");
        let status = read(&own.join("status"))?;
        let stat = read(&own.join("stat"))?;
        // The second field is the name in parentheses, which may hold spaces and parentheses.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // Numbered as in proc(5), where the field after the name is the third.
        let field = |number: usize| -> Option<f64> { fields.get(number - 3)?.parse().ok() };
        let limits = read(&own.join("limits")).unwrap_or_default();
        let boot = number(&read(&self.proc.join("stat")).unwrap_or_default(), "btime ");
        #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch fit")]
        let boot = boot.unwrap_or(0) as f64;
        Some(Usage {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            resident_bytes: number(&status, "VmRSS:")? * KIB,
            virtual_bytes: number(&status, "VmSize:")? * KIB,
            threads: number(&status, "Threads:")?,
            open_fds: std::fs::read_dir(own.join("fd")).map_or(0, |fds| fds.count() as u64),
            max_fds: number(&limits, "Max open files").unwrap_or(0),
            started_seconds: boot + field(22)? / TICKS,
        })
    }
}

impl Collector for Process {
    fn declarations(&self) -> Vec<Declaration> {
        METRICS.to_vec()
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
    fn collect(&self) {
        let Some(usage) = self.usage() else { return };
        CPU.set(usage.cpu_seconds);
        RESIDENT.set(usage.resident_bytes as f64);
        VIRTUAL.set(usage.virtual_bytes as f64);
        OPEN.set(usage.open_fds as f64);
        MAX.set(usage.max_fds as f64);
        THREADS.set(usage.threads as f64);
        STARTED.set(usage.started_seconds);
    }
}
