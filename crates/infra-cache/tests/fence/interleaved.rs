//! The fence under loom: each interleaving of a load with changes, and each order in which memory may show them.

use std::sync::atomic::{AtomicU64 as Count, Ordering};

use loom::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    thread,
};

use crate::counted::{Cell, Fence};

/// What a cache holds: a value, the ticket of its load, and the cells under which it stands.
struct Cache {
    fence: Fence,
    tag: Cell,
    kept: Mutex<Option<(u64, u64)>>,
    /// Written and read without any order of its own: the fence must bring it.
    origin: AtomicU64,
}

/// When the load takes its ticket; only the first is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ticket {
    BeforeAsking,
    AfterAsking,
}

impl Cache {
    fn new() -> Arc<Self> {
        let (fence, tag, kept) = (Fence::default(), Cell::default(), Mutex::new(None));
        Arc::new(Self { fence, tag, kept, origin: AtomicU64::new(0) })
    }

    fn load(&self, when: Ticket) {
        let early = self.fence.ticket();
        let value = self.origin.load(Ordering::Relaxed);
        let ticket = if when == Ticket::BeforeAsking { early } else { self.fence.ticket() };
        let mut kept = self.kept.lock().unwrap();
        if self.fence.admits(ticket) && self.tag.admits(ticket) {
            *kept = Some((value, ticket));
        }
    }

    fn read(&self) -> Option<u64> {
        let (value, ticket) = (*self.kept.lock().unwrap())?;
        (self.fence.admits(ticket) && self.tag.admits(ticket)).then_some(value)
    }

    /// Changes the origin, removes what is older, and reads.
    fn write(&self, value: u64, by_tag: bool) -> bool {
        self.origin.store(value, Ordering::Relaxed);
        if by_tag {
            self.tag.raise(self.fence.advance());
        } else {
            self.fence.clear();
        }
        self.read().is_some_and(|found| found < value)
    }
}

/// Returns in how many interleavings a read that began after a change had ended saw what was before it.
fn stale(when: Ticket, writers: &'static [bool]) -> usize {
    let stale = std::sync::Arc::new(Count::new(0));
    let counted = std::sync::Arc::clone(&stale);
    loom::model(move || {
        let cache = Cache::new();
        let loading = Arc::clone(&cache);
        let load = thread::spawn(move || loading.load(when));
        let mut is_stale = false;
        for (number, by_tag) in writers.iter().enumerate() {
            is_stale |= cache.write(number as u64 + 1, *by_tag);
        }
        load.join().unwrap();
        is_stale |= cache.read().is_some_and(|found| found < writers.len() as u64);
        counted.fetch_add(u64::from(is_stale), Ordering::Relaxed);
    });
    usize::try_from(stale.load(Ordering::Relaxed)).unwrap()
}

#[test]
fn in_no_interleaving_a_read_after_a_change_sees_what_was_before_it() {
    for writers in [[false].as_slice(), &[true], &[true, false], &[false, true]] {
        assert_eq!(stale(Ticket::BeforeAsking, writers), 0, "{writers:?}");
    }
}

/// The proof that the model bites: with the ticket taken too late it finds stale reads.
#[test]
fn a_ticket_that_is_taken_after_the_origin_was_asked_is_found_out() {
    for writers in [[false].as_slice(), &[true]] {
        assert!(0 < stale(Ticket::AfterAsking, writers), "{writers:?}");
    }
}

/// Two changes at the same time: the cell ends with the later number, so a load between them is refused.
#[test]
fn changes_that_overlap_leave_the_later_number() {
    loom::model(|| {
        let fence = Arc::new(Fence::default());
        let other = Arc::clone(&fence);
        let clearing = thread::spawn(move || other.clear());
        fence.clear();
        clearing.join().unwrap();
        assert!(!fence.admits(1) && fence.admits(2));
    });
}
