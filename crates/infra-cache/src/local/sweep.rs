//! Taking away what is over, also if nobody reads it.

use std::{hash::Hash, sync::Arc, time::Duration};

use infra_core::lifecycle::Stop;

use super::{Inner, LocalCache, shard::Shard};
use crate::{
    deadlines::Record,
    entry::{Nanos, Phase},
};

impl<K, V> LocalCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Takes away what is over, what was removed by tags, and what is due for eviction; returns how many
    /// entries it took for their time.
    ///
    /// Each write does a part of that for its own part of the keys, so a cache that is written to
    /// needs no sweeper; one that is not does, or the last entries stay in memory unseen.
    pub fn sweep(&self) -> u64 {
        let mut expired = 0;
        for shard in self.0.shards.iter() {
            let mut shard = shard.lock();
            let now = self.0.books.now();
            while let Some(over) = shard.deadlines.due(now) {
                expired += u64::from(self.0.expire(&mut shard, over, now));
            }
        }
        for (key, seq) in self.0.books.exhume(usize::MAX) {
            self.0.take_away(&key, seq);
        }
        self.0.store.settle();
        self.0.books.tell();
        expired
    }

    /// Returns the task that sweeps the cache again and again.
    pub fn sweeper(&self, every: Duration) -> Sweeper<K, V> {
        Sweeper { cache: self.clone(), every: every.max(Duration::from_millis(1)) }
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Takes an entry away if it is the one of the record and over; returns whether it did.
    pub(super) fn expire(&self, shard: &mut Shard<K, V>, record: Record<K, V>, now: Nanos) -> bool {
        if record.is_gone() {
            return false;
        }
        let Some(entry) = self.store.peek(&record.key) else { return false };
        if !record.is_of(&entry) {
            return false;
        }
        if entry.phase(now, &self.books.options) == Phase::Over {
            return self.store.remove(&record.key).is_some();
        }
        // It was used since, so it is idle later.
        let end = entry.end(&self.books.options);
        shard.deadlines.note(end, record.key, &entry);
        false
    }
}

/// Sweeps a cache until it is told to stop.
///
/// ```
/// use std::time::Duration;
/// use infra_core::{SystemClock, lifecycle::Shutdown};
/// use infra_cache::{LocalCache, Options};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let shutdown = Shutdown::new();
/// let cache: LocalCache<u64, String> = LocalCache::new(Options::new(100), SystemClock::shared());
/// shutdown.spawn(cache.sweeper(Duration::from_secs(1)).run(shutdown.stop()));
/// assert_eq!(shutdown.close(Duration::from_secs(5)).await.finished, 1);
/// # });
/// ```
#[derive(Debug)]
#[must_use = "a sweeper sweeps while it runs"]
pub struct Sweeper<K, V> {
    cache: LocalCache<K, V>,
    every: Duration,
}

impl<K, V> Sweeper<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Sweeps; it ends as well when nobody else holds the cache.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops it.
    pub async fn run(self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            if Arc::strong_count(&self.cache.0) == 1 {
                return;
            }
            self.cache.sweep();
        }
    }
}
