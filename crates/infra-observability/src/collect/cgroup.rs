//! What the cgroup (version 2) allows and uses: in a container, the figures of the host mislead.

use std::path::PathBuf;

use infra_core::metric::{Declaration, Gauge};

use super::{growing, number, read};
use crate::exporter::Collector;

const MEMORY: Gauge = Gauge::new(
    "infra_cgroup_memory_bytes",
    "bytes",
    "Memory that the cgroup uses, without what the kernel could give back at once.",
);
const MEMORY_LIMIT: Gauge = Gauge::new(
    "infra_cgroup_memory_limit_bytes",
    "bytes",
    "Memory that the cgroup may use; zero without a limit.",
);
const CPUS: Gauge = Gauge::new(
    "infra_cgroup_cpu_limit",
    "",
    "Processors that the cgroup may use at a time; zero without a limit.",
);
const CPU: Gauge =
    Gauge::new("infra_cgroup_cpu_seconds_total", "seconds", "Processor time of the cgroup.");
const THROTTLED: Gauge = Gauge::new(
    "infra_cgroup_throttled_seconds_total",
    "seconds",
    "Time that the cgroup was held back by its processor limit.",
);

pub(super) const METRICS: &[Declaration] = &[
    MEMORY.declaration(),
    MEMORY_LIMIT.declaration(),
    CPUS.declaration(),
    growing(&CPU),
    growing(&THROTTLED),
];

/// What a cgroup uses and may use.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Memory in use, in bytes, without inactive pages of files.
    pub memory_bytes: u64,
    /// Memory that it may use.
    pub memory_limit: Option<u64>,
    /// Processors that it may use at a time.
    pub cpus: Option<f64>,
    /// Processor time in seconds.
    pub cpu_seconds: f64,
    /// Time held back in seconds.
    pub throttled_seconds: f64,
}

/// Reads the figures of a cgroup of version 2.
#[derive(Debug, Clone)]
pub struct Cgroup {
    folder: PathBuf,
}

impl Default for Cgroup {
    /// The cgroup of this process.
    fn default() -> Self {
        let own = read(&PathBuf::from("/proc/self/cgroup")).unwrap_or_default();
        let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        let folder = PathBuf::from("/sys/fs/cgroup").join(path.trim_start_matches('/'));
        // In a container the path is that of the host, and the mount is the cgroup itself.
        Self::at(if folder.join("memory.current").exists() {
            folder
        } else {
            PathBuf::from("/sys/fs/cgroup")
        })
    }
}

impl Cgroup {
    /// Reads from a folder of the cgroup file system.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Reads the figures of now; none where there is no such cgroup.
    pub fn limits(&self) -> Option<Limits> {
        let file = |name: &str| read(&self.folder.join(name));
        let used: u64 = file("memory.current")?.parse().ok()?;
        let inactive = number(&file("memory.stat").unwrap_or_default(), "inactive_file ");
        let cpu = file("cpu.stat").unwrap_or_default();
        let seconds = |word| {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let micros = number(&cpu, word).unwrap_or(0) as f64;
            micros / 1_000_000.0
        };
        Some(Limits {
            memory_bytes: used.saturating_sub(inactive.unwrap_or(0)),
            memory_limit: file("memory.max").and_then(|text| text.parse().ok()),
            cpus: file("cpu.max").and_then(|text| cpus(&text)),
            cpu_seconds: seconds("usage_usec "),
            throttled_seconds: seconds("throttled_usec "),
        })
    }
}

/// Reads `QUOTA PERIOD`; the quota is `max` where there is no limit.
fn cpus(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (0.0 < period).then_some(quota / period)
}

impl Collector for Cgroup {
    fn declarations(&self) -> Vec<Declaration> {
        METRICS.to_vec()
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
    fn collect(&self) {
        let Some(limits) = self.limits() else { return };
        MEMORY.set(limits.memory_bytes as f64);
        MEMORY_LIMIT.set(limits.memory_limit.unwrap_or(0) as f64);
        CPUS.set(limits.cpus.unwrap_or(0.0));
        CPU.set(limits.cpu_seconds);
        THROTTLED.set(limits.throttled_seconds);
    }
}
