//! Where values come from and where they are kept for good.

mod documents;

use std::{collections::HashMap, fmt::Debug};

use async_trait::async_trait;
use infra_core::Result;

pub use documents::DocumentSource;

use crate::read::Loaded;

/// A key with the value that is to be kept under it from now on; none if `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit<V> {
    /// The key.
    pub key: String,
    /// The value, or `None` to delete what is there.
    pub value: Option<V>,
}

impl<V> Edit<V> {
    /// Creates the saving of a value.
    pub fn save(key: impl Into<String>, value: V) -> Self {
        Self { key: key.into(), value: Some(value) }
    }

    /// Creates the deletion of what is under a key.
    pub fn delete(key: impl Into<String>) -> Self {
        Self { key: key.into(), value: None }
    }
}

/// Keeps the values that a cache shows.
///
/// # Contract
///
/// 1. **Current:** a load that begins after a write returned finds what it wrote, or something newer.
/// 2. **Whole:** what a load leaves out does not exist; an outage is an error.
/// 3. **Repeatable:** writing the same edits again changes nothing; edits are states, not steps.
#[async_trait]
pub trait Source<V>: Send + Sync + Debug {
    /// Loads the values under several keys; those that do not exist are left out.
    ///
    /// # Errors
    ///
    /// What the source fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future must have no effect.
    async fn load(&self, keys: Vec<String>) -> Result<HashMap<String, Loaded<V>>>;

    /// Writes edits, each key at most once.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid), [`Denied`](infra_core::ErrorKind::Denied),
    /// [`Conflict`](infra_core::ErrorKind::Conflict) or [`Unsupported`](infra_core::ErrorKind::Unsupported)
    /// if one of them can never be written; then none must have been, unless they are written anew one by one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave any of the edits written.
    async fn write(&self, edits: Vec<Edit<V>>) -> Result<()>;
}
