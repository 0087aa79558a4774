//! Several keys at once.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use super::{Inner, LocalCache, shard::Shard};
use crate::read::Loaded;

impl<K, V> LocalCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns the fresh values under several keys; a key that is named twice counts once.
    pub fn get_many(&self, keys: &[K]) -> HashMap<K, V> {
        let keys: HashSet<&K> = keys.iter().collect();
        keys.into_iter().filter_map(|key| Some((key.clone(), self.get(key)?))).collect()
    }

    /// Keeps several values for the time of the options; of a key that is named twice the last one.
    /// The lock of each part of the keys is taken once.
    pub fn put_many(&self, entries: impl IntoIterator<Item = (K, V)>) {
        self.put_many_loaded(entries.into_iter().map(|(key, value)| (key, Loaded::new(value))));
    }

    /// Keeps several values with times and tags of their own.
    pub fn put_many_loaded(&self, entries: impl IntoIterator<Item = (K, Loaded<V>)>) {
        self.0.by_shard(entries, |shard, key, loaded| self.0.put(shard, key, loaded));
    }

    /// Keeps values that were loaded since a ticket was taken, except those whose keys, tags or cache changed since;
    /// returns how many are there then.
    pub(crate) fn fill(
        &self,
        ticket: u64,
        entries: impl IntoIterator<Item = (K, Loaded<V>)>,
    ) -> u64 {
        let mut kept = Vec::new();
        self.0.by_shard(entries, |shard, key: K, loaded| {
            if shard.admits(&key, ticket) && self.0.fill(shard, key.clone(), loaded, ticket).1 {
                kept.push(key);
            }
        });
        kept.iter().filter(|key| self.contains(key)).count() as u64
    }

    /// Removes several values and returns how many fresh ones were there; a key that is named twice
    /// counts once. The lock of each part of the keys is taken once.
    pub fn invalidate_many(&self, keys: &[K]) -> u64 {
        let mut removed = 0;
        self.0.by_shard(keys.iter().map(|key| (key, ())), |shard, key, ()| {
            removed += u64::from(self.0.invalidate(shard, key));
        });
        removed
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Does something for each key, with all keys of one shard under one hold of its lock, in their order.
    pub(crate) fn by_shard<B: std::borrow::Borrow<K>, T>(
        &self,
        items: impl IntoIterator<Item = (B, T)>,
        mut act: impl FnMut(&mut Shard<K, V>, B, T),
    ) {
        let mut shards: HashMap<usize, Vec<(B, T)>> = HashMap::new();
        for (key, item) in items {
            shards.entry(self.place(key.borrow())).or_default().push((key, item));
        }
        for items in shards.into_values() {
            let Some((first, _)) = items.first() else { continue };
            let mut shard = self.shard(first.borrow()).lock();
            for (key, item) in items {
                act(&mut shard, key, item);
            }
        }
        self.tidy();
    }
}
