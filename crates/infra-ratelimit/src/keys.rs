//! The cells of all keys of one limit, bounded.

use std::collections::HashMap;

/// Cells by key. A bucket that is full again is dropped, since it equals a new one; when there is
/// no room, all further keys share one cell, so a flood of keys never makes fresh budgets.
#[derive(Debug)]
pub(crate) struct Keys {
    capacity: usize,
    cells: HashMap<String, u64>,
    shared: Option<u64>,
    /// No cell is full before this time, so no sweep finds anything.
    next_sweep: u64,
}

/// Which cell stands for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Own,
    Shared,
}

impl Keys {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, cells: HashMap::new(), shared: None, next_sweep: 0 }
    }

    /// Returns the cell of a key: the theoretical arrival time in nanoseconds.
    pub(crate) fn find(&mut self, key: &str, now: u64) -> (Place, Option<u64>) {
        if let Some(cell) = self.cells.get(key) {
            return (Place::Own, Some(*cell));
        }
        if self.capacity <= self.cells.len() && self.next_sweep <= now {
            self.cells.retain(|_, cell| now < *cell);
            let earliest = self.cells.values().min().copied();
            self.next_sweep = earliest.unwrap_or(now).max(now + SWEEP_PAUSE);
        }
        if self.cells.len() < self.capacity {
            return (Place::Own, None);
        }
        (Place::Shared, self.shared)
    }

    pub(crate) fn set(&mut self, place: Place, key: &str, cell: u64) {
        match place {
            Place::Own => match self.cells.get_mut(key) {
                Some(own) => *own = cell,
                None => {
                    self.cells.insert(key.to_owned(), cell);
                }
            },
            Place::Shared => self.shared = Some(cell),
        }
    }

    /// Changes a cell, if it is still kept.
    pub(crate) fn change(&mut self, place: Place, key: &str, change: impl FnOnce(u64) -> u64) {
        let cell = match place {
            Place::Own => self.cells.get_mut(key),
            Place::Shared => self.shared.as_mut(),
        };
        if let Some(cell) = cell {
            *cell = change(*cell);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }
}

/// The least time between two sweeps in nanoseconds, so that a flood does not pay one each.
const SWEEP_PAUSE: u64 = 10_000_000;
