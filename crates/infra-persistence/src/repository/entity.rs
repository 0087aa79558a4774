//! What a repository keeps.

use std::sync::Arc;

use bytes::Bytes;
use infra_core::{Result, store::Term, version::Version};
use serde::{Serialize, de::DeserializeOwned};

/// A value with a key of its own, kept as a document.
pub trait Entity: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The collection of its documents.
    const COLLECTION: &'static str;

    /// The version of its schema.
    const SCHEMA: u32;

    /// Returns its key.
    fn key(&self) -> Bytes;

    /// Returns the terms under which it is found.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for a value that cannot be a term.
    fn terms(&self) -> Result<Vec<Term>>;
}

/// An entity as it is stored. Cheap to clone.
#[derive(Debug)]
pub struct Stored<E> {
    /// The entity.
    pub entity: Arc<E>,
    /// Its version, to be expected by the next save.
    pub version: Version,
}

impl<E> Clone for Stored<E> {
    fn clone(&self) -> Self {
        Self { entity: Arc::clone(&self.entity), version: self.version }
    }
}
