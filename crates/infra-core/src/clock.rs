//! The one source of time: a monotonic clock for waiting, a wall clock for records.
//!
//! No component reads the operating system's time. It holds an `Arc<dyn Clock>`, so that a test
//! moves time by hand; waiting is `tokio::time` alone, so that paused time moves it too. Pure
//! algorithms take an [`Instant`] as an argument and hold no clock at all.

use std::{
    fmt::Debug,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A point on a clock's monotonic line, counted from that clock's own start.
///
/// Instants of two clocks do not compare; they are never stored or sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(Duration);

impl Instant {
    /// The clock's start.
    pub const START: Self = Self(Duration::ZERO);

    /// Returns the instant that lies `since_start` after the clock's start.
    pub const fn from_start(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Returns how long after the clock's start this instant lies.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Returns how long after `earlier` this instant lies; zero if it lies before.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(rhs))
    }
}

/// A wall-clock time in whole milliseconds since the Unix epoch, UTC.
///
/// It is for records and for people. It may jump, so no deadline is ever computed from it, except
/// one that must outlive the process (a lease, a token, a time to live).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// Returns the time `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns how long after `earlier` this time lies; zero if it lies before.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns this time moved into the future; it saturates at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

/// A source of time.
///
/// # Contract
///
/// 1. **Monotonic:** `now` never goes back, seen from any thread.
/// 2. **Shared:** every clone or reference of one clock tells the same time.
/// 3. **Independent:** `wall` may jump either way; that never moves `now`.
///
/// ```
/// use infra_core::clock::{Clock, SystemClock};
///
/// let clock = SystemClock::new();
/// let before = clock.now();
/// assert!(before <= clock.now());
/// ```
pub trait Clock: Send + Sync + Debug {
    /// Returns the monotonic time.
    fn now(&self) -> Instant;

    /// Returns the wall-clock time.
    fn wall(&self) -> Timestamp;

    /// Returns both; a clock that makes one of the other reads the time once for it.
    fn both(&self) -> (Instant, Timestamp) {
        (self.now(), self.wall())
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Instant {
        (**self).now()
    }

    fn wall(&self) -> Timestamp {
        (**self).wall()
    }

    fn both(&self) -> (Instant, Timestamp) {
        (**self).both()
    }
}

/// The system's time, monotonic by tokio's clock, so that tokio's paused time moves it too.
///
/// Only this type reads the time; everything else is handed a [`Clock`].
#[cfg(feature = "tokio")]
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: tokio::time::Instant,
    wall_at_start: Timestamp,
}

#[cfg(feature = "tokio")]
impl SystemClock {
    /// Creates a clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the time")]
    pub fn new() -> Self {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            start: tokio::time::Instant::now(),
            wall_at_start: Timestamp::EPOCH.plus(since_epoch),
        }
    }

    /// Returns the clock as a port.
    pub fn shared() -> std::sync::Arc<dyn Clock> {
        std::sync::Arc::new(Self::new())
    }
}

#[cfg(feature = "tokio")]
impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "tokio")]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the time")]
    fn now(&self) -> Instant {
        Instant::from_start(tokio::time::Instant::now().saturating_duration_since(self.start))
    }

    /// Returns the wall time at this clock's start plus the monotonic time since.
    ///
    /// So it never goes back and paused time moves it; a step that an operator makes to the
    /// system's time is seen after a restart (slewing by NTP is seen at once).
    fn wall(&self) -> Timestamp {
        self.both().1
    }

    fn both(&self) -> (Instant, Timestamp) {
        let now = self.now();
        (now, self.wall_at_start.plus(now.since_start()))
    }
}
