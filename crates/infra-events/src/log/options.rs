//! How the log is opened.

use std::{path::PathBuf, sync::Arc, time::Duration};

use infra_core::{Clock, SystemClock};

use super::disk::{Disk, RealDisk};

/// What to do about a damaged log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Refuses to open it and says what is damaged.
    #[default]
    Strict,
    /// Keeps everything before the first damage, puts the rest aside, and reports what is lost.
    Salvage,
    /// Changes nothing and takes no appends; the sound part can be read.
    ReadOnly,
}

/// How much of the log is read and checked when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// The frames since the last segment was sealed; of sealed segments their checksummed indexes,
    /// each held against the last frame of its segment. Damage inside a sealed segment is found by
    /// the read that meets it, and by [`verify`](crate::LogEventStore::verify).
    #[default]
    Unsealed,
    /// Every frame, which takes as long as reading all of the log.
    Everything,
}

/// How the log is opened; every value but the folder has a default.
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) folder: PathBuf,
    pub(super) mode: Mode,
    pub(super) check: Check,
    pub(super) segment: u64,
    pub(super) queue: usize,
    pub(super) latency_budget: Duration,
    pub(super) witness_interval: Duration,
    pub(super) recent: usize,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) disk: Arc<dyn Disk>,
}

impl Options {
    /// Creates the options of a log in `folder`, which is made if it is not there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            mode: Mode::Strict,
            check: Check::Unsealed,
            segment: 64 * 1024 * 1024,
            queue: 4_096,
            latency_budget: Duration::from_millis(5),
            witness_interval: Duration::from_millis(100),
            recent: 16 * 1024 * 1024,
            clock: SystemClock::shared(),
            disk: Arc::new(RealDisk),
        }
    }

    /// Sets what to do about damage; [`Mode::Strict`] by default.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets how much is read and checked at the opening; [`Check::Unsealed`] by default.
    ///
    /// [`Mode::Salvage`] checks everything in any case.
    #[must_use]
    pub const fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// Sets the size of a segment file in bytes; 64 MiB by default, at least 4 KiB.
    ///
    /// Segments are reserved on the disk as a whole, so a full disk is found before a write.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment = bytes.max(4_096);
        self
    }

    /// Sets how many appends may wait for the writer; 4,096 by default. More wait their turn.
    #[must_use]
    pub const fn queue(mut self, appends: usize) -> Self {
        self.queue = appends;
        self
    }

    /// Sets how long a group may take appends in before it is written and synced; 5 ms by default.
    ///
    /// The writer takes what waits. For more it waits only if it has just answered more, and then at
    /// most for as long as its last sync took, since those often append again at once. This bounds
    /// both; zero syncs each append for itself.
    #[must_use]
    pub const fn latency_budget(mut self, budget: Duration) -> Self {
        self.latency_budget = budget;
        self
    }

    /// Sets how often the witness is synced; 100 ms by default.
    ///
    /// After a loss of power the witness may be this old: a loss of what was acknowledged within
    /// that time could not be told from an unfinished write.
    #[must_use]
    pub const fn witness_interval(mut self, interval: Duration) -> Self {
        self.witness_interval = interval;
        self
    }

    /// Sets how many bytes of the latest frames stay in memory for readers; 16 MiB by default.
    #[must_use]
    pub const fn recent_bytes(mut self, bytes: usize) -> Self {
        self.recent = bytes;
        self
    }

    /// Sets where times come from; the system's clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the disk; the operating system's files by default.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }
}
