//! The cache of one process.

mod batch;
mod builder;
mod compute;
mod load;
mod shard;
mod sweep;

use std::{
    fmt::{self, Debug},
    hash::{BuildHasher, Hash},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use foldhash::quality::RandomState;
use infra_core::{Clock, random::Random};
use parking_lot::{Mutex, MutexGuard};

pub use builder::Builder;
pub use compute::{Change, Computed};
pub use sweep::Sweeper;

use crate::{
    books::Books,
    entry::{Entry, Mark, Nanos, Phase, Times, nanos},
    local::shard::Shard,
    options::Options,
    read::{Loaded, Origin, Read, Ttl},
    sketch::HeavyHitters,
    stats::{Cause, Statistics},
    store::Store,
    tags::Tag,
};

/// How many locks the keys are divided among.
const SHARDS: usize = 32;

/// How many dead entries each write takes away beside its own, so that the dead go first.
const BURIED: usize = 4;

/// Keeps values in memory, at most as many as its capacity, for at most their time.
///
/// A value that was removed while it was loaded is never kept: see
/// [`get_or_load`](Self::get_or_load). Which entry goes when room is needed is for the
/// [`Policy`](crate::Policy) to say. Clones share the cache.
pub struct LocalCache<K, V>(pub(crate) Arc<Inner<K, V>>);

pub(crate) struct Inner<K, V> {
    pub(crate) books: Arc<Books<K, V>>,
    store: Box<dyn Store<K, V>>,
    shards: Box<[Mutex<Shard<K, V>>; SHARDS]>,
    hasher: RandomState,
    random: Random,
    loading: AtomicUsize,
    weigher: Option<Weigher<K, V>>,
    frequent: Option<Mutex<HeavyHitters<K>>>,
}

/// Tells what an entry weighs.
pub(crate) type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u32 + Send + Sync>;

impl<K, V> Clone for LocalCache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Debug for LocalCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCache").field("options", &self.0.books.options).finish_non_exhaustive()
    }
}

impl<K, V> LocalCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates an empty cache.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        Self::builder(options, clock).build()
    }

    /// Creates an empty cache with a weigher or a listener.
    pub fn builder(options: Options, clock: Arc<dyn Clock>) -> Builder<K, V> {
        Builder::new(options, clock)
    }

    /// Returns the value under a key, if it is there and fresh.
    pub fn get(&self, key: &K) -> Option<V> {
        let inner = &*self.0;
        let now = inner.books.now();
        let found = inner.find(key, now).filter(|(_, phase)| phase.is_fresh());
        inner.count(key, found.is_some());
        let (entry, _) = found?;
        entry.touch_if(inner.books.options.idle.is_some(), now);
        entry.value.clone()
    }

    /// Returns what is known of a key, with its age; also what is beyond its time and not over yet.
    pub fn look(&self, key: &K) -> Option<Read<V>> {
        let now = self.0.books.now();
        let found = self.0.find(key, now);
        self.0.count(key, found.is_some());
        found.map(|(entry, phase)| entry.read(now, phase))
    }

    /// Returns whether a fresh value is under a key. It is no use of it: neither counted nor noted.
    pub fn contains(&self, key: &K) -> bool {
        let now = self.0.books.now();
        let found = self.0.store.peek(key);
        found.is_some_and(|entry| self.0.is_served(&entry, now))
    }

    /// Keeps a value for the time of the options; a load of its key that is on its way is superseded.
    pub fn put(&self, key: K, value: V) {
        self.put_loaded(key, Loaded::new(value));
    }

    /// Keeps a value for a time of its own; for ever if that is `None`, not at all if it is zero.
    pub fn put_for(&self, key: K, value: V, ttl: Option<Duration>) {
        let loaded = Loaded::new(value);
        self.put_loaded(key, ttl.map_or(loaded.clone().endless(), |ttl| loaded.ttl(ttl)));
    }

    /// Keeps a value with a time and tags of its own, or the knowledge that there is none.
    pub fn put_loaded(&self, key: K, loaded: Loaded<V>) {
        self.0.put(&mut self.0.lock(&key), key, loaded);
        self.0.tidy();
    }

    /// Removes the value under a key and returns whether a fresh one was there; a load that is on
    /// its way is superseded.
    pub fn invalidate(&self, key: &K) -> bool {
        let was_there = self.0.invalidate(&mut self.0.lock(key), key);
        self.0.tidy();
        was_there
    }

    /// Removes all values that carry a tag, at once however many they are: they are not found any
    /// more, and taken away a few with each write. Loads on their way that turn out to carry it are not kept.
    pub fn invalidate_tag(&self, tag: &str) {
        self.0.end(&Tag::Named(Arc::from(tag)));
    }

    /// Removes all values that carry a tag, takes them away, and returns how many were there.
    pub fn remove_tag(&self, tag: &str) -> u64 {
        let tag = Tag::Named(Arc::from(tag));
        let now = self.0.books.now();
        let dead = self.0.books.tags.end(&tag, &self.0.books.fence);
        let taken = dead.into_iter().filter_map(|(key, seq)| self.0.take_away(&key, seq));
        let lived = taken.filter(|entry| self.0.books.lived(entry, &tag, now)).count();
        self.0.books.tell();
        lived as u64
    }

    /// Returns the keys that carry a tag, in any order.
    pub fn tagged(&self, tag: &str) -> Vec<K> {
        let now = self.0.books.now();
        let mut keys = self.0.books.tags.keys(&Tag::Named(Arc::from(tag)));
        keys.retain(|key| {
            let found = self.0.store.peek(key);
            found.is_some_and(|it| {
                self.0.is_served(&it, now) && it.marks.iter().any(|mark| mark.tag.is(tag))
            })
        });
        keys
    }

    /// Removes everything; loads that are on their way are superseded.
    pub fn clear(&self) {
        self.0.books.fence.clear();
        for shard in self.0.shards.iter() {
            shard.lock().clear();
        }
        self.0.store.clear();
        self.0.tidy();
    }

    /// Returns the fresh values with their keys, in any order, as they were at some moment of the call.
    pub fn entries(&self) -> Vec<(K, V)> {
        let now = self.0.books.now();
        let all = self.0.store.all().into_iter();
        let live = all.filter(|(_, entry)| self.0.phase(entry, now).is_some_and(Phase::is_fresh));
        live.filter_map(|(key, entry)| Some((key, entry.value.clone()?))).collect()
    }

    /// Removes the values for which the predicate holds, and returns how many they were.
    pub fn invalidate_if(&self, mut predicate: impl FnMut(&K, &V) -> bool) -> u64 {
        let chosen = self.entries().into_iter().filter(|(key, value)| predicate(key, value));
        let chosen: Vec<K> = chosen.map(|(key, _)| key).collect();
        self.invalidate_many(&chosen)
    }

    /// Returns how many entries are kept, once what is due was evicted; expired ones count.
    pub fn len(&self) -> u64 {
        let (len, _) = self.0.store.settle();
        self.0.tidy();
        len
    }

    /// Returns whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what the cache has done.
    pub fn statistics(&self) -> Statistics {
        let kept = self.0.store.settle();
        self.0.tidy();
        self.0.books.counts.sum(kept)
    }

    /// Returns up to `count` of the keys that were read most, the most read first, if the
    /// [options](Options::frequent) count them.
    pub fn frequent(&self, count: usize) -> Vec<K> {
        self.0.frequent.as_ref().map(|reads| reads.lock().top(count)).unwrap_or_default()
    }
}

