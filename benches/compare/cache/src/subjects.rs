//! The caches, behind one trait; the call through it costs all of them the same.

use std::{sync::Arc, time::Duration};

use infra_cache::{LocalCache, Options, Policy};
use infra_core::SystemClock;
use moka::policy::EvictionPolicy;

const TTL: Duration = Duration::from_secs(600);

pub trait Subject: Send + Sync {
    /// Returns whether a key is there.
    fn get(&self, key: u64) -> bool;

    /// Keeps the key itself under a key.
    fn put(&self, key: u64);
}

impl Subject for LocalCache<u64, u64> {
    fn get(&self, key: u64) -> bool {
        LocalCache::get(self, &key).is_some()
    }

    fn put(&self, key: u64) {
        LocalCache::put(self, key, key);
    }
}

impl Subject for moka::sync::Cache<u64, u64> {
    fn get(&self, key: u64) -> bool {
        moka::sync::Cache::get(self, &key).is_some()
    }

    fn put(&self, key: u64) {
        self.insert(key, key);
    }
}

impl Subject for quick_cache::sync::Cache<u64, u64> {
    fn get(&self, key: u64) -> bool {
        quick_cache::sync::Cache::get(self, &key).is_some()
    }

    fn put(&self, key: u64) {
        self.insert(key, key);
    }
}

impl Subject for foyer_memory::Cache<u64, u64> {
    fn get(&self, key: u64) -> bool {
        foyer_memory::Cache::get(self, &key).is_some()
    }

    fn put(&self, key: u64) {
        self.insert(key, key);
    }
}

pub fn ours(policy: Policy) -> impl Fn(u64) -> Arc<dyn Subject> {
    move |capacity| {
        let options = Options::new(capacity).ttl(TTL).policy(policy);
        Arc::new(LocalCache::<u64, u64>::new(options, SystemClock::shared()))
    }
}

fn moka(capacity: u64, policy: EvictionPolicy) -> Arc<dyn Subject> {
    let cache = moka::sync::Cache::<u64, u64>::builder().max_capacity(capacity);
    Arc::new(cache.time_to_live(TTL).eviction_policy(policy).build())
}

pub fn moka_tiny_lfu(capacity: u64) -> Arc<dyn Subject> {
    moka(capacity, EvictionPolicy::tiny_lfu())
}

pub fn moka_lru(capacity: u64) -> Arc<dyn Subject> {
    moka(capacity, EvictionPolicy::lru())
}

/// It knows no time to live.
pub fn quick_cache(capacity: u64) -> Arc<dyn Subject> {
    Arc::new(quick_cache::sync::Cache::<u64, u64>::new(capacity as usize))
}

/// Its w-TinyLFU, which is its default; it knows no time to live.
pub fn foyer(capacity: u64) -> Arc<dyn Subject> {
    let cache: foyer_memory::Cache<u64, u64> =
        foyer_memory::CacheBuilder::new(capacity as usize).build();
    Arc::new(cache)
}
