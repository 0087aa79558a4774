//! The cache port over a local cache.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{Clock, Result, cache::Cache};

use crate::{local::LocalCache, options::Options};

/// Keeps bytes under text keys in memory: the [`Cache`] port of one process.
#[derive(Debug, Clone)]
pub struct BytesCache(LocalCache<String, Bytes>);

impl BytesCache {
    /// Creates an empty cache; the time of the options is not used, each value has its own.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        Self(LocalCache::new(options, clock))
    }
}

#[async_trait]
impl Cache for BytesCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.0.get(&key.to_owned()))
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        Ok(keys.iter().map(|key| self.0.get(&(*key).to_owned())).collect())
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<()> {
        self.0.put_for(key.to_owned(), value, ttl);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        Ok(self.0.invalidate(&key.to_owned()))
    }

    async fn clear(&self) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}
