//! How uses of what is in memory are numbered and counted.
//!
//! A number that all readers take from one place would be the one thing that all of them write, on each
//! lookup. So threads count in places of their own, and tell the others now and then how far they are:
//! with each entity that comes into memory, and after 64 uses.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::telemetry::HITS;

/// After how many uses a thread tells the others and the metrics of them.
const TOLD: u64 = 64;

/// In how many places threads count; more threads than that share them.
const PLACES: usize = 16;

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Returns where this thread counts.
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    PLACE.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed) % PLACES);
        }
        own.get()
    })
}

/// What the threads of a place count, alone in its part of the processor's cache.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place {
    newest: AtomicU64,
    hits: AtomicU64,
}

/// The numbers that uses are given.
///
/// Later uses have higher numbers: of one thread always, of several threads if an entity came into
/// memory between them or if there were 64 uses since. Other uses of several threads count as made at
/// the same time. Numbers guard nothing, so no order of memory is asked for.
#[derive(Debug, Default)]
pub(super) struct Uses {
    places: [Place; PLACES],
    told: Told,
}

/// What threads have told each other: read by all, written seldom.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Told {
    newest: AtomicU64,
    /// How many hits the metrics were told.
    hits: AtomicU64,
}

impl Uses {
    /// Returns the number of a use that is a hit.
    #[expect(clippy::indexing_slicing, reason = "a remainder is below the length")]
    pub(super) fn hit(&self) -> u64 {
        let place = &self.places[place()];
        let known = place.newest.load(Ordering::Relaxed);
        let number = known.max(self.told.newest.load(Ordering::Relaxed)) + 1;
        // Threads that share a place may come in between: what they noted is not taken back.
        place.newest.fetch_max(number, Ordering::Relaxed);
        let before = place.hits.fetch_add(1, Ordering::Relaxed);
        if before % TOLD == TOLD - 1 {
            self.tell(number);
        }
        number
    }

    /// Returns the number of a use that brought its entity into memory.
    pub(super) fn arrival(&self) -> u64 {
        let newest = self.places.iter().map(|place| place.newest.load(Ordering::Relaxed)).max();
        self.told.newest.fetch_max(newest.unwrap_or(0), Ordering::Relaxed);
        self.told.newest.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn hits(&self) -> u64 {
        self.places.iter().map(|place| place.hits.load(Ordering::Relaxed)).sum()
    }

    #[cold]
    fn tell(&self, number: u64) {
        self.told.newest.fetch_max(number, Ordering::Relaxed);
        let hits = self.hits();
        HITS.add(hits.saturating_sub(self.told.hits.fetch_max(hits, Ordering::Relaxed)));
    }
}

/// When something was used last.
#[derive(Debug)]
pub(super) struct LastUse {
    number: AtomicU64,
    /// In milliseconds.
    time: AtomicU64,
}

impl LastUse {
    pub(super) const fn new(number: u64, time: u64) -> Self {
        Self { number: AtomicU64::new(number), time: AtomicU64::new(time) }
    }

    /// Notes a use; of two at the same time the older one may stand.
    pub(super) fn note(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }

    pub(super) fn note_time(&self, time: u64) {
        self.time.store(time, Ordering::Relaxed);
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    pub(super) fn time(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn later_uses_have_higher_numbers_also_of_other_threads_after_an_arrival_or_64_uses() {
        let uses = Arc::new(Uses::default());
        let elsewhere = |count: usize| {
            let uses = Arc::clone(&uses);
            let all = move || (0..count).map(|_| uses.hit()).collect::<Vec<_>>();
            thread::spawn(all).join().unwrap()
        };
        let first = elsewhere(10);
        assert!(first.is_sorted_by(|a, b| a < b));
        let arrival = uses.arrival();
        assert!(first.iter().all(|number| *number < arrival) && arrival < uses.hit());
        assert!(arrival < elsewhere(1)[0] && arrival < uses.arrival());
        let many = elsewhere(64);
        assert!(*many.last().unwrap() < uses.hit());
        assert_eq!(uses.hits(), 10 + 1 + 1 + 64 + 1);
    }

    #[test]
    fn no_hit_is_uncounted_when_threads_share_a_place() {
        let uses = Uses::default();
        thread::scope(|scope| {
            for _ in 0..2 * PLACES {
                scope.spawn(|| (0..100).for_each(|_| _ = uses.hit()));
            }
        });
        assert_eq!(uses.hits(), 200 * PLACES as u64);
    }
}
