//! What the lock of a part of the keys guards: whatever must not change while a value is kept.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use crate::{
    deadlines::Deadlines,
    fence::Fence,
    flight::{Failures, Flight},
    recent::Recent,
};

/// The loads, errors and deadlines of a part of the keys.
#[derive(Debug)]
pub(crate) struct Shard<K, V> {
    pub(crate) flights: HashMap<K, Arc<Flight<V>>>,
    pub(crate) failures: Failures<K>,
    pub(crate) deadlines: Deadlines<K, V>,
    /// The last changes of keys, where fills come from outside.
    recent: Option<Recent<K>>,
    seq: u64,
}

impl<K: Hash + Eq + Clone, V> Shard<K, V> {
    pub(crate) fn new(remembers: usize) -> Self {
        Self {
            flights: HashMap::new(),
            failures: Failures::new(),
            deadlines: Deadlines::new(),
            recent: (0 < remembers).then(|| Recent::new(remembers)),
            seq: 0,
        }
    }

    /// Returns the number of the next entry.
    pub(crate) const fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Notes that a key is put or removed: a load of it is superseded, its error is forgotten.
    pub(crate) fn change(&mut self, key: &K, fence: &Fence) {
        // An empty map hashes the key all the same.
        if !self.flights.is_empty() {
            self.flights.remove(key);
        }
        self.failures.forget(key);
        if let Some(recent) = &mut self.recent {
            recent.note(key, fence.advance());
        }
    }

    /// Returns whether a key has not changed since a ticket was taken.
    pub(crate) fn admits(&self, key: &K, ticket: u64) -> bool {
        self.recent.as_ref().is_none_or(|recent| recent.last(key) <= ticket)
    }

    /// Takes a load off, if it is still the one of its key.
    pub(crate) fn land(&mut self, key: &K, flight: &Arc<Flight<V>>) -> bool {
        let is_current = self.flights.get(key).is_some_and(|own| Arc::ptr_eq(own, flight));
        if is_current {
            self.flights.remove(key);
        }
        is_current
    }

    pub(crate) fn clear(&mut self) {
        self.flights.clear();
        self.failures.clear();
    }
}
