//! The unit of work: what is read and changed in it is judged and committed as one batch.

use std::{any::Any, collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    codec::Payload,
    id::Collection,
    lease::Fence,
    store::{Batch, DocumentStore, Receipt},
    version::{Expected, Version},
};

use super::outbox;
use crate::repository::{Entity, Part, Repository, Stored, commit};

type At = (Collection, Bytes);

/// A change of one entity that is to be committed.
#[async_trait]
trait Change: Send + Sync {
    /// Adds itself to a batch, and returns who is to be told of its end.
    async fn add(&self, batch: &mut Batch, expected: Expected) -> Result<Box<dyn Part>>;

    /// Returns the entity, unless it is removed.
    fn entity(&self) -> Option<Arc<dyn Any + Send + Sync>>;
}

struct Save<E>(Repository<E>, Arc<E>);

#[async_trait]
impl<E: Entity> Change for Save<E> {
    async fn add(&self, batch: &mut Batch, expected: Expected) -> Result<Box<dyn Part>> {
        self.0.put(batch, Arc::clone(&self.1), expected).await
    }

    fn entity(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let entity: Arc<E> = Arc::clone(&self.1);
        Some(entity)
    }
}

struct Remove<E>(Repository<E>, Bytes);

#[async_trait]
impl<E: Entity> Change for Remove<E> {
    async fn add(&self, batch: &mut Batch, expected: Expected) -> Result<Box<dyn Part>> {
        Ok(self.0.delete(batch, self.1.clone(), expected))
    }

    fn entity(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}

/// What is to be committed; cheap to clone.
#[derive(Clone, Default)]
struct Draft {
    changes: HashMap<At, Arc<dyn Change>>,
    /// The keys in the order of their first change.
    order: Vec<At>,
    messages: Vec<Payload>,
}

/// A state of a unit of work that it can go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint(usize);

/// Collects changes of several repositories over one store, and commits them as one.
///
/// **Isolation:** whatever the unit read must still be so when it commits, whether it changed it or
/// not; otherwise it is a conflict and nothing happens. So units that run at once come out as if they
/// had run one after the other. Nothing is seen by others before the commit; dropping the unit
/// discards it. Its parts are to be repositories over the store that it was made with.
///
/// ```
/// use std::sync::Arc;
/// use infra_core::{SystemClock, clock::Timestamp};
/// use infra_persistence::{RoomRecord, RoomStatus, Rooms, UnitOfWork};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let clock = SystemClock::shared();
/// let documents = Arc::new(infra_persistence::memory(Arc::clone(&clock))?);
/// let rooms = Rooms::new(documents.clone(), 100)?;
/// let room = |id: &str| RoomRecord {
///     id: id.into(), code: id.into(), status: RoomStatus::Open, players: vec![], active: Timestamp::EPOCH,
/// };
/// let mut unit = UnitOfWork::new(documents, clock);
/// unit.save(rooms.repository(), room("a"));
/// let point = unit.savepoint();
/// unit.save(rooms.repository(), room("b"));
/// unit.roll_back_to(point)?;
/// unit.commit().await?;
/// assert!(rooms.get("a").await?.is_some() && rooms.get("b").await?.is_none());
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
pub struct UnitOfWork {
    documents: Arc<dyn DocumentStore>,
    clock: Arc<dyn Clock>,
    draft: Draft,
    savepoints: Vec<Draft>,
    /// The version in which each key was read first.
    seen: HashMap<At, Version>,
    fence: Option<Fence>,
}

impl fmt::Debug for UnitOfWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (changes, seen) = (self.draft.order.len(), self.seen.len());
        f.debug_struct("UnitOfWork")
            .field("changes", &changes)
            .field("seen", &seen)
            .finish_non_exhaustive()
    }
}

impl UnitOfWork {
    /// Creates an empty unit over a store; messages are ordered by the time of `clock`.
    pub fn new(documents: Arc<dyn DocumentStore>, clock: Arc<dyn Clock>) -> Self {
        let (draft, savepoints, seen) = (Draft::default(), Vec::new(), HashMap::new());
        Self { documents, clock, draft, savepoints, seen, fence: None }
    }

