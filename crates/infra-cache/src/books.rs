//! What is kept beside the entries: the fence, the tags, the counts, who is told.

use std::{
    collections::{VecDeque, hash_map},
    hash::Hash,
    sync::Arc,
};

use infra_core::Clock;
use parking_lot::Mutex;

use crate::{
    entry::{Entry, Nanos, Phase, at},
    fence::Fence,
    options::Options,
    stats::{Cause, Counts},
    store::Why,
    tags::{Dead, Tag, Tags},
};

/// Is told of each value that left, and why.
pub(crate) type Listener<K, V> = Box<dyn Fn(&K, &V, Cause) + Send + Sync>;

/// That an entry left, and why.
type News<K, V> = (K, Arc<Entry<V>>, Cause);

/// The books of a cache.
pub(crate) struct Books<K, V> {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) fence: Fence,
    pub(crate) tags: Tags<K>,
    pub(crate) counts: Counts,
    listener: Option<Listener<K, V>>,
    /// What the listener has not been told yet: it is called when no lock is held.
    untold: Mutex<VecDeque<News<K, V>>>,
    /// What was removed by a tag and is still in the store.
    dead: Mutex<Vec<hash_map::IntoIter<K, u64>>>,
}

impl<K: Hash + Eq + Clone, V> Books<K, V> {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        options: Options,
        listener: Option<Listener<K, V>>,
    ) -> Self {
        Self {
            clock,
            options,
            fence: Fence::default(),
            tags: Tags::new(),
            counts: Counts::default(),
            listener,
            untold: Mutex::default(),
            dead: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> Nanos {
        at(self.clock.now())
    }

    /// Books an entry that left the store.
    pub(crate) fn left(&self, key: &K, entry: &Arc<Entry<V>>, why: Why) {
        self.tags.remove(key, entry.seq, &entry.marks);
        let cause = self.cause(entry, why);
        self.counts.left(cause);
        if self.listener.is_some() && entry.value.is_some() {
            self.untold.lock().push_back((key.clone(), Arc::clone(entry), cause));
        }
    }

    fn cause(&self, entry: &Entry<V>, why: Why) -> Cause {
        let is_over = || entry.phase(self.now(), &self.options) == Phase::Over;
        match why {
            _ if !entry.is_current(&self.fence) => Cause::Invalidated,
            _ if is_over() => Cause::Expired,
            Why::Size => Cause::Evicted,
            Why::Replaced => Cause::Replaced,
            Why::Removed => Cause::Removed,
        }
    }

    /// Returns whether an entry that a tag was taken from held a fresh value until then.
    pub(crate) fn lived(&self, entry: &Entry<V>, tag: &Tag, now: Nanos) -> bool {
        let mut others = entry.marks.iter().filter(|mark| mark.tag != *tag);
        entry.value.is_some()
            && entry.phase(now, &self.options).is_fresh()
            && self.fence.admits(entry.ticket)
            && others.all(|mark| mark.cell.admits(entry.ticket))
    }

    /// Tells the listener what it was not told yet; to be called without any lock.
    pub(crate) fn tell(&self) {
        let Some(listener) = &self.listener else { return };
        loop {
            let Some((key, entry, cause)) = self.untold.lock().pop_front() else { return };
            if let Some(value) = &entry.value {
                listener(&key, value, cause);
            }
        }
    }

    pub(crate) fn bury(&self, dead: Dead<K>) {
        if !dead.is_empty() {
            self.dead.lock().push(dead.into_iter());
        }
    }

    /// Takes up to `count` of those that were removed by a tag and may still be in the store.
    pub(crate) fn exhume(&self, count: usize) -> Vec<(K, u64)> {
        let mut dead = self.dead.lock();
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(last) = dead.last_mut()
        {
            match last.next() {
                Some(one) => taken.push(one),
                None => drop(dead.pop()),
            }
        }
        taken
    }
}
