//! The cache: bytes under keys for a time, and typed access on top.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{codec::Codec, error::Result};

/// Keeps bytes under keys until their time is over or room is needed.
///
/// # Contract
///
/// 1. **Fresh:** `get` never returns a value at or after the deadline it was put with.
/// 2. **Last write:** `get` returns the value put last, or nothing; never an older one.
/// 3. **Gone:** a `get` that starts after a `remove` or `clear` returned finds nothing older.
/// 4. **Zero:** a time to live of zero stores nothing and removes what was there.
/// 5. **Bounded:** what is kept never outgrows the declared capacity for good.
/// 6. **A miss is `None`:** an outage is an error, never a miss.
#[async_trait]
pub trait Cache: Send + Sync + Debug {
    /// Returns the value under `key`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::error::ErrorKind::Unavailable) if the engine cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Returns the values under several keys, in their order.
    ///
    /// # Errors
    ///
    /// As for [`Cache::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>>;

    /// Stores a value for `ttl`, or until it is evicted if that is `None`.
    ///
    /// # Errors
    ///
    /// As for [`Cache::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the value stored or not.
    async fn put(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<()>;

    /// Removes a value and returns whether one was there.
    ///
    /// # Errors
    ///
    /// As for [`Cache::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the value there or not.
    async fn remove(&self, key: &str) -> Result<bool>;

    /// Removes everything.
    ///
    /// # Errors
    ///
    /// As for [`Cache::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some of it.
    async fn clear(&self) -> Result<()>;
}

/// Typed access to any [`Cache`].
#[async_trait]
pub trait CacheExt: Cache {
    /// Returns the value under `key`, decoded with the codec `C`.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::error::ErrorKind::Corrupt) if the bytes are no `T`, and as for [`Cache::get`].
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
    /// [`Invalid`](crate::error::ErrorKind::Invalid) if it cannot be encoded, and as for [`Cache::put`].
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
