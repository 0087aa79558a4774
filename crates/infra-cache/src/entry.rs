//! A value with its deadlines.

use std::time::Duration;

use infra_core::clock::Instant;

/// What is kept under a key.
#[derive(Debug, Clone)]
pub(crate) struct Entry<V> {
    pub(crate) value: V,
    /// Until when it is fresh; for ever if `None`.
    fresh: Option<Instant>,
    /// How long after that it may be served if nothing better is to be had.
    stale: Duration,
    /// Which life of the cache it belongs to; clearing begins the next one.
    pub(crate) epoch: u64,
}

/// How good an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    Fresh,
    Stale,
    Over,
}

impl<V> Entry<V> {
    pub(crate) fn new(value: V, epoch: u64, fresh: Option<Instant>, stale: Duration) -> Self {
        Self { value, fresh, stale, epoch }
    }

    /// Judges the entry; at its deadline it is not fresh any more.
    pub(crate) fn age(&self, now: Instant, epoch: u64) -> Age {
        match self.fresh {
            _ if self.epoch != epoch => Age::Over,
            None => Age::Fresh,
            Some(fresh) if now < fresh => Age::Fresh,
            Some(fresh) if now < fresh + self.stale => Age::Stale,
            Some(_) => Age::Over,
        }
    }
}
