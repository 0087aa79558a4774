//! How much a repository keeps in memory, and what happens when that is full.

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, Error, Result, SystemClock};

/// What a save meets that finds memory full of active entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It is refused as [`Overloaded`](infra_core::ErrorKind::Overloaded).
    Refuse,
    /// It waits up to so long for room, then it is refused.
    Wait(Duration),
}

/// How much a repository keeps in memory.
///
/// Active entities stay, the others are a cache: pushed out, they are read from the store again.
#[derive(Debug, Clone)]
pub struct Limits {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    pub(crate) overflow: Overflow,
    pub(crate) absence: Duration,
    /// Whether the time of each use is kept; who looks for idle ones needs it.
    pub(crate) ages: bool,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Limits {
    /// Creates limits of a number of entities, without a limit of bytes.
    pub fn entries(entries: usize) -> Self {
        Self {
            entries,
            bytes: usize::MAX,
            overflow: Overflow::Refuse,
            absence: Duration::from_secs(1),
            ages: false,
            clock: SystemClock::shared(),
        }
    }

    /// Sets the most bytes of the entities' stored forms, with keys and terms; no limit by default.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets what a save meets that finds memory full of active entities; it is refused by default.
    #[must_use]
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets how long it is remembered that an entity is not there; one second by default, and never
    /// longer than until it is saved.
    #[must_use]
    pub const fn absence(mut self, absence: Duration) -> Self {
        self.absence = absence;
        self
    }

    /// Sets the clock of ages; the system's by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Returns a percentage of both limits.
    pub(crate) fn fraction(&self, percent: u8) -> (usize, usize) {
        let part = |limit: usize| {
            limit / 100 * usize::from(percent) + limit % 100 * usize::from(percent) / 100
        };
        (part(self.entries), part(self.bytes))
    }

    /// Refuses limits that nothing fits in.
    pub(crate) fn check(&self, operation: &'static str) -> Result<()> {
        if self.entries == 0 || self.bytes == 0 {
            return Err(Error::invalid(operation, "a limit of zero"));
        }
        Ok(())
    }
}

/// What a repository has in memory, and how it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Entities in memory.
    pub entries: usize,
    /// Of these, active ones.
    pub active: usize,
    /// Bytes of their stored forms, with keys and terms.
    pub bytes: usize,
    /// Lookups that found the entity in memory.
    pub hits: u64,
    /// Lookups that found in memory that there is none.
    pub known_absent: u64,
    /// Lookups that had to wait for the store.
    pub misses: u64,
    /// Reads of the store for them; fewer than misses where several waited for one.
    pub loads: u64,
    /// Entities that left memory for others.
    pub evicted: u64,
    /// Saves that found memory full of active entities and were refused.
    pub refused: u64,
}
