//! What takes room in memory, and who leaves it next.

use std::{cmp::Reverse, collections::BinaryHeap, sync::atomic::AtomicU64};

use super::{entity::Standing, limits::Limits, slot_key::SlotKey};

/// Room that was taken for an entity.
#[derive(Debug)]
pub(crate) struct Room {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

/// The room that is taken, and who leaves next.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) entries: usize,
    pub(super) bytes: usize,
    /// Active ones are in no heap: they do not leave.
    pub(super) leaving: BinaryHeap<Reverse<(Standing, u64, SlotKey)>>,
    pub(super) evicted: u64,
    pub(super) refused: u64,
}

impl Order {
    /// Returns whether so much more is within the limits.
    pub(super) const fn fits(&self, limits: &Limits, entries: usize, bytes: usize) -> bool {
        self.entries.saturating_add(entries) <= limits.entries
            && self.bytes.saturating_add(bytes) <= limits.bytes
    }

    pub(super) const fn take(&mut self, entries: usize, bytes: usize) -> Room {
        self.entries += entries;
        self.bytes += bytes;
        Room { entries, bytes }
    }

    pub(super) const fn give(&mut self, room: &Room) {
        self.entries -= room.entries;
        self.bytes -= room.bytes;
    }
}

/// How lookups ended that were no hits.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) known_absent: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) loads: AtomicU64,
}
