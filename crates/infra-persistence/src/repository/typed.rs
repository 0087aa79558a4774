//! Typed access to one collection, memory first.

use std::{ops::Bound, sync::Arc, sync::atomic::Ordering};

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    codec::Payload,
    id::{Collection, IndexName},
    store::{Batch, Document, DocumentStore, Query, Scan, Term, Write},
    version::{Expected, Version},
};

use super::{
    entity::{Entity, Standing, Stored},
    limits::{Limits, Usage},
    pending::{Change, Changes, Part, commit},
    resident::{Facts, Load},
    residents::{Found, Residents},
};
use crate::{archive::Vault, telemetry::MISSES};

/// What an entity takes in memory beside its key, its terms and its stored form.
const OVERHEAD: usize = 200;

/// Keeps entities of one type in a document store, and those in use in memory.
///
/// A save is durable when it returns, then it is in memory too; a read looks in memory first, and
/// takes no lock that all share. [Active](Standing::Active) entities stay in memory; the others are
/// a cache, within [`Limits`]: what is pushed out is read again, once for all who wait for it. It is
/// coherent as long as all writes to the collection go through one repository (its clones are the
/// same one), or through a [`UnitOfWork`](crate::UnitOfWork) that was told of it.
#[derive(Debug)]
pub struct Repository<E> {
    documents: Arc<dyn DocumentStore>,
    collection: Collection,
    residents: Arc<Residents<E>>,
    /// Where entities are that were archived.
    vault: Option<Arc<Vault>>,
}

impl<E> Clone for Repository<E> {
    fn clone(&self) -> Self {
        Self {
            documents: Arc::clone(&self.documents),
            collection: self.collection.clone(),
            residents: Arc::clone(&self.residents),
            vault: self.vault.clone(),
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
        Self::with_limits(documents, Limits::entries(in_memory))
    }

    /// Creates the repository of a collection with limits of its memory.
    ///
    /// # Errors
    ///
    /// As for [`Repository::new`].
    pub fn with_limits(documents: Arc<dyn DocumentStore>, limits: Limits) -> Result<Self> {
        let collection = Collection::new(E::COLLECTION)?;
        Ok(Self { documents, collection, residents: Arc::new(Residents::new(limits)), vault: None })
    }

    /// Reads entities that were archived from a vault.
    pub(crate) fn archived_in(mut self, vault: Arc<Vault>) -> Self {
        self.vault = Some(vault);
        self
    }

    pub(crate) const fn collection(&self) -> &Collection {
        &self.collection
    }

    pub(crate) const fn documents(&self) -> &Arc<dyn DocumentStore> {
        &self.documents
    }

    /// Returns an entity.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt), and what the store fails with; an outage is never `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect; another caller that waits for the same entity reads it.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Stored<E>>> {
        if let Some(stored) = self.residents.get(key) {
            return Ok(Some(stored));
        }
        // In a box, so that the future of a hit is small: it is moved on its way to be awaited.
        Box::pin(self.miss(Bytes::copy_from_slice(key))).await
    }

    /// Returns an entity that is not in memory, read once for all who wait for it.
    async fn miss(&self, key: Bytes) -> Result<Option<Stored<E>>> {
        let load = match self.residents.find(&key) {
            Found::Here(stored) => return Ok(Some(stored)),
            Found::Absent => return Ok(None),
            Found::Unknown(load) => load,
        };
        MISSES.add(1);
        let waiting = Waiting { residents: &self.residents, key: &key, load: &load };
        let loaded = waiting.load.get_or_try_init(|| self.load(&key)).await.cloned();
        drop(waiting);
        loaded
    }

    /// Reads an entity from the store, and keeps it in memory if nothing newer came meanwhile.
    async fn load(&self, key: &Bytes) -> Result<Option<Stored<E>>> {
        let changes = self.residents.changes(key);
        self.residents.tally.loads.fetch_add(1, Ordering::Relaxed);
        let Some(document) = self.documents.get(&self.collection, key).await? else {
            return Ok(self.residents.keep(key, None, changes));
        };
        let (stored, bytes) = self.open(&document).await?;
        let facts = facts(stored.entity.as_ref(), key, bytes)?;
        let resident = self.residents.keep(key, Some((stored.clone(), facts)), changes);
        Ok(Some(resident.unwrap_or(stored)))
    }

    /// Makes an entity of a document, from the archive if it is there; also returns its length.
    pub(crate) async fn open(&self, document: &Document) -> Result<(Stored<E>, usize)> {
        let version = document.version;
        if !Vault::is_stub(&document.payload) {
            let entity = Arc::new(E::decode(&document.payload)?);
            return Ok((Stored { entity, version }, document.payload.body.len()));
        }
        let Some(vault) = &self.vault else {
            let error = Error::new(ErrorKind::Unsupported, "read entity");
            return Err(error.detail("it is archived, and this repository has no archive"));
        };
        let payload = vault.fetch(&document.payload).await?;
        Ok((Stored { entity: Arc::new(E::decode(&payload)?), version }, payload.body.len()))
    }

    /// Saves an entity if what is stored is as expected, and returns its new version.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) if it is not as expected or a unique term belongs to
    /// another entity, [`Overloaded`](ErrorKind::Overloaded) if it is active and memory is full of
    /// active ones, and what the store fails with; nothing is stored then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the write go on in the background, and memory learn of its end.
    pub async fn save(&self, entity: E, expected: Expected) -> Result<Version> {
        let mut batch = Batch::new();
        let part = self.put(&mut batch, Arc::new(entity), expected).await?;
        let receipt = commit(&self.documents, batch, vec![part]).await?;
        let nothing = || Error::new(ErrorKind::Internal, "save entity");
        receipt.versions.into_iter().next().ok_or_else(nothing)
    }

