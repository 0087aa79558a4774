//! How a cache keeps its entries.

use std::time::Duration;

/// How a cache keeps its entries; only the capacity has no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub(crate) capacity: u64,
    pub(crate) ttl: Option<Duration>,
    pub(crate) stale: Duration,
}

impl Options {
    /// Creates the options of a cache of at most `capacity` entries, which live until they are
    /// evicted. A capacity of zero keeps nothing; loads are shared all the same.
    pub const fn new(capacity: u64) -> Self {
        Self { capacity, ttl: None, stale: Duration::ZERO }
    }

    /// Sets how long an entry is fresh; zero keeps nothing.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets how long after that time an entry may still be served if its load fails; not at all by
    /// default.
    #[must_use]
    pub const fn stale_on_error(mut self, stale: Duration) -> Self {
        self.stale = stale;
        self
    }
}
