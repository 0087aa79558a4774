//! The cache of one process.

use std::{
    fmt::{self, Debug},
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::{Clock, Result};

use crate::{
    entry::{Age, Entry},
    flight::{Flight, Flights},
    options::Options,
    telemetry::{LOADS, LOOKUPS, Load, Lookup},
};

/// Keeps values in memory, at most as many as its capacity, for at most their time.
///
/// Which entry goes when room is needed is for the engine below to say (moka, `TinyLFU`: Einziger,
/// Friedman, Manes, 2017); it may be the newcomer. Clones share the cache.
pub struct LocalCache<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    entries: moka::sync::Cache<K, Arc<Entry<V>>>,
    flights: Flights<K, V>,
    epoch: AtomicU64,
    options: Options,
    clock: Arc<dyn Clock>,
}

impl<K, V> Clone for LocalCache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Debug for LocalCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCache").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl<K, V> LocalCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates an empty cache.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        let entries = moka::sync::Cache::new(options.capacity);
        let (flights, epoch) = (Flights::new(), AtomicU64::new(0));
        Self(Arc::new(Inner { entries, flights, epoch, options, clock }))
    }

    /// Returns the value under a key, if it is there and fresh.
    pub fn get(&self, key: &K) -> Option<V> {
        let found = self.0.look(key).filter(|(_, age)| *age == Age::Fresh);
        LOOKUPS.add_for(if found.is_some() { Lookup::Hit } else { Lookup::Miss }, 1);
        found.map(|(entry, _)| entry.value.clone())
    }

    /// Returns the value under a key, or loads and keeps it.
    ///
    /// Of many callers at the same time one loads, and all have its result, an error as well; an
    /// error is not kept. If the key is invalidated, put or cleared meanwhile, those who wait have what
    /// was loaded, and it is not kept; who asks after that begins a load of its own.
    ///
    /// # Errors
    ///
    /// The load's own, unless an older value may be served instead
    /// ([`Options::stale_on_error`]).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the load if nobody else waits for it; otherwise another one of
    /// them loads.
    pub async fn get_or_load(&self, key: &K, load: impl AsyncFnOnce() -> Result<V>) -> Result<V> {
        let older = match self.0.look(key) {
            Some((entry, Age::Fresh)) => {
                LOOKUPS.add_for(Lookup::Hit, 1);
                return Ok(entry.value.clone());
            }
            found => found,
        };
        LOOKUPS.add_for(Lookup::Miss, 1);
        let seat = self.0.flights.join(key);
        let run = async || {
            let result = load().await;
            self.0.land(key, &seat.flight, &result);
            result
        };
        match seat.flight.get_or_init(run).await {
            Ok(value) => Ok(value.clone()),
            Err(error) => match older.filter(|(_, age)| *age == Age::Stale) {
                Some((entry, _)) => {
                    LOOKUPS.add_for(Lookup::Stale, 1);
                    Ok(entry.value.clone())
                }
                None => Err(error.clone()),
            },
        }
    }

    /// Keeps a value for the time of the options; a load of its key that is on its way is superseded.
    pub fn put(&self, key: K, value: V) {
        self.put_for(key, value, self.0.options.ttl);
    }

    /// Keeps a value for a time of its own; for ever if that is `None`, not at all if it is zero.
    pub fn put_for(&self, key: K, value: V, ttl: Option<Duration>) {
        let mut flights = self.0.flights.0.lock();
        flights.remove(&key);
        self.0.keep(key, value, ttl);
    }

    /// Removes the value under a key and returns whether a fresh one was there; a load that is on
    /// its way is superseded.
    pub fn invalidate(&self, key: &K) -> bool {
        let mut flights = self.0.flights.0.lock();
        flights.remove(key);
        let was_fresh = self.0.look(key).is_some_and(|(_, age)| age == Age::Fresh);
        self.0.entries.invalidate(key);
        was_fresh
    }

    /// Removes everything; loads that are on their way are superseded.
    pub fn clear(&self) {
        let mut flights = self.0.flights.0.lock();
        flights.clear();
        // Relaxed: it is changed and read for fills under the lock; a reader that sees the old
        // epoch has begun before the clearing ended.
        self.0.epoch.fetch_add(1, Ordering::Relaxed);
        self.0.entries.invalidate_all();
    }

    /// Returns how many entries are kept, once what is due was evicted; expired ones count.
    pub fn len(&self) -> u64 {
        self.0.entries.run_pending_tasks();
        self.0.entries.entry_count()
    }

    /// Returns whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn look(&self, key: &K) -> Option<(Arc<Entry<V>>, Age)> {
        let entry = self.entries.get(key)?;
        let age = entry.age(self.clock.now(), self.epoch.load(Ordering::Relaxed));
        (age != Age::Over).then_some((entry, age))
    }

    /// Ends a load: its value is kept only if nothing has superseded it.
    fn land(&self, key: &K, flight: &Flight<V>, result: &Result<V>) {
        let mut flights = self.flights.0.lock();
        let is_current = flights.get(key).is_some_and(|current| Arc::ptr_eq(current, flight));
        if is_current {
            flights.remove(key);
        }
        let load = match result {
            Err(_) => Load::Failed,
            Ok(_) if !is_current => Load::Superseded,
            Ok(value) => {
                self.keep(key.clone(), value.clone(), self.options.ttl);
                Load::Kept
            }
        };
        LOADS.add_for(load, 1);
    }

    /// Keeps a value; called with the flights' lock held.
    fn keep(&self, key: K, value: V, ttl: Option<Duration>) {
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            self.entries.invalidate(&key);
            return;
        }
        let fresh = ttl.map(|ttl| self.clock.now() + ttl);
        let epoch = self.epoch.load(Ordering::Relaxed);
        self.entries.insert(key, Arc::new(Entry::new(value, epoch, fresh, self.options.stale)));
    }
}
