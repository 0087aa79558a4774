//! Caches that are wrong on purpose: each has one bug that a clause must catch.

#![expect(clippy::wildcard_enum_match_arm, reason = "each bug is about a few cases")]

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Result,
    cache::{Cache, CacheExt as _, Found, Looked, Put, Ticket},
};
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
    /// A fill stores whatever happened since the lookup.
    Unfenced,
    /// A fill does not see that one of its tags was removed.
    BlindToTags,
    /// A value keeps the tags of the one before it.
    OldTags,
    /// Removing a tag keeps its values.
    KeepsTagged,
    /// A scan yields keys without the prefix.
    ScansAll,
    /// A scan yields keys that are gone.
    ScansGone,
    /// A key that is named twice counts twice.
    CountsTwice,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 15] = [
        (Self::Immortal, "fresh"),
        (Self::OldDeadline, "fresh"),
        (Self::LosesPut, "last_write"),
        (Self::KeepsRemoved, "gone"),
        (Self::KeepsCleared, "gone"),
        (Self::ZeroIsEver, "zero"),
        (Self::Unbounded, "bounded"),
        (Self::EmptyIsMiss, "missed"),
        (Self::Unfenced, "fenced"),
        (Self::BlindToTags, "fenced"),
        (Self::OldTags, "tagged"),
        (Self::KeepsTagged, "tagged"),
        (Self::ScansAll, "scanned"),
        (Self::ScansGone, "scanned"),
        (Self::CountsTwice, "batched"),
    ];
}

/// The value that was put last, its time to live, its tags, and how often one was put before.
type Known = (Bytes, Option<Duration>, Vec<String>, u32);

/// A right cache with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn Cache>,
    bug: Bug,
    everything: Mutex<HashMap<String, Known>>,
}

impl Wrong {
    /// Plants a bug into a right cache.
    pub fn plant(right: Arc<dyn Cache>, bug: Bug) -> Arc<dyn Cache> {
        Arc::new(Self { right, bug, everything: Mutex::default() })
    }

    /// Remembers a put, and changes it as the bug wants; `None` if it is lost.
    fn spoil(&self, mut put: Put) -> Option<Put> {
        let mut everything = self.everything.lock();
        let old = everything.get(&put.key).cloned();
        let puts = old.as_ref().map_or(0, |(_, _, _, puts)| puts + 1);
        let known = (put.value.clone(), put.ttl, put.tags.clone(), puts);
        everything.insert(put.key.clone(), known);
        let has = |bug| self.bug == bug;
        if has(Bug::LosesPut) && puts % 3 == 2 {
            return None;
        }
        if has(Bug::Immortal) || has(Bug::ZeroIsEver) {
            put.ttl = put.ttl.filter(|ttl| ttl.is_zero() == has(Bug::Immortal));
        }
        if let Some((_, ttl, tags, _)) = old {
            put.ttl = if has(Bug::OldDeadline) { ttl.or(put.ttl) } else { put.ttl };
            put.tags.extend(tags.into_iter().filter(|_| has(Bug::OldTags)));
        }
        Some(put)
    }
}

#[async_trait]
impl Cache for Wrong {
    async fn look(&self, keys: &[&str]) -> Result<Looked> {
        let mut looked = self.right.look(keys).await?;
        for (key, found) in keys.iter().zip(&mut looked.found) {
            if self.bug == Bug::Unbounded {
                let known = self.everything.lock().get(*key).cloned();
                *found = known.map(|(value, left, tags, _)| Found { value, left, tags });
            }
            found.take_if(|found| self.bug == Bug::EmptyIsMiss && found.value.is_empty());
        }
        Ok(looked)
    }

    async fn put_many(&self, puts: Vec<Put>) -> Result<()> {
        self.right.put_many(puts.into_iter().filter_map(|put| self.spoil(put)).collect()).await
    }

    async fn fill(&self, ticket: Ticket, mut puts: Vec<Put>) -> Result<u64> {
        match self.bug {
            Bug::Unfenced => {
                let now = self.right.look(&[]).await?.ticket;
                self.right.fill(now, puts).await
            }
            Bug::BlindToTags => {
                for put in &mut puts {
                    put.tags.clear();
                }
                self.right.fill(ticket, puts).await
            }
            _ => self.right.fill(ticket, puts).await,
        }
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<u64> {
        if self.bug == Bug::KeepsRemoved {
            let found = self.right.get_many(keys).await?;
            return Ok(found.iter().flatten().count() as u64);
        }
        let mut removed = self.right.remove_many(keys).await?;
        if self.bug == Bug::CountsTwice {
            let repeated = keys
                .iter()
                .enumerate()
                .filter(|(at, key)| keys.iter().take(*at).any(|k| k == *key));
            removed += repeated.count() as u64;
        }
        Ok(removed)
    }

    async fn tagged(&self, tag: &str) -> Result<Vec<String>> {
        self.right.tagged(tag).await
    }

    async fn remove_tag(&self, tag: &str) -> Result<u64> {
        if self.bug == Bug::KeepsTagged {
            return Ok(self.right.tagged(tag).await?.len() as u64);
        }
        self.right.remove_tag(tag).await
    }

    async fn scan(&self, prefix: &str, cursor: u64) -> Result<(Vec<String>, u64)> {
        match self.bug {
            Bug::ScansAll => self.right.scan("", cursor).await,
            Bug::ScansGone => Ok((self.everything.lock().keys().cloned().collect(), 0)),
            _ => self.right.scan(prefix, cursor).await,
        }
    }

    async fn clear(&self) -> Result<()> {
        if self.bug == Bug::KeepsCleared {
            return Ok(());
        }
        self.right.clear().await
    }
}
