//! Where the slots of a table are, by the hash of their keys.
//!
//! It is cut into parts that grow each by itself: a small table has a small index, which stays in
//! the processor's caches, and no decision waits longer than the rehash of one part takes.

use hashbrown::HashTable;

/// How many parts an index has: 150,000 keys are some 2,400 in each.
const PARTS: usize = 64;

/// Places by hash.
#[derive(Debug)]
pub(crate) struct Index {
    parts: Box<[HashTable<u32>; PARTS]>,
}

impl Default for Index {
    fn default() -> Self {
        Self { parts: Box::new([const { HashTable::new() }; PARTS]) }
    }
}

/// Returns the part of a hash, by bits that a part itself does not look at before others.
const fn part_of(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}

impl Index {
    /// Returns the place of this hash that is the one.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let part = self.parts.get(part_of(hash))?;
        part.find(hash, |place| is_it(*place as usize)).map(|place| *place as usize)
    }

    /// Adds a place that is not there; `hash_of` returns the hash of any that is.
    pub(crate) fn insert(&mut self, hash: u64, place: u32, hash_of: impl Fn(usize) -> u64) {
        if let Some(part) = self.parts.get_mut(part_of(hash)) {
            part.insert_unique(hash, place, |place| hash_of(*place as usize));
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, place: usize) {
        if let Some(part) = self.parts.get_mut(part_of(hash))
            && let Ok(entry) = part.find_entry(hash, |at| *at as usize == place)
        {
            entry.remove();
        }
    }

    /// Takes note that what was at one place is at another.
    pub(crate) fn renumber(&mut self, hash: u64, from: usize, to: usize) {
        if let Some(part) = self.parts.get_mut(part_of(hash))
            && let Some(at) = part.find_mut(hash, |at| *at as usize == from)
            && let Ok(to) = u32::try_from(to)
        {
            *at = to;
        }
    }
}
