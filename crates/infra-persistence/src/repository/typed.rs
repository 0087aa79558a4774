//! Typed access to one collection, memory first.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    codec::Payload,
    id::{Collection, IndexName},
    store::{Batch, Document, DocumentStore, Query, Scan, Write},
    version::{Expected, Version},
};
use parking_lot::Mutex;

use super::{
    entity::{Entity, Stored},
    recent::Recent,
};
use crate::telemetry::{HITS, MISSES};

/// Keeps entities of one type in a document store, and the most recently used ones in memory.
///
/// A save is durable when it returns, then it is in memory too; a read looks in memory first. The
/// memory is a cache of what is stored and is bounded by a number of entities, so what is pushed out
/// is read again. It is coherent as long as all writes to the collection go through one repository
/// (its clones are the same one).
#[derive(Debug)]
pub struct Repository<E> {
    documents: Arc<dyn DocumentStore>,
    collection: Collection,
    recent: Arc<Mutex<Recent<E>>>,
}

impl<E> Clone for Repository<E> {
    fn clone(&self) -> Self {
        Self {
            documents: Arc::clone(&self.documents),
            collection: self.collection.clone(),
            recent: Arc::clone(&self.recent),
        }
    }
}

impl<E: Entity> Repository<E> {
    /// Creates the repository of a collection; at most `in_memory` entities are kept in memory.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if [`Entity::COLLECTION`] cannot be a collection's name.
    pub fn new(documents: Arc<dyn DocumentStore>, in_memory: usize) -> Result<Self> {
        let collection = Collection::new(E::COLLECTION)?;
        Ok(Self { documents, collection, recent: Arc::new(Mutex::new(Recent::new(in_memory))) })
    }

    /// Returns an entity.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt), and what the store fails with; an outage is never `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Stored<E>>> {
        let key = Bytes::copy_from_slice(key);
        let changes = {
            let mut recent = self.recent.lock();
            if let Some(stored) = recent.get(&key) {
                HITS.add(1);
                return Ok(Some(stored));
            }
            recent.changes()
        };
        MISSES.add(1);
        let Some(document) = self.documents.get(&self.collection, &key).await? else {
            return Ok(None);
        };
        let stored = decode(&document)?;
        self.recent.lock().put(key, stored.clone(), changes);
        Ok(Some(stored))
    }

    /// Saves an entity if what is stored is as expected, and returns its new version.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) if it is not as expected or a unique term belongs to
    /// another entity, and what the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the write go on in the background, and memory learn of its end.
    pub async fn save(&self, entity: E, expected: Expected) -> Result<Version> {
        let write = self.write(&entity, expected)?;
        let key = entity.key();
        let (versions, changes) = self.commit_noted(Batch::new().write(write)).await?;
        let nothing = || Error::new(ErrorKind::Internal, "save entity");
        let version = versions.into_iter().next().ok_or_else(nothing)?;
        if let Some(changes) = changes {
            let stored = Stored { entity: Arc::new(entity), version };
            self.recent.lock().put(key, stored, changes);
        }
        Ok(version)
    }

    /// Removes an entity if what is stored is as expected.
    ///
    /// # Errors
    ///
    /// As for [`Repository::save`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Repository::save`].
    pub async fn remove(&self, key: &[u8], expected: Expected) -> Result<()> {
        let key = Bytes::copy_from_slice(key);
        let batch = Batch::new().delete(self.collection.clone(), key, expected);
        self.commit(batch).await.map(|_| ())
    }

    /// Returns the change that [`Repository::save`] makes, to be committed together with others by
    /// [`Repository::commit`].
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if the entity cannot be encoded.
    pub fn write(&self, entity: &E, expected: Expected) -> Result<Write> {
        Ok(Write::Put {
            collection: self.collection.clone(),
            key: entity.key(),
            expected,
            payload: Payload::json(E::SCHEMA, entity)?,
            terms: entity.terms()?,
        })
    }

    /// Commits a batch, of this collection and others, and returns the version after each change.
    ///
    /// # Errors
    ///
    /// As for [`DocumentStore::commit`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Repository::save`].
    pub async fn commit(&self, batch: Batch) -> Result<Vec<Version>> {
        self.commit_noted(batch).await.map(|(versions, _)| versions)
    }

    /// Commits a batch; returns the versions, and how many writes had ended then if no other write
    /// met this one.
    async fn commit_noted(&self, batch: Batch) -> Result<(Vec<Version>, Option<u64>)> {
        const COMMIT: &str = "commit entities";
        let targets = batch.writes.iter().map(Write::target);
        let own = targets.filter(|(collection, _, _)| **collection == self.collection);
        let keys: Vec<Bytes> = own.map(|(_, key, _)| key.clone()).collect();
        let repository = self.clone();
        self.recent.lock().begin(&keys);
        // A task of its own, so that memory learns of the write's end also when its caller has gone.
        let committing = tokio::spawn(async move {
            let receipt = repository.documents.commit(batch).await;
            let mut recent = repository.recent.lock();
            let changes = recent.end(&keys).then(|| recent.changes());
            receipt.map(|receipt| (receipt.versions, changes))
        });
        let died = |cause| Error::new(ErrorKind::Indeterminate, COMMIT).because(cause);
        committing.await.map_err(died)?
    }

    /// Returns the entities whose term of an index lies in a range, in the order of its values.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn find(&self, query: Query) -> Result<Vec<Stored<E>>> {
        let found = self.documents.query(&self.collection, query).await?;
        found.iter().map(decode).collect()
    }

    /// Returns the one entity that has a value in a unique index.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn find_one(&self, index: IndexName, value: Bytes) -> Result<Option<Stored<E>>> {
        Ok(self.find(Query::equal(index, value, 1)).await?.pop())
    }

    /// Returns a page of all entities, in the order of their keys.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn list(&self, scan: Scan) -> Result<Vec<Stored<E>>> {
        let found = self.documents.scan(&self.collection, scan).await?;
        found.iter().map(decode).collect()
    }

    /// Counts the entities.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn count(&self) -> Result<u64> {
        self.documents.count(&self.collection, b"").await
    }

    /// Returns how many entities are in memory.
    pub fn in_memory(&self) -> usize {
        self.recent.lock().len()
    }
}

fn decode<E: Entity>(document: &Document) -> Result<Stored<E>> {
    Ok(Stored { entity: Arc::new(document.decode()?), version: document.version })
}

/// Returns a query for every value of an index, lowest first.
pub(super) fn all(index: IndexName, limit: usize) -> Query {
    Query { from: Bound::Unbounded, to: Bound::Unbounded, ..Query::equal(index, "", limit) }
}
