//! A table in parts, each behind a lock of its own.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use hashbrown::HashTable;
use parking_lot::RwLock;

const SHARDS: usize = 64;

/// What is found by a key of bytes, in 64 parts. A key is hashed once: some bits of the hash choose the
/// part, others the place in the part's table. The hash is the standard library's, with keys of its
/// own, so nobody can choose keys that collide.
#[derive(Debug)]
pub(super) struct Shards<T> {
    hasher: RandomState,
    parts: Vec<Part<T>>,
}

/// A part alone in its piece of the processor's cache: who takes its lock takes no neighbour's away.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part<T>(RwLock<T>);

impl<T: Default> Shards<T> {
    pub(super) fn new() -> Self {
        let parts = (0..SHARDS).map(|_| Part::default()).collect();
        Self { hasher: RandomState::new(), parts }
    }
}

impl<T> Shards<T> {
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        // A key is all that is hashed, so its length need not be, as `Hash` would have it.
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        hasher.finish()
    }

    /// Returns the part that a key of this hash is in. A table takes the lowest and the highest bits.
    #[expect(clippy::indexing_slicing, reason = "a remainder is below the length")]
    pub(super) fn of(&self, hash: u64) -> &RwLock<T> {
        &self.parts[usize::try_from((hash >> 40) % SHARDS as u64).unwrap_or(0)].0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &RwLock<T>> {
        self.parts.iter().map(|part| &part.0)
    }
}

/// Puts a value into a table in the place of the one that `is_it` knows, if there is one.
pub(super) fn put<T>(
    table: &mut HashTable<T>,
    hash: u64,
    value: T,
    is_it: impl FnMut(&T) -> bool,
    hash_of: impl Fn(&T) -> u64,
) {
    match table.find_mut(hash, is_it) {
        Some(own) => *own = value,
        None => {
            table.insert_unique(hash, value, hash_of);
        }
    }
}

/// Takes the value out of a table that `is_it` knows.
pub(super) fn take<T>(
    table: &mut HashTable<T>,
    hash: u64,
    is_it: impl FnMut(&T) -> bool,
) -> Option<T> {
    table.find_entry(hash, is_it).ok().map(|entry| entry.remove().0)
}
