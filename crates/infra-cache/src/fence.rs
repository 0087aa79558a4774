//! The fence: one count of changes, by which a late value is told from a current one.
//!
//! A load takes the count as its ticket before it asks anybody. A clearing, a removed tag and a
//! dropped group each take the next number and write it into a cell. A value is current while no
//! cell that it stands under holds a number above its ticket. That is checked when it is kept and
//! each time it is read, so it does not matter which of the two comes first: if a load took its
//! ticket before the change, every read that starts after the change sees the cell above the ticket.
//! Changes of a single key need no cell: they are made under the lock under which fills are.

use crate::sync::{AtomicU64, Ordering};

/// Where the number of the last change of one kind is kept.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    /// Creates the cell of what was changed last with number `tick`.
    pub(crate) fn new(tick: u64) -> Self {
        Self(AtomicU64::new(tick))
    }

    /// Returns whether nothing has changed since a ticket was taken.
    pub(crate) fn admits(&self, ticket: u64) -> bool {
        // Acquire pairs with the release in `raise`.
        self.0.load(Ordering::Acquire) <= ticket
    }

    /// Notes a change; of two that overlap the later number stays.
    pub(crate) fn raise(&self, tick: u64) {
        // Release: who sees the change sees what was written before it.
        self.0.fetch_max(tick, Ordering::AcqRel);
    }
}

/// The count of changes of one cache, and the cell of its clearings.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    tick: AtomicU64,
    cleared: Cell,
}

impl Fence {
    /// Returns a ticket: the number of the last change.
    pub(crate) fn ticket(&self) -> u64 {
        // Acquire pairs with the release in `advance`: who holds a ticket at least as high as a
        // change sees what the changer wrote before it, the origin's new value for one.
        self.tick.load(Ordering::Acquire)
    }

    /// Takes the number of the next change.
    pub(crate) fn advance(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Notes that everything was removed.
    pub(crate) fn clear(&self) {
        self.cleared.raise(self.advance());
    }

    /// Returns whether nothing was cleared since a ticket was taken.
    pub(crate) fn admits(&self, ticket: u64) -> bool {
        self.cleared.admits(ticket)
    }
}
