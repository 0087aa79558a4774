//! The last changes of many names, in bounded memory.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Remembers for the names that changed lately when that was, and for all others when it was at
/// the latest. So it may answer too late a number, never too early a one.
#[derive(Debug)]
pub(crate) struct Recent<N> {
    last: HashMap<N, u64>,
    order: VecDeque<(N, u64)>,
    /// No name that is not remembered has changed after this.
    floor: u64,
    limit: usize,
}

impl<N: Hash + Eq + Clone> Recent<N> {
    /// Creates a memory of up to `limit` changes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { last: HashMap::new(), order: VecDeque::new(), floor: 0, limit }
    }

    /// Notes a change; numbers need not come in their order.
    pub(crate) fn note(&mut self, name: &N, tick: u64) {
        let last = self.last.entry(name.clone()).or_default();
        *last = tick.max(*last);
        self.order.push_back((name.clone(), tick));
        if self.limit < self.order.len() {
            self.forget();
        }
    }

    /// Returns the number of a name's last change, or a later one.
    pub(crate) fn last(&self, name: &N) -> u64 {
        self.last.get(name).copied().unwrap_or(self.floor)
    }

    fn forget(&mut self) {
        let Some((name, tick)) = self.order.pop_front() else { return };
        if self.last.get(&name).is_some_and(|last| *last <= tick) {
            self.last.remove(&name);
        }
        self.floor = self.floor.max(tick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_counts_as_changed_late_and_never_early() {
        let mut recent = Recent::new(3);
        for (name, tick) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            recent.note(&name, tick);
        }
        assert_eq!((recent.last(&"a"), recent.last(&"b"), recent.last(&"c")), (3, 2, 4));
        assert_eq!(recent.last(&"never"), 1, "as late as the latest that was forgotten");
        recent.note(&"d", 5);
        assert_eq!(recent.last(&"b"), 2, "forgotten, and as late as it was");
        assert_eq!(recent.order.len(), 3);
        assert!(recent.last.len() <= 3);
    }
}
