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

use std::{cmp::Reverse, collections::BTreeSet, num::NonZeroU32};

use infra_core::queue::Priority;

use super::entry::Number;

/// The weight of a key among others.
pub type Weigh = fn(&str) -> NonZeroU32;

/// A turn of a key of weight 1, in the ticks of start tags.
const ROUND: u64 = 1 << 20;

/// The place of a ready entry: the most urgent first, then by turn, then the oldest.
type Place = (Reverse<Priority>, u64, Number);

/// The ready entries of a queue.
#[derive(Debug)]
pub(crate) struct Order {
    weigh: Option<Weigh>,
    ageing: Option<NonZeroU32>,
    ready: BTreeSet<Place>,
    /// The same by age, kept only if starvation is bounded.
    by_age: BTreeSet<Number>,
    /// The start tag that is served now.
    now: u64,
    n_taken: u32,
}

impl Order {
    pub(crate) fn new(weigh: Option<Weigh>, ageing: Option<NonZeroU32>) -> Self {
        let (ready, by_age) = (BTreeSet::new(), BTreeSet::new());
        Self { weigh, ageing, ready, by_age, now: 0, n_taken: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    #[cfg(feature = "nats")]
    pub(crate) fn len(&self) -> usize {
        self.ready.len()
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
        self.ready.insert((Reverse(priority), turn, number));
        if self.ageing.is_some() {
            self.by_age.insert(number);
        }
        turn
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
        self.ready.remove(&(Reverse(priority), turn, number));
        self.by_age.remove(&number);
    }

    /// Returns the entry that is handed out next; it is then to be removed.
    pub(crate) fn next(&mut self) -> Option<Number> {
        let (_, turn, number) = self.ready.first().copied()?;
        let Some(every) = self.ageing else {
            self.now = self.now.max(turn);
            return Some(number);
        };
        self.n_taken = (self.n_taken + 1) % every;
        if self.n_taken == 0 {
            return self.by_age.first().copied();
        }
        self.now = self.now.max(turn);
        Some(number)
    }
}