    /// Runs work in units of its own until one is committed without a conflict, at most `tries`
    /// times, and returns what it came to. The work takes the unit and gives it back.
    ///
    /// # Errors
    ///
    /// What the work fails with, and the last conflict.
    ///
    /// # Cancel safety
    ///
    /// As for [`UnitOfWork::commit`].
    pub async fn run<T, F>(
        documents: &Arc<dyn DocumentStore>,
        clock: &Arc<dyn Clock>,
        tries: usize,
        work: impl Fn(Self) -> F + Send,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<(Self, T)>> + Send,
    {
        let mut attempt = 1;
        loop {
            let unit = Self::new(Arc::clone(documents), Arc::clone(clock));
            let (unit, made) = work(unit).await?;
            match unit.commit().await {
                Err(error)
                    if attempt < tries && matches!(error.kind(), ErrorKind::Conflict { .. }) =>
                {
                    attempt += 1;
                }
                said => return said.map(|_| made),
            }
        }
    }

    /// Carries a proof of ownership.
    #[must_use]
    pub fn fenced(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// Reads an entity as this unit has it, and remembers what it saw.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn get<E: Entity>(
        &mut self,
        repository: &Repository<E>,
        key: &[u8],
    ) -> Result<Option<Arc<E>>> {
        let at = (repository.collection().clone(), Bytes::copy_from_slice(key));
        if let Some(change) = self.draft.changes.get(&at) {
            let wrong = || Error::invalid("read in unit of work", "the key has another type");
            let entity = change.entity().map(Arc::downcast::<E>);
            return entity.transpose().map_err(|_| wrong());
        }
        let found: Option<Stored<E>> = repository.get(key).await?;
        let version = found.as_ref().map_or(Version::ZERO, |found| found.version);
        // The first sight counts: a second one that differs makes the commit a conflict.
        self.seen.entry(at).or_insert(version);
        Ok(found.map(|found| found.entity))
    }

    /// Saves an entity when the unit is committed.
    pub fn save<E: Entity>(&mut self, repository: &Repository<E>, entity: E) {
        let key = entity.key();
        self.change(repository, key, Arc::new(Save(repository.clone(), Arc::new(entity))));
    }

    /// Removes an entity when the unit is committed.
    pub fn remove<E: Entity>(&mut self, repository: &Repository<E>, key: &[u8]) {
        let key = Bytes::copy_from_slice(key);
        self.change(repository, key.clone(), Arc::new(Remove(repository.clone(), key)));
    }

    fn change<E: Entity>(&mut self, of: &Repository<E>, key: Bytes, change: Arc<dyn Change>) {
        let at = (of.collection().clone(), key);
        if self.draft.changes.insert(at.clone(), change).is_none() {
            self.draft.order.push(at);
        }
    }

    /// Writes a message to the [`Outbox`](super::Outbox) when the unit is committed.
    pub fn tell(&mut self, message: Payload) {
        self.draft.messages.push(message);
    }

    /// Marks the present state.
    pub fn savepoint(&mut self) -> Savepoint {
        self.savepoints.push(self.draft.clone());
        Savepoint(self.savepoints.len() - 1)
    }

    /// Goes back to a savepoint, which stays; later ones are gone.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for a savepoint that is gone.
    pub fn roll_back_to(&mut self, point: Savepoint) -> Result<()> {
        let draft = self.savepoints.get(point.0).cloned();
        let gone = || Error::invalid("roll back", "the savepoint is gone");
        self.draft = draft.ok_or_else(gone)?;
        self.savepoints.truncate(point.0 + 1);
        Ok(())
    }

    /// Commits everything, or nothing.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) if something that the unit read has changed or a unique
    /// value is taken; [`Overloaded`](ErrorKind::Overloaded) if memory has no room for active
    /// entities; and what the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the batch is on its way commits nothing; later it goes on in the
    /// background.
    #[tracing::instrument(
        name = "commit unit of work",
        level = "debug",
        skip_all,
        fields(changes = self.draft.order.len(), messages = self.draft.messages.len())
    )]
    pub async fn commit(self) -> Result<Receipt> {
        let mut batch = Batch { fence: self.fence, ..Batch::new() };
        let mut parts = Vec::with_capacity(self.draft.order.len());
        let expected = |at: &At| match self.seen.get(at) {
            None => Expected::Any,
            Some(&Version::ZERO) => Expected::Absent,
            Some(version) => Expected::Exactly(*version),
        };
        for at in &self.draft.order {
            let Some(change) = self.draft.changes.get(at) else { continue };
            parts.push(change.add(&mut batch, expected(at)).await?);
        }
        let read = self.seen.keys().filter(|at| !self.draft.changes.contains_key(*at));
        for at in read {
            batch = batch.check(at.0.clone(), at.1.clone(), expected(at));
        }
        let (outbox, messages) = (outbox::collection()?, self.draft.messages);
        let ids = outbox::ids(self.clock.wall(), messages.len());
        for (id, message) in ids.zip(messages) {
            batch = batch.put(outbox.clone(), id, Expected::Absent, message);
        }
        commit(&self.documents, batch, parts).await
    }
}
