//! Tags: names under which entries are removed together, at once however many they are.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    entry::Mark,
    fence::{Cell, Fence},
    recent::Recent,
};

/// How many removed tags are remembered one by one, for loads that were on their way then.
const REMEMBERED: usize = 1_024;

/// What entries are removed by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Tag {
    /// A name that a user gave.
    Named(Arc<str>),
    /// A group, by its number.
    Group(u64),
}

/// The entries that lost a tag: their keys and numbers.
pub(crate) type Dead<K> = HashMap<K, u64>;

/// Which keys carry which tag.
///
/// It is changed when a tagged entry is kept or leaves; entries without tags never take its lock.
#[derive(Debug)]
pub(crate) struct Tags<K>(Mutex<Index<K>>);

#[derive(Debug)]
struct Index<K> {
    carriers: HashMap<Tag, Carriers<K>>,
    removed: Recent<Tag>,
}

#[derive(Debug)]
struct Carriers<K> {
    cell: Arc<Cell>,
    keys: HashMap<K, u64>,
}

impl<K: Hash + Eq + Clone> Tags<K> {
    pub(crate) fn new() -> Self {
        let removed = Recent::new(REMEMBERED);
        Self(Mutex::new(Index { carriers: HashMap::new(), removed }))
    }

    /// Returns the marks of an entry that will not be kept: they tell what was removed until now.
    pub(crate) fn marks(&self, tags: &[Tag]) -> Box<[Mark]> {
        if tags.is_empty() {
            return Box::default();
        }
        let index = self.0.lock();
        let mark = |tag: &Tag| {
            let cell = index.carriers.get(tag).map(|carriers| Arc::clone(&carriers.cell));
            let cell = cell.unwrap_or_else(|| Arc::new(Cell::new(index.removed.last(tag))));
            Mark { tag: tag.clone(), cell }
        };
        tags.iter().map(mark).collect()
    }

    /// Notes that an entry carries these tags from now on, and returns its marks.
    ///
    /// It takes the place of the entry before it under its key, so it must be one that is about to
    /// take that place in the store too; if it is over by then, both go.
    pub(crate) fn attach(&self, key: &K, seq: u64, tags: &[Tag]) -> Box<[Mark]> {
        if tags.is_empty() {
            return Box::default();
        }
        let mut index = self.0.lock();
        let Index { carriers, removed } = &mut *index;
        let tags: BTreeSet<&Tag> = tags.iter().collect();
        let mark = |tag: &Tag| {
            let carriers = carriers.entry(tag.clone());
            let carriers = carriers.or_insert_with(|| Carriers::new(removed.last(tag)));
            carriers.keys.insert(key.clone(), seq);
            Mark { tag: tag.clone(), cell: Arc::clone(&carriers.cell) }
        };
        tags.into_iter().map(mark).collect()
    }

    /// Notes that an entry has left.
    pub(crate) fn remove(&self, key: &K, seq: u64, marks: &[Mark]) {
        if marks.is_empty() {
            return;
        }
        let mut index = self.0.lock();
        for mark in marks {
            let Some(carriers) = index.carriers.get_mut(&mark.tag) else { continue };
            if carriers.keys.get(key) == Some(&seq) {
                carriers.keys.remove(key);
            }
            if carriers.keys.is_empty() {
                index.carriers.remove(&mark.tag);
            }
        }
    }

    /// Ends all entries of a tag at once, and returns what they were.
    pub(crate) fn end(&self, tag: &Tag, fence: &Fence) -> Dead<K> {
        let mut index = self.0.lock();
        let tick = fence.advance();
        index.removed.note(tag, tick);
        let Some(carriers) = index.carriers.remove(tag) else { return Dead::new() };
        carriers.cell.raise(tick);
        carriers.keys
    }

    /// Returns the keys that carry a tag; some may be over.
    pub(crate) fn keys(&self, tag: &Tag) -> Vec<K> {
        let index = self.0.lock();
        index.carriers.get(tag).into_iter().flat_map(|it| it.keys.keys().cloned()).collect()
    }

    /// Returns how many keys carry a tag; some may be over.
    pub(crate) fn count(&self, tag: &Tag) -> usize {
        self.0.lock().carriers.get(tag).map_or(0, |carriers| carriers.keys.len())
    }
}

impl<K> Carriers<K> {
    /// Creates the carriers of a tag that was removed last with number `tick`.
    fn new(tick: u64) -> Self {
        Self { cell: Arc::new(Cell::new(tick)), keys: HashMap::new() }
    }
}
