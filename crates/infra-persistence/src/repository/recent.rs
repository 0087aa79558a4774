//! The entities that were used last, decoded, within a bound.
//!
//! What is pushed out here is still in the store: nothing is evicted that is not stored.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::entity::Stored;

/// Keeps the most recently used entities.
#[derive(Debug)]
pub(super) struct Recent<E> {
    capacity: usize,
    entities: HashMap<Bytes, (Stored<E>, u64)>,
    /// The keys by their last use.
    uses: BTreeMap<u64, Bytes>,
    last_use: u64,
    /// How many writes are on their way to each key, and how many there were since it had none.
    writing: HashMap<Bytes, (u32, u32)>,
    /// How many writes have ended.
    changes: u64,
}

impl<E> Recent<E> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entities: HashMap::new(),
            uses: BTreeMap::new(),
            last_use: 0,
            writing: HashMap::new(),
            changes: 0,
        }
    }

    /// Returns an entity and makes it the most recently used.
    pub(super) fn get(&mut self, key: &Bytes) -> Option<Stored<E>> {
        let (stored, last) = self.entities.get_mut(key)?;
        self.uses.remove(last);
        self.last_use += 1;
        *last = self.last_use;
        self.uses.insert(self.last_use, key.clone());
        Some(stored.clone())
    }

    /// Returns how many writes have ended.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Keeps what was stored when `changes` writes had ended, unless it may be older than what is
    /// stored now.
    pub(super) fn put(&mut self, key: Bytes, stored: Stored<E>, changes: u64) {
        if self.capacity == 0 || changes != self.changes || self.writing.contains_key(&key) {
            return;
        }
        self.remove(&key);
        if self.capacity <= self.entities.len()
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            self.entities.remove(&oldest);
        }
        self.last_use += 1;
        self.uses.insert(self.last_use, key.clone());
        self.entities.insert(key, (stored, self.last_use));
    }

    /// Notes that keys are written: until that has ended they are read from the store.
    pub(super) fn begin(&mut self, keys: &[Bytes]) {
        for key in keys {
            let (now, all) = self.writing.entry(key.clone()).or_default();
            (*now, *all) = (*now + 1, *all + 1);
            self.remove(key);
        }
    }

    /// Notes that a write of keys has ended, whatever it came to; returns whether it was alone. If
    /// not, another one may have come later into the store and ended sooner.
    pub(super) fn end(&mut self, keys: &[Bytes]) -> bool {
        self.changes += 1;
        let mut was_alone = true;
        for key in keys {
            let Some((now, all)) = self.writing.get_mut(key) else { continue };
            *now -= 1;
            was_alone &= *all == 1;
            if *now == 0 {
                self.writing.remove(key);
            }
        }
        was_alone
    }

    fn remove(&mut self, key: &Bytes) {
        if let Some((_, last)) = self.entities.remove(key) {
            self.uses.remove(&last);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entities.len()
    }
}