impl Phase {
    pub(crate) const fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh | Self::Due)
    }
}

impl Tag {
    fn is(&self, name: &str) -> bool {
        matches!(self, Self::Named(own) if **own == *name)
    }
}

impl<V> Entry<V> {
    fn touch_if(&self, is_timed: bool, now: Nanos) {
        if is_timed {
            self.touch(now);
        }
    }
}

impl<V: Clone> Entry<V> {
    pub(crate) fn read(&self, now: Nanos, phase: Phase) -> Read<V> {
        let origin = if phase.is_fresh() { Origin::Local } else { Origin::Stale };
        self.read_from(now, origin)
    }

    pub(crate) fn read_from(&self, now: Nanos, origin: Origin) -> Read<V> {
        let age = Duration::from_nanos(now.saturating_sub(self.stored));
        Read { value: self.value.clone(), age, origin }
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns which shard a key belongs to.
    fn place(&self, key: &K) -> usize {
        usize::try_from(self.hasher.hash_one(key)).unwrap_or(0) % SHARDS
    }

    fn shard(&self, key: &K) -> &Mutex<Shard<K, V>> {
        let [first, ..] = &*self.shards;
        self.shards.get(self.place(key)).unwrap_or(first)
    }

    pub(crate) fn lock(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        self.shard(key).lock()
    }

    /// Returns how good an entry is; `None` if it may not be served at all.
    pub(crate) fn phase(&self, entry: &Entry<V>, now: Nanos) -> Option<Phase> {
        let phase = entry.phase(now, &self.books.options);
        (phase != Phase::Over && entry.is_current(&self.books.fence)).then_some(phase)
    }

    fn is_served(&self, entry: &Entry<V>, now: Nanos) -> bool {
        entry.value.is_some() && self.phase(entry, now).is_some_and(Phase::is_fresh)
    }

    pub(crate) fn find(&self, key: &K, now: Nanos) -> Option<(Arc<Entry<V>>, Phase)> {
        let entry = self.store.get(key)?;
        let phase = self.phase(&entry, now)?;
        Some((entry, phase))
    }

    /// Counts a lookup, and the key if the most read ones are counted.
    pub(crate) fn count(&self, key: &K, is_hit: bool) {
        if is_hit {
            self.books.counts.hit();
        } else {
            self.books.counts.miss();
        }
        if let Some(mut reads) = self.frequent.as_ref().and_then(Mutex::try_lock) {
            reads.note(key);
        }
    }

    pub(crate) fn put(&self, shard: &mut Shard<K, V>, key: K, loaded: Loaded<V>) {
        shard.change(&key, &self.books.fence);
        self.fill(shard, key, loaded, self.books.fence.ticket());
    }

    pub(crate) fn invalidate(&self, shard: &mut Shard<K, V>, key: &K) -> bool {
        shard.change(key, &self.books.fence);
        let now = self.books.now();
        let removed = self.store.remove(key);
        removed.is_some_and(|entry| {
            let phase = self.phase(&entry, now);
            phase.is_some_and(Phase::is_fresh) && entry.value.is_some()
        })
    }

    /// Keeps a value that was asked for with a ticket, unless it is over or no longer current.
    pub(crate) fn fill(
        &self,
        shard: &mut Shard<K, V>,
        key: K,
        loaded: Loaded<V>,
        ticket: u64,
    ) -> (Arc<Entry<V>>, bool) {
        let seq = shard.next();
        let marks = self.books.tags.attach(&key, seq, &loaded.tags);
        let entry = Arc::new(self.entry(&key, loaded, ticket, marks).numbered(seq));
        let is_kept = self.keep(shard, key, &entry);
        (entry, is_kept)
    }

    /// Makes an entry of a value that was asked for with a ticket.
    fn entry(&self, key: &K, loaded: Loaded<V>, ticket: u64, marks: Box<[Mark]>) -> Entry<V> {
        let times = Times { stored: self.books.now(), ttl: self.ttl(&loaded) };
        let weight = match (&self.weigher, &loaded.value) {
            (Some(weigher), Some(value)) => weigher(key, value),
            (None, _) | (_, None) => 1,
        };
        Entry::new(loaded.value, ticket, times, marks).weighing(weight)
    }

    /// Returns for how long a value is fresh; `None` if it has no end.
    fn ttl(&self, loaded: &Loaded<V>) -> Option<Nanos> {
        let options = &self.books.options;
        let usual = || match loaded.value {
            Some(_) => options.ttl,
            None => Some(options.absent.unwrap_or_default()),
        };
        let ttl = match loaded.ttl {
            Ttl::Usual => usual(),
            Ttl::Endless => None,
            Ttl::For(ttl) => Some(ttl),
            Ttl::AtMost(most) => Some(usual().map_or(most, |usual| usual.min(most))),
        };
        ttl.map(|ttl| self.shortened(nanos(ttl)))
    }

    fn shortened(&self, ttl: Nanos) -> Nanos {
        let jitter = self.books.options.jitter;
        if jitter == 0 {
            return ttl;
        }
        let most = u64::try_from(u128::from(ttl) * u128::from(jitter) / 100).unwrap_or(0);
        ttl - self.random.below(most.saturating_add(1))
    }

    /// Keeps an entry under the lock of its shard, unless it is over or no longer current; returns
    /// whether it did. What was there before goes in any case.
    fn keep(&self, shard: &mut Shard<K, V>, key: K, entry: &Arc<Entry<V>>) -> bool {
        let now = entry.stored;
        let is_of_use = self.phase(entry, now).is_some_and(Phase::is_fresh);
        if !is_of_use {
            self.books.tags.remove(&key, entry.seq, &entry.marks);
            self.store.remove(&key);
            return false;
        }
        self.books.counts.insert();
        shard.deadlines.note(entry.end(&self.books.options), key.clone(), entry);
        for _ in 0..BURIED {
            let Some(over) = shard.deadlines.due(now) else { break };
            self.expire(shard, over, now);
        }
        self.store.insert(key, Arc::clone(entry), now);
        true
    }

    /// Ends all entries of a tag.
    pub(crate) fn end(&self, tag: &Tag) {
        let dead = self.books.tags.end(tag, &self.books.fence);
        self.books.bury(dead);
    }

    /// Takes an entry away that is dead already.
    fn take_away(&self, key: &K, seq: u64) -> Option<Arc<Entry<V>>> {
        let _shard = self.lock(key);
        let is_it = self.store.peek(key).is_some_and(|entry| entry.seq == seq);
        is_it.then(|| self.store.remove(key)).flatten()
    }

    /// Does what is left to do after a change, without any lock held.
    pub(crate) fn tidy(&self) {
        for (key, seq) in self.books.exhume(BURIED) {
            self.take_away(&key, seq);
        }
        self.books.tell();
    }
}
