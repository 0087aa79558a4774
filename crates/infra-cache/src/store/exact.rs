//! A small store whose victims can be told in advance.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{Left, Store, Why};
use crate::{
    entry::{Entry, NEVER, Nanos},
    options::Options,
};

/// After how many uses per entry the frequencies are halved, so that what was hot once can go.
const AGEING: u64 = 10;

/// By what the first victim is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Recency,
    Frequency,
    Insertion,
}

/// An entry's place: its frequency if that counts, then when it was used or put.
type Rank = (u64, u64);

/// Keeps entries in a map, with an index by rank and one by end; every operation is O(log n) under
/// one lock.
pub(super) struct Exact<K, V> {
    kept: Mutex<Kept<K, V>>,
    order: Order,
    options: Options,
    left: Left<K, V>,
}

struct Kept<K, V> {
    entries: HashMap<K, Held<V>>,
    ranks: BTreeMap<Rank, K>,
    ends: BTreeMap<(Nanos, u64), K>,
    weight: u64,
    /// Counts uses; it breaks ties and dates the ageing.
    step: u64,
    aged: u64,
}

struct Held<V> {
    entry: Arc<Entry<V>>,
    rank: Rank,
    end: (Nanos, u64),
}

impl<K: Hash + Eq + Clone, V> Exact<K, V> {
    pub(super) fn new(options: Options, order: Order, left: Left<K, V>) -> Self {
        let kept = Kept {
            entries: HashMap::new(),
            ranks: BTreeMap::new(),
            ends: BTreeMap::new(),
            weight: 0,
            step: 0,
            aged: 0,
        };
        Self { kept: Mutex::new(kept), order, options, left }
    }

    /// Returns the rank after a use; `old` is none for an entry that is new.
    fn rank(&self, old: Option<Rank>, step: u64) -> Rank {
        match (self.order, old) {
            (Order::Frequency, Some((frequency, _))) => (frequency.saturating_add(1), step),
            (Order::Frequency, None) => (1, step),
            (Order::Recency | Order::Insertion, _) => (0, step),
        }
    }
}

impl<K: Hash + Eq + Clone, V> Kept<K, V> {
    fn take(&mut self, key: &K) -> Option<Held<V>> {
        let held = self.entries.remove(key)?;
        self.ranks.remove(&held.rank);
        self.ends.remove(&held.end);
        self.weight -= u64::from(held.entry.weight);
        Some(held)
    }

    /// Returns who goes next: what is over, else the lowest rank.
    fn victim(&self, now: Nanos) -> Option<K> {
        let over = self.ends.first_key_value().filter(|((end, _), _)| *end <= now);
        over.map(|(_, key)| key).or_else(|| self.ranks.values().next()).cloned()
    }

    /// Halves all frequencies if it is time; the order of equals stays.
    fn age(&mut self) {
        let period = AGEING.saturating_mul(self.entries.len().max(1) as u64);
        if self.step.saturating_sub(self.aged) < period {
            return;
        }
        self.aged = self.step;
        self.ranks.clear();
        for (key, held) in &mut self.entries {
            held.rank.0 = (held.rank.0 / 2).max(1);
            self.ranks.insert(held.rank, key.clone());
        }
    }
}

impl<K, V> Store<K, V> for Exact<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn get(&self, key: &K) -> Option<Arc<Entry<V>>> {
        let mut kept = self.kept.lock();
        kept.step += 1;
        let step = kept.step;
        if self.order == Order::Frequency {
            kept.age();
        }
        let Kept { entries, ranks, .. } = &mut *kept;
        let held = entries.get_mut(key)?;
        if self.order != Order::Insertion {
            let moved = ranks.remove(&held.rank);
            held.rank = self.rank(Some(held.rank), step);
            ranks.insert(held.rank, moved.unwrap_or_else(|| key.clone()));
        }
        Some(Arc::clone(&held.entry))
    }

    fn peek(&self, key: &K) -> Option<Arc<Entry<V>>> {
        self.kept.lock().entries.get(key).map(|held| Arc::clone(&held.entry))
    }

    fn insert(&self, key: K, entry: Arc<Entry<V>>, now: Nanos) {
        let mut kept = self.kept.lock();
        kept.step += 1;
        let step = kept.step;
        let old = kept.take(&key);
        let rank = self.rank(old.as_ref().map(|old| old.rank), step);
        if let Some(old) = old {
            (self.left)(&key, &old.entry, Why::Replaced);
        }
        let weight = u64::from(entry.weight);
        let end = entry.end(&self.options);
        // What would never fit evicts nobody else.
        if self.options.capacity < weight {
            (self.left)(&key, &entry, Why::Size);
            return;
        }
        while self.options.capacity < kept.weight + weight {
            let Some(victim) = kept.victim(now) else { break };
            let Some(held) = kept.take(&victim) else { break };
            (self.left)(&victim, &held.entry, Why::Size);
        }
        if end != NEVER {
            kept.ends.insert((end, step), key.clone());
        }
        kept.ranks.insert(rank, key.clone());
        kept.weight += weight;
        kept.entries.insert(key, Held { entry, rank, end: (end, step) });
    }

    fn remove(&self, key: &K) -> Option<Arc<Entry<V>>> {
        let held = self.kept.lock().take(key)?;
        (self.left)(key, &held.entry, Why::Removed);
        Some(held.entry)
    }

    fn clear(&self) {
        let entries = {
            let mut kept = self.kept.lock();
            kept.ranks.clear();
            kept.ends.clear();
            kept.weight = 0;
            std::mem::take(&mut kept.entries)
        };
        for (key, held) in &entries {
            (self.left)(key, &held.entry, Why::Removed);
        }
    }

    fn all(&self) -> Vec<(K, Arc<Entry<V>>)> {
        let kept = self.kept.lock();
        kept.entries.iter().map(|(key, held)| (key.clone(), Arc::clone(&held.entry))).collect()
    }

    fn settle(&self) -> (u64, u64) {
        let kept = self.kept.lock();
        (kept.entries.len() as u64, kept.weight)
    }
}
