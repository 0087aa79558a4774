//! What a cache has done, counted without a lock.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use crate::telemetry::{LOADS, LOOKUPS, Load, Lookup, REMOVALS};

/// How many stripes there are; a thread counts on one of them.
const STRIPES: usize = 16;

/// After how many hits of a stripe they are told to the metrics.
const TOLD: u64 = 256;

/// Why an entry left a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Its time was over, or it had not been read for too long.
    Expired,
    /// Room was needed, or the policy did not admit it.
    Evicted,
    /// Another value was put under its key.
    Replaced,
    /// It was removed by its key.
    Removed,
    /// It was removed by a tag, with its group, or by clearing.
    Invalidated,
}

impl Cause {
    pub(crate) const ALL: [Self; 5] =
        [Self::Expired, Self::Evicted, Self::Replaced, Self::Removed, Self::Invalidated];
}

/// What a cache has done since it was created.
///
/// `hits + misses` is the number of lookups, whatever runs at the same time; and `inserts` is `len` plus all that left, once nothing runs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Lookups that were answered from memory.
    pub hits: u64,
    /// Lookups that were not.
    pub misses: u64,
    /// Values that were served beyond their time, at once or because a load failed.
    pub stale: u64,
    /// Values that were kept.
    pub inserts: u64,
    /// Values that left because their time was over.
    pub expired: u64,
    /// Values that left because room was needed.
    pub evicted: u64,
    /// Values that left for another one of the same key.
    pub replaced: u64,
    /// Values that were removed by their keys.
    pub removed: u64,
    /// Values that were removed by a tag, with a group, or by clearing.
    pub invalidated: u64,
    /// Loads whose value was kept.
    pub loads: u64,
    /// Loads whose value was not kept: it was invalidated on its way, or holds for no time.
    pub superseded: u64,
    /// Loads that failed.
    pub failed: u64,
    /// How long all loads together took.
    pub load_time: Duration,
    /// How many entries are kept.
    pub len: u64,
    /// What they weigh; their number if there is no weigher.
    pub weight: u64,
}

impl Statistics {
    /// Returns the part of the lookups that were hits; zero if there were none.
    #[expect(clippy::cast_precision_loss, reason = "a ratio need not be exact")]
    pub fn hit_ratio(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }
}

/// The counts of the threads that share a stripe, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    hits: AtomicU64,
    told: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    inserts: AtomicU64,
    left: [AtomicU64; Cause::ALL.len()],
}

/// The counts of one cache.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    stripes: [Stripe; STRIPES],
    loads: [AtomicU64; 3],
    load_nanos: AtomicU64,
}

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|own| {
        own.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
            own.set(Some(next));
            next
        })
    })
}

// All counts are Relaxed: they are only added up, and nothing else hangs on their order.
impl Counts {
    fn stripe(&self) -> &Stripe {
        let [first, ..] = &self.stripes;
        self.stripes.get(stripe()).unwrap_or(first)
    }

    pub(crate) fn hit(&self) {
        let stripe = self.stripe();
        let hits = stripe.hits.fetch_add(1, Ordering::Relaxed) + 1;
        if hits.is_multiple_of(TOLD) {
            stripe.tell();
        }
    }

    pub(crate) fn miss(&self) {
        self.stripe().misses.fetch_add(1, Ordering::Relaxed);
        LOOKUPS.add_for(Lookup::Miss, 1);
    }

    /// Counts that a value beyond its time was served.
    pub(crate) fn beyond(&self) {
        self.stripe().stale.fetch_add(1, Ordering::Relaxed);
        LOOKUPS.add_for(Lookup::Stale, 1);
    }

    pub(crate) fn insert(&self) {
        self.stripe().inserts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn left(&self, cause: Cause) {
        if let Some(count) = self.stripe().left.get(cause as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        REMOVALS.add_for(cause, 1);
    }

    pub(crate) fn load(&self, load: Load, took: u64) {
        if let Some(count) = self.loads.get(load as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.load_nanos.fetch_add(took, Ordering::Relaxed);
        LOADS.add_for(load, 1);
    }

    /// Adds everything up, and tells the metrics of the hits that they do not know of.
    pub(crate) fn sum(&self, (len, weight): (u64, u64)) -> Statistics {
        let sum = |of: fn(&Stripe) -> &AtomicU64| -> u64 {
            self.stripes.iter().map(|stripe| of(stripe).load(Ordering::Relaxed)).sum()
        };
        let left = |cause: Cause| -> u64 {
            let counts = self.stripes.iter().filter_map(|it| it.left.get(cause as usize));
            counts.map(|count| count.load(Ordering::Relaxed)).sum()
        };
        let [kept, superseded, failed] = &self.loads;
        self.stripes.iter().for_each(Stripe::tell);
        Statistics {
            hits: sum(|stripe| &stripe.hits),
            misses: sum(|stripe| &stripe.misses),
            stale: sum(|stripe| &stripe.stale),
            inserts: sum(|stripe| &stripe.inserts),
            expired: left(Cause::Expired),
            evicted: left(Cause::Evicted),
            replaced: left(Cause::Replaced),
            removed: left(Cause::Removed),
            invalidated: left(Cause::Invalidated),
            loads: kept.load(Ordering::Relaxed),
            superseded: superseded.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            load_time: Duration::from_nanos(self.load_nanos.load(Ordering::Relaxed)),
            len,
            weight,
        }
    }
}

impl Stripe {
    fn tell(&self) {
        let hits = self.hits.load(Ordering::Relaxed);
        let told = self.told.fetch_max(hits, Ordering::Relaxed);
        if told < hits {
            LOOKUPS.add_for(Lookup::Hit, hits - told);
        }
    }
}
