//! What unique values stand for.

use std::sync::OnceLock;

use hashbrown::HashTable;
use infra_core::{id::IndexName, store::Term};

use super::{
    shards::{Shards, put, take},
    slot_key::SlotKey,
};

/// What the unique values of the entities in memory stand for, by index.
///
/// The indexes are as few as an entity has unique terms. They stand in a list that only grows, so a
/// reader finds one without a lock, and then takes that of one part of the index.
#[derive(Debug)]
pub(super) struct Names<V> {
    first: OnceLock<Box<Index<V>>>,
}

#[derive(Debug)]
struct Index<V> {
    name: IndexName,
    values: Shards<HashTable<(SlotKey, V)>>,
    next: OnceLock<Box<Self>>,
}

impl<V> Index<V> {
    fn new(name: &IndexName) -> Self {
        Self { name: name.clone(), values: Shards::new(), next: OnceLock::new() }
    }
}

impl<V> Names<V> {
    pub(super) const fn new() -> Self {
        Self { first: OnceLock::new() }
    }

    /// Lets `look` see what a value stands for in an index, under the lock of a part of it.
    pub(super) fn find<T>(
        &self,
        index: &str,
        value: &[u8],
        look: impl FnOnce(&V) -> T,
    ) -> Option<T> {
        let mut next = &self.first;
        let index = loop {
            let own = next.get()?;
            if own.name.as_str() == index {
                break own;
            }
            next = &own.next;
        };
        let hash = index.values.hash(value);
        let part = index.values.of(hash).read();
        part.find(hash, |(own, _)| own.as_slice() == value).map(|(_, has)| look(has))
    }

    fn index(&self, name: &IndexName) -> &Index<V> {
        let mut next = &self.first;
        loop {
            let own = next.get_or_init(|| Box::new(Index::new(name)));
            if own.name == *name {
                return own;
            }
            next = &own.next;
        }
    }

    /// Notes what the values of unique terms stand for from now on.
    pub(super) fn insert(&self, terms: &[Term], make: impl Fn() -> V) {
        for term in terms {
            let values = &self.index(&term.index).values;
            let hash = values.hash(&term.value);
            let entry = (SlotKey::new(&term.value), make());
            let mut part = values.of(hash).write();
            let is_it = |(own, _): &(SlotKey, V)| own.as_slice() == term.value;
            put(&mut part, hash, entry, is_it, |(own, _)| values.hash(own.as_slice()));
        }
    }

    /// Forgets what the values of unique terms stood for, where they stand for nothing else since.
    pub(super) fn remove(&self, terms: &[Term], was: impl Fn(&V) -> bool) {
        for term in terms {
            let values = &self.index(&term.index).values;
            let hash = values.hash(&term.value);
            let is_it = |(own, has): &(SlotKey, V)| own.as_slice() == term.value && was(has);
            drop(take(&mut values.of(hash).write(), hash, is_it));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_who_had_it_last_and_is_forgotten_by_that_one_alone() {
        let names = Names::new();
        let term = |index: &str, value| Term::unique(IndexName::new(index).unwrap(), value);
        names.insert(&[term("code", "A"), term("seat", "A")], || "ann");
        let who = |index: &str, value: &[u8]| names.find(index, value, |has| *has);
        assert_eq!((who("code", b"A"), who("seat", b"A")), (Some("ann"), Some("ann")));
        assert_eq!((who("code", b"B"), who("none", b"A")), (None, None));
        names.insert(&[term("code", "A")], || "ben");
        names.remove(&[term("code", "A"), term("seat", "A")], |has| *has == "ann");
        assert_eq!((who("code", b"A"), who("seat", b"A")), (Some("ben"), None));
        for number in 0..1_000 {
            names.insert(&[term("code", number.to_string().leak())], || "ann");
        }
        assert!((0..1_000).all(|number| who("code", number.to_string().as_bytes()) == Some("ann")));
    }
}
