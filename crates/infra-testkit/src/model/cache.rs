//! The cache as the contract reads; when it is full, the oldest value goes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{Clock, Result, cache::Cache, clock::Instant};
use parking_lot::Mutex;

/// Keeps values in a list, oldest first.
#[derive(Debug)]
pub struct ModelCache {
    clock: Arc<dyn Clock>,
    capacity: usize,
    values: Mutex<Vec<(String, Bytes, Option<Instant>)>>,
}

impl ModelCache {
    /// Creates an empty cache with room for `capacity` values; deadlines are judged by `clock`.
    pub fn new(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self { clock, capacity, values: Mutex::default() }
    }
}

#[async_trait]
impl Cache for ModelCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let now = self.clock.now();
        let values = self.values.lock();
        let found = values.iter().find(|(own, _, _)| own == key);
        let fresh = found.filter(|(_, _, deadline)| deadline.is_none_or(|deadline| now < deadline));
        Ok(fresh.map(|(_, value, _)| value.clone()))
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let mut found = Vec::new();
        for key in keys {
            found.push(self.get(key).await?);
        }
        Ok(found)
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<()> {
        let deadline = ttl.map(|ttl| self.clock.now() + ttl);
        let mut values = self.values.lock();
        values.retain(|(own, _, _)| own != key);
        if !ttl.is_some_and(|ttl| ttl.is_zero()) {
            values.push((key.to_owned(), value, deadline));
        }
        let excess = values.len().saturating_sub(self.capacity);
        values.drain(..excess);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        let was_there = self.get(key).await?.is_some();
        self.values.lock().retain(|(own, _, _)| own != key);
        Ok(was_there)
    }

    async fn clear(&self) -> Result<()> {
        self.values.lock().clear();
        Ok(())
    }
}
