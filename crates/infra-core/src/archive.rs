//! The store of cold objects: written once, listed, read, removed.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{clock::Timestamp, error::Result};

/// What an archive knows of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name: segments divided by `/`.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// When it was stored, by the engine's clock.
    pub stored: Timestamp,
}

/// Keeps whole objects under names.
///
/// # Contract
///
/// 1. **Created once:** `create` of a name that exists is a
///    [`Conflict`](crate::error::ErrorKind::Conflict) and leaves the object as it was, also among
///    concurrent callers: exactly one wins.
/// 2. **Whole:** a reader sees an object complete or not at all.
/// 3. **Durable:** what `create` or `replace` acknowledged survives the loss of power.
/// 4. **Listed:** `list` gives each name below the prefix once, in byte order, and pages by name;
///    a prefix ends at a segment's end, so `game-1` does not find `game-10`.
/// 5. **Gone:** after `delete`, `get` is `None`; deleting what is not there is no error.
/// 6. **Named:** an empty name, `.`, `..`, an empty segment or a control character is
///    [`Invalid`](crate::error::ErrorKind::Invalid). No name may begin another one up to a `/`
///    (`a` beside `a/b`): engines on file systems cannot keep both.
#[async_trait]
pub trait ArchiveStore: Send + Sync + Debug {
    /// Stores an object under a name that is not there yet.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::error::ErrorKind::Conflict) if the name exists.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the object there whole or not at all.
    async fn create(&self, name: &str, body: Bytes) -> Result<()>;

    /// Stores an object, whatever was there before.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the old object or the new one.
    async fn replace(&self, name: &str, body: Bytes) -> Result<()>;

    /// Reads an object.
    ///
    /// # Errors
    ///
    /// What the engine fails with; an outage is never `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn get(&self, name: &str) -> Result<Option<Bytes>>;

    /// Returns what is known of an object.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>>;

    /// Lists up to `limit` objects below `prefix` (empty: all) whose names come after `after`.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<ObjectInfo>>;

    /// Removes an object.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it there or not; it may be repeated.
    async fn delete(&self, name: &str) -> Result<()>;
}
