//! In which order ready entries are handed out.
//!
//! The most urgent first. Within a priority either the oldest, or, if the queue is fair to keys, by
//! start-time fair queueing (Goyal, Vin, Cheng 1996): each key's next message has a start tag one
//! share after the key's last one, or after the tag that is served now, whichever is later; the
//! lowest tag is served. A key with many messages so gets one turn a round, like any other.
//!
//! If the queue bounds starvation, each n-th message that is handed out is the oldest that is ready,
//! whatever its priority: with `k` ready ones before it in the order of publishing, a message waits
//! for at most `n * (k + 1)` others.

use std::{array, collections::BTreeSet, num::NonZeroU32};

use infra_core::queue::Priority;

use super::entry::Number;

/// The weight of a key among others.
pub type Weigh = fn(&str) -> NonZeroU32;

/// A turn of a key of weight 1, in the ticks of start tags.
const ROUND: u64 = 1 << 20;

/// The place of a ready entry within its priority: by turn, then the oldest.
type Place = (u64, Number);

/// How many priorities there are.
const PRIORITIES: usize = 4;

const fn row(priority: Priority) -> usize {
    match priority {
        Priority::Critical => 0,
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 3,
    }
}

/// The ready entries of a queue.
#[derive(Debug)]
pub(crate) struct Order {
    weigh: Option<Weigh>,
    ageing: Option<NonZeroU32>,
    /// By priority, the most urgent first.
    ready: [BTreeSet<Place>; PRIORITIES],
    /// The same by age, kept only if starvation is bounded and turns differ: without turns each row
    /// begins with its oldest.
    by_age: BTreeSet<Number>,
    /// The start tag that is served now.
    now: u64,
    n_taken: u32,
}

impl Order {
    pub(crate) fn new(weigh: Option<Weigh>, ageing: Option<NonZeroU32>) -> Self {
        let (ready, by_age) = (array::from_fn(|_| BTreeSet::new()), BTreeSet::new());
        Self { weigh, ageing, ready, by_age, now: 0, n_taken: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.iter().all(BTreeSet::is_empty)
    }

    #[cfg(feature = "nats")]
    pub(crate) fn len(&self) -> usize {
        self.ready.iter().map(BTreeSet::len).sum()
    }

    /// Returns how many were handed out since the last one that was taken for its age.
    #[cfg(feature = "nats")]
    pub(crate) const fn n_taken(&self) -> u32 {
        self.n_taken
    }

    #[cfg(feature = "nats")]
    pub(crate) const fn restore(&mut self, n_taken: u32) {
        self.n_taken = n_taken;
    }

    /// Adds an entry and returns its turn; `last` is the last turn of its key.
    pub(crate) fn add(
        &mut self,
        priority: Priority,
        number: Number,
        key: Option<(&str, &mut u64)>,
    ) -> u64 {
        let turn = self.turn(key);
        if let Some(row) = self.ready.get_mut(row(priority)) {
            row.insert((turn, number));
        }
        if self.is_kept_by_age() {
            self.by_age.insert(number);
        }
        turn
    }

    const fn is_kept_by_age(&self) -> bool {
        self.ageing.is_some() && self.weigh.is_some()
    }

    /// Returns the one that is ready longest by the order of publishing.
    fn oldest(&self) -> Option<Number> {
        if self.is_kept_by_age() {
            return self.by_age.first().copied();
        }
        self.ready.iter().filter_map(|row| row.first().map(|(_, number)| *number)).min()
    }

    fn turn(&self, key: Option<(&str, &mut u64)>) -> u64 {
        let Some(weigh) = self.weigh else { return 0 };
        let Some((key, last)) = key else { return self.now + ROUND };
        let share = ROUND / u64::from(weigh(key).get()).min(ROUND);
        *last = self.now.max(*last) + share;
        *last
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, priority: Priority, turn: u64, number: Number) {
        if let Some(row) = self.ready.get_mut(row(priority)) {
            row.remove(&(turn, number));
        }
        if self.is_kept_by_age() {
            self.by_age.remove(&number);
        }
    }

    /// Returns the entry that is handed out next; it is then to be removed.
    pub(crate) fn next(&mut self) -> Option<Number> {
        let (turn, number) = self.ready.iter().find_map(BTreeSet::first).copied()?;
        let Some(every) = self.ageing else {
            self.now = self.now.max(turn);
            return Some(number);
        };
        self.n_taken = (self.n_taken + 1) % every;
        if self.n_taken == 0 {
            return self.oldest();
        }
        self.now = self.now.max(turn);
        Some(number)
    }
}
