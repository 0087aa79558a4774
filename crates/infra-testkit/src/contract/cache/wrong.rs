//! Caches that are wrong on purpose: each has one bug that a clause must catch.

#![expect(clippy::wildcard_enum_match_arm, reason = "each bug is about a few cases")]

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{Result, cache::Cache};
use parking_lot::Mutex;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Values live for ever.
    Immortal,
    /// A value keeps the deadline of the one before it.
    OldDeadline,
    /// Each third put is lost while the older value stays.
    LosesPut,
    /// A removed value is found again.
    KeepsRemoved,
    /// Clearing keeps everything.
    KeepsCleared,
    /// A time to live of zero is none.
    ZeroIsEver,
    /// Nothing is ever evicted.
    Unbounded,
    /// An empty value is a miss.
    EmptyIsMiss,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Immortal, "fresh"),
        (Self::OldDeadline, "fresh"),
        (Self::LosesPut, "last_write"),
        (Self::KeepsRemoved, "gone"),
        (Self::KeepsCleared, "gone"),
        (Self::ZeroIsEver, "zero"),
        (Self::Unbounded, "bounded"),
        (Self::EmptyIsMiss, "missed"),
    ];
}

/// The value that was put last, its time to live, and how often one was put before.
type Put = (Bytes, Option<Duration>, u32);

/// A right cache with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn Cache>,
    bug: Bug,
    everything: Mutex<HashMap<String, Put>>,
}

impl Wrong {
    /// Plants a bug into a right cache.
    pub fn plant(right: Arc<dyn Cache>, bug: Bug) -> Arc<dyn Cache> {
        Arc::new(Self { right, bug, everything: Mutex::default() })
    }
}

#[async_trait]
impl Cache for Wrong {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        if self.bug == Bug::Unbounded {
            return Ok(self.everything.lock().get(key).map(|(value, _, _)| value.clone()));
        }
        let found = self.right.get(key).await?;
        Ok(found.filter(|value| self.bug != Bug::EmptyIsMiss || !value.is_empty()))
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let mut found = Vec::new();
        for key in keys {
            found.push(self.get(key).await?);
        }
        Ok(found)
    }

    async fn put(&self, key: &str, value: Bytes, mut ttl: Option<Duration>) -> Result<()> {
        let (old, puts) = {
            let mut everything = self.everything.lock();
            let old = everything.get(key).and_then(|(_, ttl, _)| *ttl);
            let puts = everything.get(key).map_or(0, |(_, _, puts)| puts + 1);
            everything.insert(key.to_owned(), (value.clone(), ttl, puts));
            (old, puts)
        };
        match self.bug {
            Bug::LosesPut if puts % 3 == 2 => return Ok(()),
            Bug::Immortal => ttl = ttl.filter(Duration::is_zero),
            Bug::OldDeadline => ttl = old.or(ttl),
            Bug::ZeroIsEver => ttl = ttl.filter(|ttl| !ttl.is_zero()),
            _ => {}
        }
        self.right.put(key, value, ttl).await
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        if self.bug == Bug::KeepsRemoved {
            return Ok(self.right.get(key).await?.is_some());
        }
        self.right.remove(key).await
    }

    async fn clear(&self) -> Result<()> {
        if self.bug == Bug::KeepsCleared {
            return Ok(());
        }
        self.right.clear().await
    }
}
