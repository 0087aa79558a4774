//! The most frequent of a stream of keys, in bounded memory.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Counts the most frequent keys: Space-Saving (Metwally, Agrawal, El Abbadi: Efficient Computation of
/// Frequent and Top-k Elements in Data Streams, 2005).
///
/// While there are no more keys than places the counts are exact. After that a key that is counted
/// was seen at least `count - error` times, and one that was seen more often than one in `places` of all
/// is among them.
///
/// ```
/// use infra_cache::HeavyHitters;
///
/// let mut reads = HeavyHitters::new(100);
/// ["a", "b", "a"].into_iter().for_each(|key| reads.note(&key));
/// assert_eq!(reads.top(1), ["a"]);
/// ```
#[derive(Debug, Clone)]
pub struct HeavyHitters<K> {
    places: usize,
    counted: HashMap<K, Rank>,
    order: BTreeMap<Rank, K>,
    seen: u64,
}

/// How often a key was counted, and when it was seen first since it has its place; the earlier one
/// is the higher of equals.
type Rank = (u64, Reverse<u64>);

impl<K: Hash + Eq + Clone> HeavyHitters<K> {
    /// Creates a count with so many places; without any it counts nothing.
    pub fn new(places: usize) -> Self {
        Self { places, counted: HashMap::new(), order: BTreeMap::new(), seen: 0 }
    }

    /// Counts a key.
    pub fn note(&mut self, key: &K) {
        self.seen += 1;
        let rank = match self.counted.get(key).copied() {
            Some(old) => {
                self.order.remove(&old);
                (old.0 + 1, old.1)
            }
            None if self.counted.len() < self.places => (1, Reverse(self.seen)),
            // The one with the fewest gives its place and its count away.
            None => match self.order.pop_first() {
                Some((least, loser)) => {
                    self.counted.remove(&loser);
                    (least.0 + 1, Reverse(self.seen))
                }
                None => return,
            },
        };
        self.counted.insert(key.clone(), rank);
        self.order.insert(rank, key.clone());
    }

    /// Returns up to `count` keys, the most frequent first; of equals the one that was seen first.
    pub fn top(&self, count: usize) -> Vec<K> {
        self.order.values().rev().take(count).cloned().collect()
    }
}
