//! An entity in memory, and the tables that it stands in.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use hashbrown::HashTable;
use infra_core::{clock::Instant, store::Term};
use tokio::sync::OnceCell;

use super::{
    entity::{Standing, Stored},
    names::Names,
    slot_key::SlotKey,
    uses::LastUse,
};

/// What is known of an entity beside itself.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) standing: Standing,
    /// The unique ones.
    pub(crate) terms: Vec<Term>,
    pub(crate) bytes: usize,
}

/// What a lookup finds. Each table of keys or of unique values has one of its own in its slots, so that
/// a hit reads the slot and the entity and nothing else; the entity was used when the newest of them was.
#[derive(Debug)]
pub(super) struct Held<E> {
    pub(super) stored: Stored<E>,
    pub(super) last: LastUse,
}

impl<E> Held<E> {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stored.entity, &other.stored.entity)
            && self.stored.version == other.stored.version
    }
}

#[derive(Debug)]
pub(super) struct Resident<E> {
    pub(super) key: SlotKey,
    pub(super) held: Held<E>,
    /// Seldom read, so out of the way.
    pub(super) facts: Box<Facts>,
}

impl<E> Resident<E> {
    /// Makes it known under its unique values.
    pub(super) fn name(&self, names: &Names<Held<E>>) {
        let (number, time) = (self.held.last.number(), self.held.last.time());
        names.insert(&self.facts.terms, || Held {
            stored: self.held.stored.clone(),
            last: LastUse::new(number, time),
        });
    }

    /// Forgets its unique values.
    pub(super) fn unname(&self, names: &Names<Held<E>>) {
        names.remove(&self.facts.terms, |held| held.is(&self.held));
    }

    /// Returns what `of` says of its last use, by its key or by a unique value.
    fn latest(&self, names: &Names<Held<E>>, of: impl Fn(&LastUse) -> u64) -> u64 {
        let by_value = |term: &Term| {
            let own = |held: &Held<E>| held.is(&self.held).then(|| of(&held.last));
            names.find(term.index.as_str(), &term.value, own).flatten()
        };
        let by_values = self.facts.terms.iter().filter_map(by_value);
        by_values.fold(of(&self.held.last), u64::max)
    }

    /// Returns the number of its last use.
    pub(super) fn used(&self, names: &Names<Held<E>>) -> u64 {
        self.latest(names, LastUse::number)
    }

    /// Returns the time of its last use in milliseconds, if ages are kept.
    pub(super) fn touched(&self, names: &Names<Held<E>>) -> u64 {
        self.latest(names, LastUse::time)
    }
}

/// A load that several may wait for.
pub(crate) type Load<E> = Arc<OnceCell<Option<Stored<E>>>>;

/// The keys of a part, and what is on its way to and from the store.
#[derive(Debug)]
pub(super) struct Shard<E> {
    pub(super) entities: HashTable<Resident<E>>,
    /// How many writes are on their way to each key, and how many there were since it had none.
    pub(super) writing: HashMap<Bytes, (u32, u32)>,
    pub(super) loading: HashMap<Bytes, Load<E>>,
    /// Until when a key is known to be absent.
    pub(super) absent: HashMap<Bytes, Instant>,
    /// How many writes have ended.
    pub(super) changes: u64,
}

impl<E> Default for Shard<E> {
    fn default() -> Self {
        Self {
            entities: HashTable::new(),
            writing: HashMap::new(),
            loading: HashMap::new(),
            absent: HashMap::new(),
            changes: 0,
        }
    }
}

impl<E> Shard<E> {
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<&Resident<E>> {
        self.entities.find(hash, |own| own.key.as_slice() == key)
    }
}
