//! The cache port over a local cache.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock, Result,
    cache::{Cache, Found, Looked, Put, Ticket},
};

use crate::{local::LocalCache, options::Options, read::Loaded, tags::Tag};

/// How many changes of keys are remembered one by one, for fills that were on their way then; a
/// fill that is older than all of them is refused.
pub(crate) const REMEMBERED: usize = 16 * 1_024;

/// Keeps bytes under text keys in memory: the [`Cache`] port of one process.
#[derive(Debug, Clone)]
pub struct BytesCache(LocalCache<String, Bytes>);

impl BytesCache {
    /// Creates an empty cache of up to as many values as the capacity of the options; their time is
    /// not used, each value has its own.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        Self(LocalCache::builder(options, clock).remembering(REMEMBERED).build())
    }

    /// Creates an empty cache of up to as many bytes, of keys and values together, as the capacity of the
    /// options.
    pub fn weighed(options: Options, clock: Arc<dyn Clock>) -> Self {
        let weigh = |key: &String, value: &Bytes| {
            u32::try_from(key.len().saturating_add(value.len())).unwrap_or(u32::MAX)
        };
        let builder = LocalCache::builder(options, clock).remembering(REMEMBERED);
        Self(builder.weigher(weigh).build())
    }

    /// Returns the cache of values below, for its statistics and the rest that is not in the port.
    pub const fn local(&self) -> &LocalCache<String, Bytes> {
        &self.0
    }

    fn found(&self, key: &str) -> Option<Found> {
        let inner = &*self.0.0;
        let now = inner.books.now();
        let key = key.to_owned();
        let found = inner.find(&key, now).filter(|(_, phase)| phase.is_fresh());
        inner.count(&key, found.is_some());
        let (entry, _) = found?;
        let name = |tag: &Tag| match tag {
            Tag::Named(name) => Some(name.to_string()),
            Tag::Group(_) => None,
        };
        let tags = entry.marks.iter().filter_map(|mark| name(&mark.tag)).collect();
        Some(Found { value: entry.value.clone()?, left: entry.left(now), tags })
    }
}

fn loaded(put: Put) -> (String, Loaded<Bytes>) {
    let loaded = put.tags.into_iter().fold(Loaded::new(put.value), Loaded::tagged);
    (put.key, put.ttl.map_or(loaded.clone().endless(), |ttl: Duration| loaded.ttl(ttl)))
}

#[async_trait]
impl Cache for BytesCache {
    async fn look(&self, keys: &[&str]) -> Result<Looked> {
        // The ticket comes first, so that whatever changes during the lookup is after it.
        let ticket = Ticket { life: 0, tick: self.0.0.books.fence.ticket() };
        Ok(Looked { found: keys.iter().map(|key| self.found(key)).collect(), ticket })
    }

    async fn put_many(&self, puts: Vec<Put>) -> Result<()> {
        self.0.put_many_loaded(puts.into_iter().map(loaded));
        Ok(())
    }

    async fn fill(&self, ticket: Ticket, puts: Vec<Put>) -> Result<u64> {
        let inner = &*self.0.0;
        let mut stored = 0;
        inner.by_shard(puts.into_iter().map(loaded), |shard, key: String, loaded| {
            if !shard.admits(&key, ticket.tick) {
                return;
            }
            let (_, is_kept) = inner.fill(shard, key, loaded, ticket.tick);
            stored += u64::from(is_kept);
        });
        Ok(stored)
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<u64> {
        let keys: HashSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        Ok(self.0.invalidate_many(&keys.into_iter().collect::<Vec<_>>()))
    }

    async fn tagged(&self, tag: &str) -> Result<Vec<String>> {
        Ok(self.0.tagged(tag))
    }

    async fn remove_tag(&self, tag: &str) -> Result<u64> {
        Ok(self.0.remove_tag(tag))
    }

    async fn scan(&self, prefix: &str, _cursor: u64) -> Result<(Vec<String>, u64)> {
        let keys = self.0.entries().into_iter().map(|(key, _)| key);
        Ok((keys.filter(|key| key.starts_with(prefix)).collect(), 0))
    }

    async fn clear(&self) -> Result<()> {
        self.0.clear();
        Ok(())
    }
}
