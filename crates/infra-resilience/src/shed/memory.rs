//! How much memory is used, against a soft and a hard limit.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use infra_core::{Error, ErrorKind, Result, lifecycle::Stop};

/// Where a reading lies between the limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pressure {
    /// Below the soft limit.
    None,
    /// Between the limits: which part of the way to the hard one, from 0 to 1.
    Soft(f64),
    /// At the hard limit or above.
    Hard,
}

/// The memory in use, as it was last read, and its limits in bytes. Clones share the reading.
///
/// Reading takes a few system calls, so calls are judged by the last reading:
/// [`MemoryGauge::run`] renews it, or you set it.
///
/// ```
/// use infra_resilience::shed::{MemoryGauge, Pressure};
///
/// let gauge = MemoryGauge::new(100 << 20, 200 << 20);
/// gauge.set(150 << 20);
/// assert_eq!(gauge.pressure(), Pressure::Soft(0.5));
/// ```
#[derive(Debug, Clone)]
pub struct MemoryGauge {
    used: Arc<AtomicU64>,
    soft: u64,
    hard: u64,
    source: Arc<Source>,
}

/// Where the system tells what is used.
#[derive(Debug)]
struct Source {
    cgroup: PathBuf,
    process: PathBuf,
}

impl MemoryGauge {
    /// Creates a gauge with limits in bytes; nothing is used until it is read or set.
    pub fn new(soft: u64, hard: u64) -> Self {
        let source =
            Source { cgroup: "/sys/fs/cgroup".into(), process: "/proc/self/status".into() };
        Self { used: Arc::default(), soft: soft.min(hard), hard, source: Arc::new(source) }
    }

    /// Creates a gauge whose limits are shares of what this process's cgroup allows (0.8 and 0.95,
    /// say).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if there is no cgroup with a limit of memory.
    pub fn of_cgroup(soft: f64, hard: f64) -> Result<Self> {
        Self::of_cgroup_at("/sys/fs/cgroup".into(), soft, hard)
    }

    fn of_cgroup_at(cgroup: PathBuf, soft: f64, hard: f64) -> Result<Self> {
        let limit = read_number(&cgroup.join("memory.max"))
            .or_else(|| read_number(&cgroup.join("memory/memory.limit_in_bytes")))
            // Version 1 says "unlimited" by a number near 2^63.
            .filter(|limit| *limit < 1 << 60)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "read memory limit of cgroup"))?;
        let source = Source { cgroup, process: "/proc/self/status".into() };
        let gauge = Self::new(share(limit, soft), share(limit, hard));
        Ok(Self { source: Arc::new(source), ..gauge })
    }

    /// Sets the reading, in bytes.
    pub fn set(&self, used: u64) {
        self.used.store(used, Relaxed);
    }

    /// Reads what is used: of the cgroup without caches that can be dropped, else of the process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the system tells neither; the last reading stays.
    pub fn read(&self) -> Result<u64> {
        let used = self.source.cgroup_used().or_else(|| self.source.process_used());
        let used = used.ok_or_else(|| Error::new(ErrorKind::Unsupported, "read used memory"))?;
        self.set(used);
        Ok(used)
    }

    /// Reads again and again, until it is asked to stop.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it.
    pub async fn run(self, every: Duration, stop: Stop) {
        loop {
            let _unsupported = self.read();
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// Returns where the last reading lies.
    pub fn pressure(&self) -> Pressure {
        let used = self.used.load(Relaxed);
        if self.hard <= used {
            return Pressure::Hard;
        }
        if used < self.soft {
            return Pressure::None;
        }
        Pressure::Soft(ratio(used - self.soft, self.hard - self.soft))
    }
}

impl Source {
    fn cgroup_used(&self) -> Option<u64> {
        let (used, stat, cache) = if self.cgroup.join("memory.current").exists() {
            ("memory.current", "memory.stat", "inactive_file")
        } else {
            ("memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file")
        };
        let used = read_number(&self.cgroup.join(used))?;
        let stat = fs::read_to_string(self.cgroup.join(stat)).unwrap_or_default();
        Some(used.saturating_sub(field(&stat, cache).unwrap_or(0)))
    }

    fn process_used(&self) -> Option<u64> {
        let status = fs::read_to_string(&self.process).ok()?;
        field(&status, "VmRSS:")?.checked_mul(1_024)
    }
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Returns the number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a number of bytes, to the byte or nearly so"
)]
fn share(limit: u64, share: f64) -> u64 {
    (limit as f64 * share.clamp(0.0, 1.0)) as u64
}

