//! What a repository keeps.

use std::sync::Arc;

use bytes::Bytes;
use infra_core::{Error, ErrorKind, Result, codec::Payload, store::Term, version::Version};
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

    /// Returns what may become of it in memory; by default it may leave when others need the room.
    fn standing(&self) -> Standing {
        Standing::Idle
    }

    /// Returns the tags under which it is found in the archive; none by default.
    fn tags(&self) -> Vec<String> {
        Vec::new()
    }

    /// Brings a body of another schema to this one, when it is read; by default it is refused.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if there is no way.
    fn upgrade(payload: &Payload) -> Result<Self> {
        let detail = format!("schema {} where {} is wanted", payload.schema, Self::SCHEMA);
        Err(Error::new(ErrorKind::Unsupported, "read entity").detail(detail))
    }

    /// Decodes a body, of this schema or of another one.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) for a body that is none, and as [`Entity::upgrade`].
    fn decode(payload: &Payload) -> Result<Self> {
        if payload.schema == Self::SCHEMA { payload.decode() } else { Self::upgrade(payload) }
    }
}

/// What may become of an entity in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It is over: it is the first to leave memory, and may be archived.
    Completed,
    /// Nobody is at it: it leaves when no completed one is left, the longest unused one first.
    Idle,
    /// It is worked with: it never leaves memory.
    Active,
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