    /// Adds a save to a batch, and takes room for it.
    pub(crate) async fn put(
        &self,
        batch: &mut Batch,
        entity: Arc<E>,
        expected: Expected,
    ) -> Result<Box<dyn Part>> {
        let write = self.write(&entity, expected)?;
        let (key, place) = (entity.key(), batch.writes.len());
        let length = match &write {
            Write::Put { payload, .. } => payload.body.len(),
            Write::Delete { .. } | Write::Check { .. } => 0,
        };
        let facts = facts(entity.as_ref(), &key, length)?;
        let room = if facts.standing == Standing::Active {
            Some(self.residents.admit(&key, facts.bytes).await?)
        } else {
            None
        };
        batch.writes.push(write);
        let change = Change { key, place, entity: Some((entity, facts)), room };
        Ok(self.part(vec![change]))
    }

    fn part(&self, changes: Vec<Change<E>>) -> Box<dyn Part> {
        Box::new(Changes { residents: Arc::clone(&self.residents), changes })
    }

    /// Adds a removal to a batch.
    pub(crate) fn delete(
        &self,
        batch: &mut Batch,
        key: Bytes,
        expected: Expected,
    ) -> Box<dyn Part> {
        let place = batch.writes.len();
        let collection = self.collection.clone();
        batch.writes.push(Write::Delete { collection, key: key.clone(), expected });
        self.part(vec![Change { key, place, entity: None, room: None }])
    }

    /// Returns the part of memory in changes of keys whose new values it does not know.
    pub(crate) fn touched(&self, batch: &Batch) -> Box<dyn Part> {
        let targets = batch.writes.iter().map(Write::target).enumerate();
        let own = targets.filter(|(_, (collection, _, _))| **collection == self.collection);
        let change = |(place, (_, key, _)): (usize, (&Collection, &Bytes, Expected))| Change {
            key: key.clone(),
            place,
            entity: None,
            room: None,
        };
        self.part(own.map(change).collect())
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
        let part = self.touched(&batch);
        let receipt = commit(&self.documents, batch, vec![part]).await?;
        Ok(receipt.versions)
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
        self.open_all(&found).await
    }

    async fn open_all(&self, found: &[Document]) -> Result<Vec<Stored<E>>> {
        let mut all = Vec::with_capacity(found.len());
        for document in found {
            // What is in memory in the same version need not be decoded again.
            match self.residents.peek(&document.key) {
                Some((stored, _)) if stored.version == document.version => all.push(stored),
                _ => all.push(self.open(document).await?.0),
            }
        }
        Ok(all)
    }

    /// Returns the one entity that has a value in a unique index; one that is in memory is found
    /// there, which counts as a use.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn find_unique(&self, index: &IndexName, value: &[u8]) -> Result<Option<Stored<E>>> {
        if let Some(stored) = self.resident(index.as_str(), value) {
            return Ok(Some(stored));
        }
        Box::pin(self.query_unique(index, value)).await
    }

    async fn query_unique(&self, index: &IndexName, value: &[u8]) -> Result<Option<Stored<E>>> {
        let query = Query::equal(index.clone(), Bytes::copy_from_slice(value), 1);
        let found = self.documents.query(&self.collection, query).await?;
        match found.first() {
            Some(document) => Ok(Some(self.open(document).await?.0)),
            None => Ok(None),
        }
    }

    /// Returns an entity in memory by a unique value, without waiting for anything.
    pub fn resident(&self, index: &str, value: &[u8]) -> Option<Stored<E>> {
        self.residents.get_unique(index, value)
    }

    /// Returns an entity in memory by its key, without waiting for anything; it counts as a use.
    pub fn resident_key(&self, key: &[u8]) -> Option<Stored<E>> {
        self.residents.get(key)
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
        self.open_all(&found).await
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

    /// Returns up to `limit` entities in memory that are not over, the most recently used first.
    /// A save, a read by key and a read by a unique value are uses; being listed is none.
    pub fn recent(&self, limit: usize) -> Vec<Stored<E>> {
        self.residents.recent(limit)
    }

    /// Returns how many entities are in memory.
    pub fn in_memory(&self) -> usize {
        self.usage().entries
    }

    /// Returns what is in memory and how it was used.
    pub fn usage(&self) -> Usage {
        self.residents.usage()
    }

    pub(crate) fn residents(&self) -> &Residents<E> {
        &self.residents
    }
}

/// A load that is waited for; it is forgotten when nobody waits for it any more.
struct Waiting<'a, E> {
    residents: &'a Residents<E>,
    key: &'a Bytes,
    load: &'a Load<E>,
}

impl<E> Drop for Waiting<'_, E> {
    fn drop(&mut self) {
        self.residents.loaded(self.key, self.load);
    }
}

fn facts<E: Entity>(entity: &E, key: &Bytes, length: usize) -> Result<Facts> {
    let all = entity.terms()?;
    let values: usize = all.iter().map(|term| term.value.len()).sum();
    let terms: Vec<Term> = all.into_iter().filter(|term| term.is_unique).collect();
    let bytes = OVERHEAD + key.len() + values + length;
    Ok(Facts { standing: entity.standing(), terms, bytes })
}

/// Returns a query for every value of an index, lowest first.
pub(super) fn all(index: IndexName, limit: usize) -> Query {
    Query { from: Bound::Unbounded, to: Bound::Unbounded, ..Query::equal(index, "", limit) }
}