#[expect(clippy::cast_precision_loss, reason = "a share of a number of bytes")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use infra_core::lifecycle::Shutdown;
    use proptest::prelude::*;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> PathBuf {
        let id = infra_core::random::Random::from_system().next_u64();
        let folder = std::env::temp_dir().join(format!("infra-resilience-{id:x}"));
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn both_versions_of_cgroups_are_read() {
        let second = folder(&[
            ("memory.max", "1000\n"),
            ("memory.current", "900\n"),
            ("memory.stat", "anon 600\ninactive_file 250\n"),
        ]);
        let first = folder(&[
            ("memory/memory.limit_in_bytes", "1000\n"),
            ("memory/memory.usage_in_bytes", "900\n"),
            ("memory/memory.stat", "cache 5\ntotal_inactive_file 250\n"),
        ]);
        for cgroup in [first, second] {
            let gauge = MemoryGauge::of_cgroup_at(cgroup.clone(), 0.6, 0.7).unwrap();
            assert_eq!(gauge.read().unwrap(), 650);
            let Pressure::Soft(share) = gauge.pressure() else { panic!("between the limits") };
            assert!((share - 0.5).abs() < 1e-9);
            fs::remove_dir_all(cgroup).unwrap();
        }
    }

    #[test]
    fn without_a_limit_there_is_no_gauge_of_the_cgroup() {
        let unlimited = folder(&[("memory.max", "max\n")]);
        assert!(MemoryGauge::of_cgroup_at(unlimited.clone(), 0.8, 0.9).is_err());
        fs::remove_dir_all(unlimited).unwrap();
        let old = folder(&[("memory/memory.limit_in_bytes", "9223372036854771712\n")]);
        assert!(MemoryGauge::of_cgroup_at(old.clone(), 0.8, 0.9).is_err());
        fs::remove_dir_all(old).unwrap();
        let _depends_on_the_system = MemoryGauge::of_cgroup(0.8, 0.9);
    }

    #[test]
    fn the_process_tells_where_no_cgroup_does() {
        let gauge = MemoryGauge::new(1, 2);
        let source = Source { cgroup: "/nowhere".into(), process: "/proc/self/status".into() };
        let gauge = MemoryGauge { source: Arc::new(source), ..gauge };
        assert!(1 << 20 < gauge.read().unwrap());
        assert_eq!(gauge.pressure(), Pressure::Hard);
        let source = Source { cgroup: "/nowhere".into(), process: "/nowhere".into() };
        let gauge = MemoryGauge { source: Arc::new(source), ..gauge };
        assert!(gauge.read().is_err());
        assert_eq!(gauge.pressure(), Pressure::Hard, "the last reading stays");
    }

    #[tokio::test(start_paused = true)]
    async fn it_reads_until_it_is_asked_to_stop() {
        let shutdown = Shutdown::new();
        let gauge = MemoryGauge::new(1, 2);
        shutdown.spawn(gauge.clone().run(Duration::from_secs(1), shutdown.stop()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        gauge.set(0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(gauge.pressure(), Pressure::Hard, "it was read again");
        assert_eq!(shutdown.close(Duration::from_secs(1)).await.finished, 1);
    }

    proptest! {
        #[test]
        fn any_text_of_the_system_is_read_or_not_without_a_panic(text in ".{0,200}", name in ".{0,9}") {
            let _number = field(&text, &name);
        }

        #[test]
        fn pressure_never_falls_when_more_is_used(
            (soft, hard) in (0_u64..1_000, 0_u64..1_000),
            (less, more) in (0_u64..1_000, 0_u64..1_000),
        ) {
            let gauge = MemoryGauge::new(soft, hard);
            let at = |used| {
                gauge.set(used);
                match gauge.pressure() {
                    Pressure::None => -1.0,
                    Pressure::Soft(share) => share,
                    Pressure::Hard => 2.0,
                }
            };
            prop_assert!(at(less.min(more)) <= at(less.max(more)));
        }
    }
}
