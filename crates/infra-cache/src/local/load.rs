//! Loading what is missing: one load per key, in a task of its own, fenced.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use infra_core::{Error, ErrorKind, Result, context::Context};
use tokio::time::timeout;

use super::{Inner, LocalCache};
use crate::{
    entry::{Entry, Nanos, Phase},
    flight::{Flight, Landed},
    read::{Loaded, Origin, Read},
    telemetry::{Load, UNHELD},
};

/// What a caller finds who wants to load.
enum Joined<V> {
    /// A load is on its way.
    Follow(Arc<Flight<V>>),
    /// This caller begins one.
    Lead(Arc<Flight<V>>),
    /// Somebody was quicker.
    Found(Arc<Entry<V>>),
    /// A load failed a moment ago, or there are too many.
    Refused(Error),
}

impl<K, V> LocalCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns the value under a key, or loads and keeps it.
    ///
    /// Of many callers at the same time one begins the load, and all have its result, an error as well;
    /// who asks again within [`Options::errors`](crate::Options::errors) has the same error. The load runs in
    /// a task of its own. If the key is put or removed meanwhile (by itself, by a tag, with its group, by
    /// clearing), those who waited have what was loaded, and it is not kept: whoever asks after
    /// that begins a load of its own.
    ///
    /// # Errors
    ///
    /// The load's own, [`Timeout`](ErrorKind::Timeout) as the options say, or
    /// [`Overloaded`](ErrorKind::Overloaded); unless an older value may be served instead.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the waiting only. The load goes on, and its value is kept.
    pub async fn get_or_load<F, L>(&self, key: &K, load: F) -> Result<V>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<V>> + Send + 'static,
    {
        let load = || {
            let load = load();
            async move { load.await.map(Loaded::new) }
        };
        let found = self.read_or_load(key, load).await?;
        found.value.ok_or_else(|| Error::new(ErrorKind::NotFound, "load value"))
    }

    /// Returns the value under a key, or asks whether there is one; that there is none is kept as
    /// [`Options::absent_for`](crate::Options::absent_for) says.
    ///
    /// # Errors
    ///
    /// As for [`Self::get_or_load`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::get_or_load`].
    pub async fn find_or_load<F, L>(&self, key: &K, load: F) -> Result<Option<V>>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<Option<V>>> + Send + 'static,
    {
        let load = || {
            let load = load();
            async move { Ok(load.await?.map_or_else(Loaded::absent, Loaded::new)) }
        };
        Ok(self.read_or_load(key, load).await?.value)
    }

    /// Returns what is known of a key, or loads it, with a time and tags that the load names; says how
    /// old it is and where it came from.
    ///
    /// # Errors
    ///
    /// As for [`Self::get_or_load`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::get_or_load`].
    pub async fn read_or_load<F, L>(&self, key: &K, load: F) -> Result<Read<V>>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<Loaded<V>>> + Send + 'static,
    {
        let inner = &self.0;
        let since = inner.books.fence.ticket();
        let now = inner.books.now();
        let found = inner.find(key, now);
        let is_hit = found.as_ref().is_some_and(|(_, phase)| *phase != Phase::Stale);
        inner.count(key, is_hit);
        let older = match found {
            Some((entry, Phase::Stale)) => Some(entry),
            Some((entry, phase)) => {
                if phase != Phase::Fresh
                    && let Some(flight) = inner.begin_refresh(key)
                {
                    inner.launch(vec![(key.clone(), flight)], one(key, load()));
                }
                return Ok(inner.serve(&entry, phase));
            }
            None => None,
        };
        let mut load = Some(load);
        loop {
            let flight = match inner.join(key) {
                Joined::Found(entry) => return Ok(inner.serve(&entry, Phase::Fresh)),
                Joined::Refused(error) => return inner.fall_back(older.as_ref(), error),
                Joined::Follow(flight) => flight,
                Joined::Lead(flight) => {
                    // A load that this caller began is current for it, so there is no second.
                    let Some(load) = load.take() else { return Err(internal("a second load")) };
                    inner.launch(vec![(key.clone(), Arc::clone(&flight))], one(key, load()));
                    flight
                }
            };
            match inner.wait(&flight, older.is_some()).await {
                Err(error) => return inner.fall_back(older.as_ref(), error),
                Ok(landed) if inner.is_for(&landed, &flight, since) => {
                    return Ok(landed.entry.read_from(inner.books.now(), landed.origin));
                }
                // What was loaded had been removed by a tag before this caller asked.
                Ok(_) => {}
            }
        }
    }

    /// Returns the values under several keys, and loads those that are missing, together; a key
    /// without a value is left out.
    ///
    /// The load is asked only for what is missing and not on its way already. What it does not return does
    /// not exist.
    ///
    /// # Errors
    ///
    /// As for [`Self::get_or_load`]; the first one, if any key's load failed.
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::get_or_load`].
    pub async fn get_many_or_load<F, L>(&self, keys: &[K], load: F) -> Result<HashMap<K, V>>
    where
        F: Fn(Vec<K>) -> L,
        L: Future<Output = Result<HashMap<K, Loaded<V>>>> + Send + 'static,
    {
        let inner = &self.0;
        let since = inner.books.fence.ticket();
        let mut values = HashMap::new();
        let mut missing: Vec<(K, Option<Arc<Entry<V>>>)> = Vec::new();
        for key in keys.iter().collect::<HashSet<_>>() {
            let found = inner.find(key, inner.books.now());
            let is_hit = found.as_ref().is_some_and(|(_, phase)| *phase != Phase::Stale);
            inner.count(key, is_hit);
            match found {
                Some((entry, phase)) if phase != Phase::Stale => {
                    let read = inner.serve(&entry, phase);
                    values.extend(read.value.map(|value| (key.clone(), value)));
                }
                found => missing.push((key.clone(), found.map(|(entry, _)| entry))),
            }
        }
        while !missing.is_empty() {
            missing = inner.load_many(missing, since, &load, &mut values).await?;
        }
        Ok(values)
    }
}

/// Makes the load of one key one of several.
fn one<K, V, L>(
    key: &K,
    load: L,
) -> impl Future<Output = Result<HashMap<K, Loaded<V>>>> + use<K, V, L>
where
    K: Hash + Eq + Clone,
    L: Future<Output = Result<Loaded<V>>>,
{
    let key = key.clone();
    async move { Ok(HashMap::from([(key, load.await?)])) }
}

fn internal(detail: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "load value").detail(detail)
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Loads several keys and returns those that have to be asked for again.
    async fn load_many<F, L>(
        self: &Arc<Self>,
        missing: Vec<(K, Option<Arc<Entry<V>>>)>,
        since: u64,
        load: &F,
        values: &mut HashMap<K, V>,
    ) -> Result<Vec<(K, Option<Arc<Entry<V>>>)>>
    where
        F: Fn(Vec<K>) -> L,
        L: Future<Output = Result<HashMap<K, Loaded<V>>>> + Send + 'static,
    {
        let (mut led, mut waited, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for (key, older) in missing {
            match self.join(&key) {
                Joined::Found(entry) => reads.push((key, self.serve(&entry, Phase::Fresh))),
                Joined::Refused(error) => reads.push((key, self.fall_back(older.as_ref(), error)?)),
                Joined::Follow(flight) => waited.push((key, older, flight)),
                Joined::Lead(flight) => {
                    led.push((key.clone(), Arc::clone(&flight)));
                    waited.push((key, older, flight));
                }
            }
        }
        if !led.is_empty() {
            let keys = led.iter().map(|(key, _)| key.clone()).collect();
            self.launch(led, load(keys));
        }
        let mut again = Vec::new();
        for (key, older, flight) in waited {
            match self.wait(&flight, older.is_some()).await {
                Err(error) => reads.push((key, self.fall_back(older.as_ref(), error)?)),
                Ok(landed) if self.is_for(&landed, &flight, since) => {
                    reads.push((key, landed.entry.read_from(self.books.now(), landed.origin)));
                }
                Ok(_) => again.push((key, older)),
            }
        }
        let found = reads.into_iter().filter_map(|(key, read)| Some((key, read.value?)));
        values.extend(found);
        Ok(again)
    }

    /// Serves an entry, and counts it if it is beyond its time.
    fn serve(&self, entry: &Arc<Entry<V>>, phase: Phase) -> Read<V> {
        let now = self.books.now();
        if self.books.options.idle.is_some() {
            entry.touch(now);
        }
        if !phase.is_fresh() {
            self.books.counts.beyond();
        }
        entry.read(now, phase)
    }

    /// Serves an older value instead of an error, if there is one.
    fn fall_back(&self, older: Option<&Arc<Entry<V>>>, error: Error) -> Result<Read<V>> {
        let Some(entry) = older else { return Err(error) };
        self.books.counts.beyond();
        Ok(entry.read(self.books.now(), Phase::Stale))
    }

    /// Returns whether a caller that asked at `since` may have what a load came to: it began later,
    /// or nothing that its value stands under was removed meanwhile.
    fn is_for(&self, landed: &Landed<V>, flight: &Flight<V>, since: u64) -> bool {
        since <= flight.ticket || landed.entry.is_current(&self.books.fence)
    }

    fn join(&self, key: &K) -> Joined<V> {
        let now = self.books.now();
        let mut shard = self.lock(key);
        if let Some(flight) = shard.flights.get(key)
            && self.books.fence.admits(flight.ticket)
        {
            return Joined::Follow(Arc::clone(flight));
        }
        if let Some((entry, phase)) = self.find(key, now)
            && phase.is_fresh()
        {
            return Joined::Found(entry);
        }
        if let Some(error) = shard.failures.get(key, now) {
            return Joined::Refused(error);
        }
        // Relaxed: the count is a bound and orders nothing; it may be passed by the number of threads.
        if self.books.options.loads <= self.loading.load(Ordering::Relaxed) {
            let full = Error::new(ErrorKind::Overloaded, "load value").detail("too many loads");
            return Joined::Refused(full);
        }
        let flight = Flight::new(self.books.fence.ticket());
        shard.flights.insert(key.clone(), Arc::clone(&flight));
        self.loading.fetch_add(1, Ordering::Relaxed);
        Joined::Lead(flight)
    }

    /// Begins a load in the background, unless one is on its way or failed a moment ago.
    fn begin_refresh(&self, key: &K) -> Option<Arc<Flight<V>>> {
        let mut shard = self.lock(key);
        let is_full = self.books.options.loads <= self.loading.load(Ordering::Relaxed);
        let is_failing = shard.failures.get(key, self.books.now()).is_some();
        if is_full || is_failing || shard.flights.contains_key(key) {
            return None;
        }
        let flight = Flight::new(self.books.fence.ticket());
        shard.flights.insert(key.clone(), Arc::clone(&flight));
        self.loading.fetch_add(1, Ordering::Relaxed);
        Some(flight)
    }

    /// Runs a load in a task of its own, which ends all its flights whatever happens to it.
    fn launch<L>(self: &Arc<Self>, flights: Vec<(K, Arc<Flight<V>>)>, load: L)
    where
        L: Future<Output = Result<HashMap<K, Loaded<V>>>> + Send + 'static,
    {
        let landing = Landing { inner: Arc::clone(self), flights, began: self.books.now() };
        // The deadline of the caller who happens to be the first is not that of the load.
        let caller = Context::current();
        let mut context = Context::default();
        context = caller.correlation_id().into_iter().fold(context, Context::correlation);
        context = caller.trace_context().into_iter().fold(context, Context::trace);
        let limit = self.books.options.load;
        tokio::spawn(context.scope(async move {
            let late =
                |_| Err(Error::new(ErrorKind::Timeout, "load value").detail("the load's limit"));
            landing.finish(timeout(limit, load).await.unwrap_or_else(late));
        }));
    }

    /// Waits for a load as long as the options allow.
    async fn wait(&self, flight: &Flight<V>, has_older: bool) -> Result<Landed<V>> {
        let options = &self.books.options;
        let limit = if has_older { options.soft.or(options.hard) } else { options.hard };
        let waited = timeout(limit.unwrap_or(Duration::MAX), flight.outcome.wait()).await;
        let late = || Error::new(ErrorKind::Timeout, "wait for a load");
        waited.map_err(|_| late())?.clone()
    }

    /// Ends the load of one key: its value is kept only if nothing has superseded it.
    fn land(&self, key: &K, flight: &Arc<Flight<V>>, result: Result<Loaded<V>>, took: Nanos) {
        let mut shard = self.lock(key);
        let is_current = shard.land(key, flight);
        let (outcome, load) = match result {
            Err(error) => {
                if let Some(pause) = self.books.options.errors.filter(|_| is_current)
                    && !shard.failures.note(key, &error, self.books.now(), &pause)
                {
                    UNHELD.add(1);
                }
                (Err(error), Load::Failed)
            }
            Ok(loaded) => {
                let origin = loaded.origin;
                let (entry, is_kept) = if is_current {
                    shard.failures.forget(key);
                    self.fill(&mut shard, key.clone(), loaded, flight.ticket)
                } else {
                    let marks = self.books.tags.marks(&loaded.tags);
                    (Arc::new(self.entry(key, loaded, flight.ticket, marks)), false)
                };
                let load = if is_kept { Load::Kept } else { Load::Superseded };
                (Ok(Landed { entry, origin }), load)
            }
        };
        drop(shard);
        self.books.counts.load(load, took);
        // Nobody else sets it, so it cannot be set already.
        let _is_first = flight.outcome.set(outcome).is_ok();
    }
}

/// The end of a load; if its task is dropped or panics, those who wait are told so.
struct Landing<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    inner: Arc<Inner<K, V>>,
    flights: Vec<(K, Arc<Flight<V>>)>,
    began: Nanos,
}

impl<K, V> Landing<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn finish(mut self, result: Result<HashMap<K, Loaded<V>>>) {
        match result {
            Ok(mut loaded) => self.end(|key| Ok(loaded.remove(key).unwrap_or_else(Loaded::absent))),
            Err(error) => self.end(|_| Err(error.clone())),
        }
    }

    fn end(&mut self, mut result: impl FnMut(&K) -> Result<Loaded<V>>) {
        let took = self.inner.books.now().saturating_sub(self.began);
        for (key, flight) in self.flights.drain(..) {
            self.inner.land(&key, &flight, result(&key), took);
            self.inner.loading.fetch_sub(1, Ordering::Relaxed);
        }
        self.inner.tidy();
    }
}

impl<K, V> Drop for Landing<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.flights.is_empty() {
            self.end(|_| Err(internal("the load panicked or its runtime ended")));
        }
    }
}

impl From<Origin> for &'static str {
    /// Names where a value came from, for a header or a log.
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Local => "local",
            Origin::Remote => "remote",
            Origin::Loaded => "loaded",
            Origin::Stale => "stale",
        }
    }
}
