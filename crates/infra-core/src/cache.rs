//! The cache: bytes under keys for a time, and typed access on top.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{codec::Codec, error::Result};

/// A value to keep, for how long, and the tags by which it can be removed.
///
/// ```
/// use std::time::Duration;
/// use infra_core::cache::Put;
///
/// let put = Put::new("user:1", "Ann").ttl(Duration::from_secs(60)).tagged("users");
/// assert_eq!(put.tags, ["users"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// How long it may be served; until it is evicted if that is `None`.
    pub ttl: Option<Duration>,
    /// Its tags; those of the value before it go.
    pub tags: Vec<String>,
}

impl Put {
    /// Creates a put without end and without tags.
    pub fn new(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), ttl: None, tags: Vec::new() }
    }

    /// Sets how long the value may be served.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tagged(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

/// A value that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: Bytes,
    /// How long it may still be served; without end if that is `None`.
    pub left: Option<Duration>,
    /// Its tags.
    pub tags: Vec<String>,
}

/// When a lookup was made, by the cache's count of changes; it fences a later [`Cache::fill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Which life of the cache; one that lost its count begins another.
    pub life: u64,
    /// How many changes there had been.
    pub tick: u64,
}

/// What a lookup found, in the order of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The values.
    pub found: Vec<Option<Found>>,
    /// The ticket for what is loaded because of this lookup.
    pub ticket: Ticket,
}

/// Keeps bytes under keys until their time is over or room is needed.
///
/// # Contract
///
/// 1. **Fresh:** a lookup never finds a value at or after the deadline it was put with.
/// 2. **Last write:** a lookup finds the value put last, or nothing; never an older one.
/// 3. **Gone:** a lookup that starts after a removal or clearing returned finds nothing older.
/// 4. **Zero:** a time to live of zero stores nothing and removes what was there.
/// 5. **Bounded:** what is kept never outgrows the declared capacity for good.
/// 6. **Missed:** a miss is `None`; an outage is an error, never a miss.
/// 7. **Fenced:** a fill stores nothing under a key that was put or removed, by itself, by one of
///    the fill's tags or by clearing, after the lookup whose ticket it carries.
/// 8. **Tagged:** the keys of a tag are exactly those of the values that carry it; removing it
///    removes them and no others, and tells how many they were.
/// 9. **Scanned:** a scan to its end yields each key that was there all the time, begins with the
///    prefix, and has a value; none that does not.
/// 10. **Batched:** several at once are as one after the other; a key named twice counts once.
#[async_trait]
pub trait Cache: Send + Sync + Debug {
    /// Looks for the values under several keys, in one round trip.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::error::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::error::ErrorKind::Timeout) if the engine cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn look(&self, keys: &[&str]) -> Result<Looked>;

    /// Stores values, in one round trip.
    ///
    /// # Errors
    ///
    /// As for [`Cache::look`]; [`Indeterminate`](crate::error::ErrorKind::Indeterminate) if it was
    /// sent and not answered.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the values stored or not.
    async fn put_many(&self, puts: Vec<Put>) -> Result<()>;

    /// Stores values that were loaded after a lookup, except those that were put or removed since;
    /// returns how many it stored.
    ///
    /// # Errors
    ///
    /// As for [`Cache::put_many`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the values stored or not.
    async fn fill(&self, ticket: Ticket, puts: Vec<Put>) -> Result<u64>;

    /// Removes values and returns how many were there.
    ///
    /// # Errors
    ///
    /// As for [`Cache::put_many`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the values there or not.
    async fn remove_many(&self, keys: &[&str]) -> Result<u64>;

    /// Returns the keys of the values that carry a tag, in any order.
    ///
    /// # Errors
    ///
    /// As for [`Cache::look`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn tagged(&self, tag: &str) -> Result<Vec<String>>;

    /// Removes all values that carry a tag and returns how many were there.
    ///
    /// # Errors
    ///
    /// As for [`Cache::put_many`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the values there or not.
    async fn remove_tag(&self, tag: &str) -> Result<u64>;

    /// Returns some of the keys that begin with `prefix`, and the cursor for the next ones; a scan
    /// begins with cursor zero and ends where zero is returned. A key may come more than once.
    ///
    /// # Errors
    ///
    /// As for [`Cache::look`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn scan(&self, prefix: &str, cursor: u64) -> Result<(Vec<String>, u64)>;

    /// Removes everything.
    ///
    /// # Errors
    ///
    /// As for [`Cache::put_many`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the values there or not.
    async fn clear(&self) -> Result<()>;
}

/// Single keys and typed values on any [`Cache`].
#[async_trait]
pub trait CacheExt: Cache {
    /// Returns the value under `key`.
    ///
    /// # Errors
    ///
    /// As for [`Cache::look`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.get_many(&[key]).await?.pop().flatten())
    }

    /// Returns the values under several keys, in their order.
    ///
    /// # Errors
    ///
    /// As for [`Cache::look`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let looked = self.look(keys).await?;
        Ok(looked.found.into_iter().map(|found| found.map(|found| found.value)).collect())
    }

    /// Stores a value for `ttl`, or until it is evicted if that is `None`.
    ///
    /// # Errors
    ///
    /// As for [`Cache::put_many`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the value stored or not.
    async fn put(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<()> {
        self.put_many(vec![Put { ttl, ..Put::new(key, value) }]).await
    }

    /// Removes a value and returns whether one was there.
    ///
    /// # Errors
    ///
    /// As for [`Cache::remove_many`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the value there or not.
    async fn remove(&self, key: &str) -> Result<bool> {
        Ok(0 < self.remove_many(&[key]).await?)
    }

    /// Returns the value under `key`, decoded with the codec `C`.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::error::ErrorKind::Corrupt) if the bytes are no `T`, and as for [`Cache::look`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn get_as<C: Codec, T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.get(key).await?.map(|bytes| C::decode(&bytes)).transpose()
    }

    /// Stores a value, encoded with the codec `C`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::ErrorKind::Invalid) if it cannot be encoded, and as for [`Cache::put_many`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the value stored or not.
    async fn put_as<C: Codec, T: Serialize + Sync>(
        &self,
        key: &str,
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<()> {
        let bytes = C::encode(value)?;
        self.put(key, bytes, ttl).await
    }
}

impl<C: Cache + ?Sized> CacheExt for C {}
