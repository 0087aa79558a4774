//! When entries are over, soonest first, so that what nobody reads is taken away as well.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    sync::{Arc, Weak},
};

use crate::entry::{Entry, NEVER, Nanos};

/// A queue of ends. It is not told of entries that leave: a record is compared with what is kept
/// under its key when its time has come, and records of entries that nobody holds any more are
/// thrown away when there are twice as many as there were entries. The store is not asked then: it
/// would take that for a use of each key, of those too that it has just evicted.
#[derive(Debug)]
pub(crate) struct Deadlines<K, V> {
    heap: BinaryHeap<Record<K, V>>,
    limit: usize,
}

/// That an entry, told by its key, may be over.
#[derive(Debug)]
pub(crate) struct Record<K, V> {
    end: Nanos,
    pub(crate) key: K,
    entry: Weak<Entry<V>>,
}

impl<K, V> Record<K, V> {
    /// Returns whether it is of this entry.
    pub(crate) fn is_of(&self, entry: &Arc<Entry<V>>) -> bool {
        std::ptr::eq(self.entry.as_ptr(), Arc::as_ptr(entry))
    }

    /// Returns whether nobody holds its entry any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.entry.strong_count() == 0
    }
}

impl<K, V> PartialEq for Record<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K, V> Eq for Record<K, V> {}

impl<K, V> PartialOrd for Record<K, V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K, V> Ord for Record<K, V> {
    /// The heap's greatest is the one that ends first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.end.cmp(&self.end)
    }
}

/// How many records are kept before it is looked which of them are still of use.
const LEAST: usize = 64;

impl<K, V> Deadlines<K, V> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), limit: LEAST }
    }

    /// Notes the end of an entry, unless it has none.
    pub(crate) fn note(&mut self, end: Nanos, key: K, entry: &Arc<Entry<V>>) {
        if end == NEVER {
            return;
        }
        if self.limit <= self.heap.len() {
            self.heap.retain(|record| !record.is_gone());
            self.limit = LEAST.max(self.heap.len() * 2);
        }
        self.heap.push(Record { end, key, entry: Arc::downgrade(entry) });
    }

    /// Takes the record that ended first, if it has ended by `now`.
    pub(crate) fn due(&mut self, now: Nanos) -> Option<Record<K, V>> {
        (self.heap.peek()?.end <= now).then(|| self.heap.pop()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Times;

    fn entry() -> Arc<Entry<u64>> {
        Arc::new(Entry::new(None, 0, Times { stored: 0, ttl: None }, Box::default()))
    }

    #[test]
    fn records_come_in_the_order_of_their_ends_and_not_before() {
        let mut deadlines = Deadlines::new();
        let kept = entry();
        for (end, key) in [(30, "c"), (10, "a"), (NEVER, "never"), (20, "b")] {
            deadlines.note(end, key, &kept);
        }
        assert!(deadlines.due(9).is_none());
        let due: Vec<_> = std::iter::from_fn(|| deadlines.due(20)).map(|it| it.key).collect();
        assert_eq!(due, ["a", "b"]);
        assert_eq!(deadlines.due(u64::MAX - 1).map(|it| it.key), Some("c"));
        assert!(deadlines.due(NEVER).is_none());
    }

    #[test]
    fn a_key_that_is_put_again_and_again_leaves_few_records() {
        let mut deadlines = Deadlines::new();
        let mut kept = entry();
        for end in 1..100_000 {
            deadlines.note(end, "k", &kept);
            assert!(deadlines.heap.len() <= LEAST, "{end}");
            kept = entry();
        }
        assert!(!deadlines.due(NEVER - 1).unwrap().is_of(&kept));
    }
}
