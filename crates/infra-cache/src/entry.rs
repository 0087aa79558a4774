//! A value with its deadlines and the cells that it stands under.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::clock::Instant;

use crate::{
    fence::{Cell, Fence},
    options::Options,
    tags::Tag,
};

/// Instants and durations inside entries: nanoseconds, so that an entry stays small. 584 years.
pub(crate) type Nanos = u64;

/// The end of what has none.
pub(crate) const NEVER: Nanos = u64::MAX;

/// Returns a duration in nanoseconds; it saturates.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

/// Returns an instant in nanoseconds.
pub(crate) fn at(instant: Instant) -> Nanos {
    nanos(instant.since_start())
}

/// A tag of an entry, with the cell of its removals.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) tag: Tag,
    pub(crate) cell: Arc<Cell>,
}

/// What is kept under a key.
#[derive(Debug)]
pub(crate) struct Entry<V> {
    /// The value; `None` is the knowledge that there is none.
    pub(crate) value: Option<V>,
    /// When it was asked for, by the count of changes.
    pub(crate) ticket: u64,
    /// Its number within its shard, by which two entries of one key are told apart.
    pub(crate) seq: u64,
    pub(crate) weight: u32,
    pub(crate) stored: Nanos,
    /// Until when it is fresh, that instant excluded.
    fresh: Nanos,
    used: AtomicU64,
    pub(crate) marks: Box<[Mark]>,
}

/// How good an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is served.
    Fresh,
    /// It is served, and a newer one is asked for.
    Due,
    /// It is served at once while a newer one is asked for.
    Revalidate,
    /// It is served only if nothing newer is to be had.
    Stale,
    /// It is not served any more.
    Over,
}

/// The times of an entry that is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) stored: Nanos,
    pub(crate) ttl: Option<Nanos>,
}

impl<V> Entry<V> {
    pub(crate) fn new(value: Option<V>, ticket: u64, times: Times, marks: Box<[Mark]>) -> Self {
        let Times { stored, ttl } = times;
        let fresh = ttl.map_or(NEVER, |ttl| stored.saturating_add(ttl));
        let used = AtomicU64::new(stored);
        Self { value, ticket, seq: 0, weight: 1, stored, fresh, used, marks }
    }

    /// Gives it its number within its shard.
    pub(crate) fn numbered(self, seq: u64) -> Self {
        Self { seq, ..self }
    }

    /// Gives it its weight.
    pub(crate) fn weighing(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// Judges the entry; at its deadline it is not fresh any more.
    pub(crate) fn phase(&self, now: Nanos, options: &Options) -> Phase {
        if let Some(idle) = options.idle
            && self.used().saturating_add(idle) <= now
        {
            return Phase::Over;
        }
        if now < self.fresh {
            let is_due = options.refresh_ahead.is_some_and(|part| self.part(part) <= now);
            return if is_due { Phase::Due } else { Phase::Fresh };
        }
        let beyond = now - self.fresh;
        match () {
            () if beyond < options.revalidate => Phase::Revalidate,
            () if beyond < options.stale => Phase::Stale,
            () => Phase::Over,
        }
    }

    /// Returns the instant at which a part of its time, in percent, is over.
    fn part(&self, percent: u8) -> Nanos {
        if self.fresh == NEVER {
            return NEVER;
        }
        let ttl = u128::from(self.fresh.saturating_sub(self.stored));
        let part = u64::try_from(ttl * u128::from(percent) / 100).unwrap_or(NEVER);
        self.stored.saturating_add(part)
    }

    /// Returns when it is over if it is not used until then; [`NEVER`] if it has no end.
    pub(crate) fn end(&self, options: &Options) -> Nanos {
        let served = self.fresh.saturating_add(options.stale.max(options.revalidate));
        let idle = options.idle.map_or(NEVER, |idle| self.used().saturating_add(idle));
        served.min(idle)
    }

    /// Returns how long it is fresh from `now` on; `None` if it has no end.
    pub(crate) fn left(&self, now: Nanos) -> Option<Duration> {
        (self.fresh != NEVER).then(|| Duration::from_nanos(self.fresh.saturating_sub(now)))
    }

    /// Notes that it was used.
    pub(crate) fn touch(&self, now: Nanos) {
        // Relaxed: the time of use orders nothing else.
        self.used.fetch_max(now, Ordering::Relaxed);
    }

    fn used(&self) -> Nanos {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns whether nothing that it stands under was removed since it was asked for.
    pub(crate) fn is_current(&self, fence: &Fence) -> bool {
        fence.admits(self.ticket) && self.marks.iter().all(|mark| mark.cell.admits(self.ticket))
    }
}
