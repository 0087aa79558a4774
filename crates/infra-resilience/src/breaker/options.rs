//! When a breaker opens, how it closes again, and who is told.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use infra_core::{
    Error, ErrorKind,
    backoff::{Backoff, Jitter},
};

use super::{
    circuit::{Change, State},
    window::Window,
};

/// What an error says about the service that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It works: a refusal is an answer.
    Success,
    /// It does not work.
    Failure,
    /// Nothing; the call is not counted.
    Ignored,
}

impl Outcome {
    /// Judges by the kind: what says that the service is away, late, overloaded or damaged is a
    /// failure; a conflict, an invalid request or a rate limit is an answer.
    #[expect(clippy::wildcard_enum_match_arm, reason = "kinds that are new are answers at first")]
    pub const fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Indeterminate
            | ErrorKind::Overloaded
            | ErrorKind::Poisoned
            | ErrorKind::Corrupt
            | ErrorKind::Closed
            | ErrorKind::Internal => Self::Failure,
            _ => Self::Success,
        }
    }
}

/// Is told of each change, outside of all locks; it must not block.
pub type Listener = Arc<dyn Fn(&Change) + Send + Sync>;

/// Is told the state, at first and after each change, each time the newest; it must not block, and not use
/// the breaker.
pub(super) type StateGauge = Arc<dyn Fn(State) + Send + Sync>;

type Classify = Arc<dyn Fn(&Error) -> Outcome + Send + Sync>;

/// When a breaker opens, and how it closes again.
///
/// Shares are from 0 to 1: a share of 0 opens at the first failure once there are enough calls, one
/// above 1 never opens.
#[derive(Clone)]
pub struct Options {
    pub(super) window: Window,
    pub(super) least: u32,
    pub(super) failures: f64,
    pub(super) slow: Option<(Duration, f64)>,
    pub(super) consecutive: Option<NonZeroU32>,
    pub(super) open: Backoff,
    pub(super) probes: u32,
    pub(super) probe_patience: Duration,
    pub(super) seed: Option<u64>,
    pub(super) classify: Classify,
    pub(super) listeners: Vec<Listener>,
    pub(super) gauges: Vec<StateGauge>,
}

impl Options {
    /// Sets which calls are judged; the last 100 by default.
    #[must_use]
    pub const fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Sets how many calls there must be before shares are judged; 10 by default.
    #[must_use]
    pub const fn least(mut self, calls: u32) -> Self {
        self.least = calls;
        self
    }

    /// Sets the share of failures from which it opens; 0.5 by default.
    #[must_use]
    pub const fn failures(mut self, share: f64) -> Self {
        self.failures = share;
        self
    }

    /// Counts calls of at least this time as slow, and opens from this share of them on; off by
    /// default. It costs two readings of the clock per call.
    #[must_use]
    pub const fn slow(mut self, after: Duration, share: f64) -> Self {
        self.slow = Some((after, share));
        self
    }

    /// Opens also after so many failures in a row, however few calls there were; off by default.
    #[must_use]
    pub const fn consecutive(mut self, failures: NonZeroU32) -> Self {
        self.consecutive = Some(failures);
        self
    }

    /// Sets how long it stays open, the first time and after each probe that failed; by default 10 s,
    /// doubled each time up to 5 min, 10 % more or less.
    #[must_use]
    pub const fn open_for(mut self, open: Backoff) -> Self {
        self.open = open;
        self
    }

    /// Sets how many probes must succeed to close it, and may run at the same time; 3 by default.
    #[must_use]
    pub const fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// Sets how long probes may keep all places before they count as failed; one minute by default.
    #[must_use]
    pub const fn probe_patience(mut self, patience: Duration) -> Self {
        self.probe_patience = patience;
        self
    }

    /// Sets the seed of the scatter; the operating system's by default.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets what an error says about the service; [`Outcome::of`] by default.
    #[must_use]
    pub fn classify(mut self, by: impl Fn(&Error) -> Outcome + Send + Sync + 'static) -> Self {
        self.classify = Arc::new(by);
        self
    }

    /// Adds somebody who is told of each change.
    #[must_use]
    pub fn listener(mut self, listener: impl Fn(&Change) + Send + Sync + 'static) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// Adds a gauge of this breaker's state, as of its last call or change.
    ///
    /// `set` is called with the state when the breaker is made and after each change, one after the other and
    /// never with an older state than before; it must not block, and not use the breaker. The crate's own
    /// metrics count breakers by their state; this is for one with a name.
    #[must_use]
    pub fn gauge(mut self, set: impl Fn(State) + Send + Sync + 'static) -> Self {
        self.gauges.push(Arc::new(set));
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        let open = Backoff::exponential(Duration::from_secs(10))
            .capped_at(Duration::from_mins(5))
            .jitter(Jitter::Within(10));
        Self {
            window: Window::Calls(const { NonZeroU32::new(100).unwrap() }),
            least: 10,
            failures: 0.5,
            slow: None,
            consecutive: None,
            open,
            probes: 3,
            probe_patience: Duration::from_mins(1),
            seed: None,
            classify: Arc::new(Outcome::of),
            listeners: Vec::new(),
            gauges: Vec::new(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("window", &self.window)
            .field("least", &self.least)
            .field("failures", &self.failures)
            .field("slow", &self.slow)
            .field("consecutive", &self.consecutive)
            .field("open", &self.open)
            .field("probes", &self.probes)
            .field("probe_patience", &self.probe_patience)
            .field("listeners", &self.listeners.len())
            .field("gauges", &self.gauges.len())
            .finish_non_exhaustive()
    }
}
