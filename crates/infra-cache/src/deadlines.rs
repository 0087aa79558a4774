//! When entries are over, soonest first, so that what nobody reads is taken away as well.

use std::{cmp::Ordering, collections::BinaryHeap};

use crate::entry::{NEVER, Nanos};

/// A queue of ends. It is not told of entries that leave: a record is compared with what is kept
/// under its key when its time has come, and when there are twice as many as there were entries.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    heap: BinaryHeap<Record<K>>,
    limit: usize,
}

/// That an entry, told by its key and number, may be over.
#[derive(Debug)]
pub(crate) struct Record<K> {
    end: Nanos,
    pub(crate) seq: u64,
    pub(crate) key: K,
}

impl<K> PartialEq for Record<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K> Eq for Record<K> {}

impl<K> PartialOrd for Record<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Record<K> {
    /// The heap's greatest is the one that ends first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.end, other.seq).cmp(&(self.end, self.seq))
    }
}

/// How many records are kept before it is looked which of them are still of use.
const LEAST: usize = 64;

impl<K> Deadlines<K> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), limit: LEAST }
    }

    /// Notes the end of an entry, unless it has none. `is_kept` tells whether a record's entry is
    /// still there.
    pub(crate) fn note(&mut self, end: Nanos, seq: u64, key: K, is_kept: impl Fn(&K, u64) -> bool) {
        if end == NEVER {
            return;
        }
        self.heap.push(Record { end, seq, key });
        if self.limit <= self.heap.len() {
            self.heap.retain(|record| is_kept(&record.key, record.seq));
            self.limit = LEAST.max(self.heap.len() * 2);
        }
    }

    /// Takes the record that ended first, if it has ended by `now`.
    pub(crate) fn due(&mut self, now: Nanos) -> Option<Record<K>> {
        (self.heap.peek()?.end <= now).then(|| self.heap.pop()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_in_the_order_of_their_ends_and_not_before() {
        let mut deadlines = Deadlines::new();
        for (end, key) in [(30, "c"), (10, "a"), (NEVER, "never"), (20, "b")] {
            deadlines.note(end, 1, key, |_, _| true);
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
        for seq in 0..100_000 {
            deadlines.note(seq + 1, seq, "k", |_, kept| kept == seq);
            assert!(deadlines.heap.len() <= LEAST, "{seq}");
        }
    }
}
