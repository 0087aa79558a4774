//! moka as the store.

use std::{hash::Hash, sync::Arc};

use foldhash::quality::RandomState;
use moka::{
    notification::RemovalCause,
    policy::EvictionPolicy,
    sync::{Cache, CacheBuilder},
};

use super::{Left, Store, Why};
use crate::entry::{Entry, Nanos};

/// Keeps entries in moka. Its own deadlines are not used: its clock cannot be injected.
pub(super) struct Moka<K, V>(Cache<K, Arc<Entry<V>>, RandomState>);

impl<K, V> Moka<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(capacity: u64, policy: EvictionPolicy, left: Left<K, V>) -> Self {
        let listener = move |key: Arc<K>, entry: Arc<Entry<V>>, cause| {
            let why = match cause {
                RemovalCause::Size => Why::Size,
                RemovalCause::Replaced => Why::Replaced,
                RemovalCause::Explicit | RemovalCause::Expired => Why::Removed,
            };
            left(&key, &entry, why);
        };
        let builder = CacheBuilder::new(capacity)
            .eviction_policy(policy)
            .weigher(|_: &K, entry: &Arc<Entry<V>>| entry.weight)
            .eviction_listener(listener);
        Self(builder.build_with_hasher(RandomState::default()))
    }
}

impl<K, V> Store<K, V> for Moka<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn get(&self, key: &K) -> Option<Arc<Entry<V>>> {
        self.0.get(key)
    }

    /// Returns an entry; moka takes that for a use of its key, so it is not for what is done often.
    fn peek(&self, key: &K) -> Option<Arc<Entry<V>>> {
        self.0.get(key)
    }

    fn insert(&self, key: K, entry: Arc<Entry<V>>, _now: Nanos) {
        self.0.insert(key, entry);
    }

    fn remove(&self, key: &K) -> Option<Arc<Entry<V>>> {
        self.0.remove(key)
    }

    fn clear(&self) {
        self.0.invalidate_all();
    }

    fn all(&self) -> Vec<(K, Arc<Entry<V>>)> {
        self.0.iter().map(|(key, entry)| ((*key).clone(), entry)).collect()
    }

    fn settle(&self) -> (u64, u64) {
        // One run evicts a bounded number of entries.
        loop {
            let before = (self.0.entry_count(), self.0.weighted_size());
            self.0.run_pending_tasks();
            let after = (self.0.entry_count(), self.0.weighted_size());
            if before == after {
                return after;
            }
        }
    }
}
