//! Groups: entries with an owner, that end with it.

use std::{
    fmt::{self, Debug},
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering},
};

use infra_core::{Error, ErrorKind, Result};

use crate::{
    local::LocalCache,
    read::{Loaded, Read},
    tags::Tag,
};

/// Entries of a cache that belong to something: a room, a match, a tenant.
///
/// Dropping it removes them all at once, however many they are; loads that are on their way for it
/// are not kept. Keys are those of the cache, so a value that somebody else puts under a key of the group
/// takes it away from the group.
///
/// ```
/// use infra_core::SystemClock;
/// use infra_cache::{LocalCache, Options};
///
/// let hands = LocalCache::new(Options::new(1_000), SystemClock::shared());
/// let room = hands.group(100);
/// room.put(("room-1", "ann"), 7);
/// assert_eq!(hands.get(&("room-1", "ann")), Some(7));
/// drop(room);
/// assert_eq!(hands.get(&("room-1", "ann")), None);
/// ```
pub struct Group<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    cache: LocalCache<K, V>,
    tag: Tag,
    most: usize,
}

impl<K, V> LocalCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates a group of up to `most` entries. A put into a full one is not kept, and neither is a
    /// load's value, so that one group cannot flush the others.
    pub fn group(&self, most: usize) -> Group<K, V> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: it only has to be a number that no other group has.
        let tag = Tag::Group(NEXT.fetch_add(1, Ordering::Relaxed));
        Group { cache: self.clone(), tag, most }
    }
}

impl<K, V> Group<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Keeps a value as one of the group; returns whether there was room.
    pub fn put(&self, key: K, value: V) -> bool {
        self.put_loaded(key, Loaded::new(value))
    }

    /// Keeps a value with a time and tags of its own as one of the group; returns whether there was room.
    pub fn put_loaded(&self, key: K, loaded: Loaded<V>) -> bool {
        let has_room = self.has_room();
        if has_room {
            self.cache.put_loaded(key, self.owned(loaded));
        } else {
            // The older value must not outlive the newer one that finds no room.
            self.cache.invalidate(&key);
        }
        has_room
    }

    /// Returns the value under a key, or loads it and keeps it as one of the group.
    ///
    /// # Errors
    ///
    /// As for [`LocalCache::get_or_load`].
    ///
    /// # Cancel safety
    ///
    /// As for [`LocalCache::get_or_load`].
    pub async fn get_or_load<F, L>(&self, key: &K, load: F) -> Result<V>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<V>> + Send + 'static,
    {
        let tag = self.tag.clone();
        let has_room = self.has_room();
        let load = || {
            let load = load();
            async move {
                let mut loaded = Loaded::new(load.await?);
                loaded.tags.push(tag);
                Ok(if has_room { loaded } else { loaded.ttl(std::time::Duration::ZERO) })
            }
        };
        let read: Read<V> = self.cache.read_or_load(key, load).await?;
        read.value.ok_or_else(|| Error::new(ErrorKind::NotFound, "load value"))
    }

    /// Returns how many entries it has; some may be over.
    pub fn len(&self) -> usize {
        self.cache.0.books.tags.count(&self.tag)
    }

    /// Returns whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn has_room(&self) -> bool {
        self.len() < self.most
    }

    fn owned(&self, mut loaded: Loaded<V>) -> Loaded<V> {
        loaded.tags.push(self.tag.clone());
        loaded
    }
}

impl<K, V> Drop for Group<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.cache.0.end(&self.tag);
    }
}

impl<K, V> Debug for Group<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("most", &self.most).finish_non_exhaustive()
    }
}
