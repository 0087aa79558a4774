//! Changes of one key that depend on what is there.

use std::hash::Hash;

use super::LocalCache;
use crate::{entry::Phase, read::Loaded};

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<V> {
    /// It stays as it is.
    Keep,
    /// This is put, as by [`LocalCache::put_loaded`].
    Put(Loaded<V>),
    /// It is removed, as by [`LocalCache::invalidate`].
    Remove,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Computed {
    /// It stayed as it was.
    Kept,
    /// A value was put where none was.
    Inserted,
    /// A value was put where one was.
    Replaced,
    /// A value was removed.
    Removed,
}

impl<K, V> LocalCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Changes a key by a function of the fresh value under it; no other change of the key comes between.
    ///
    /// The function is called under the lock of a part of the keys: it has to be short, and must
    /// not use the cache. A counter, for example:
    ///
    /// ```
    /// use infra_core::SystemClock;
    /// use infra_cache::{Change, LocalCache, Options};
    ///
    /// let visits: LocalCache<&str, u64> = LocalCache::new(Options::new(100), SystemClock::shared());
    /// for _ in 0..3 {
    ///     visits.compute(&"home", |count| Change::Put((count.unwrap_or(0) + 1).into()));
    /// }
    /// assert_eq!(visits.get(&"home"), Some(3));
    /// ```
    pub fn compute(&self, key: &K, change: impl FnOnce(Option<V>) -> Change<V>) -> Computed {
        let inner = &*self.0;
        let mut shard = inner.lock(key);
        let found = inner.find(key, inner.books.now());
        let fresh = found.filter(|(_, phase)| phase.is_fresh() && *phase != Phase::Over);
        let value = fresh.and_then(|(entry, _)| entry.value.clone());
        let was_there = value.is_some();
        let computed = match change(value) {
            Change::Keep => Computed::Kept,
            Change::Put(loaded) => {
                inner.put(&mut shard, key.clone(), loaded);
                if was_there { Computed::Replaced } else { Computed::Inserted }
            }
            Change::Remove => {
                inner.invalidate(&mut shard, key);
                if was_there { Computed::Removed } else { Computed::Kept }
            }
        };
        drop(shard);
        inner.tidy();
        computed
    }
}
