//! The repository whose completed entities go to the archive.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use bytes::Bytes;
use infra_core::{
    Clock as _, Error, ErrorKind, Result,
    clock::Timestamp,
    codec::Payload,
    id::{Collection, IndexName},
    store::{Batch, Document, DocumentStore, Receipt, Scan, Term, Write, ordered},
    version::{Expected, Version},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{
    options::HybridOptions,
    schedule::{Priority, Schedule, Ticket},
    service::Archivist,
};
use crate::{
    archive::Vault,
    repository::{Entity, Part, Repository, Standing, Stored, Usage, commit},
    telemetry::WAITING,
};

/// How often a removal meets a change of the same entity and looks again.
const TRIES: usize = 64;

/// Over how many gates keys are spread.
const GATES: u64 = 64;

/// How many rows are read at a time.
pub(super) const PAGE: usize = 500;

/// Keeps entities in memory and in a document store while they live, and in an archive when they are
/// over; they are found alike. Cheap to clone.
///
/// What is handed over is written down in an outbox, in the same commit as the entity, so that a stop
/// or a crash loses no hand-over. An entity leaves the document store only in the commit that puts
/// the name of its object in its place, and only in the version that was archived.
pub struct Hybrid<E>(pub(super) Arc<Inner<E>>);

impl<E> Clone for Hybrid<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
pub(super) struct Inner<E> {
    pub(super) repository: Repository<E>,
    pub(super) vault: Arc<Vault>,
    pub(super) options: HybridOptions,
    pub(super) outbox: Collection,
    pub(super) dead: Collection,
    pub(super) indexes: Indexes,
    pub(super) schedule: Arc<Mutex<Schedule>>,
    pub(super) wake: Arc<Notify>,
    pub(super) gates: Gates,
}

/// Orders removals and hand-overs of one key. A key that is removed and saved again begins with the
/// first version again, so a version alone does not tell a hand-over that its entity is another one.
#[derive(Debug)]
pub(super) struct Gates {
    hasher: RandomState,
    gates: Vec<Gate>,
}

type Gate = tokio::sync::Mutex<()>;

impl Gates {
    fn new() -> Self {
        Self { hasher: RandomState::new(), gates: (0..GATES).map(|_| Gate::default()).collect() }
    }

    /// Waits for the turn of a key; it is held over one read or commit of the store.
    #[expect(clippy::indexing_slicing, reason = "a remainder is below the length")]
    pub(super) async fn enter(&self, key: &Bytes) -> tokio::sync::MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(key);
        self.gates[usize::try_from(hash % GATES).unwrap_or(0)].lock().await
    }
}

/// The indexes that are ours.
#[derive(Debug, Clone)]
pub(super) struct Indexes {
    /// Entities that are not active, by their last save.
    pub(super) kept: IndexName,
    /// Archived ones, by the time of archiving.
    pub(super) archived: IndexName,
    /// Archived ones, by tag and time.
    pub(super) tag: IndexName,
}

/// A hand-over that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The entity's key.
    #[serde(skip)]
    pub key: Bytes,
    /// Which version of it.
    pub version: Version,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last attempt failed with.
    pub reason: String,
    /// When it was given up.
    pub given_up: Timestamp,
}

pub(super) fn by_time(time: Timestamp) -> Bytes {
    ordered(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// Tells the schedule of a ticket when the commit that writes it down has ended.
struct Ticketing {
    schedule: Arc<Mutex<Schedule>>,
    wake: Arc<Notify>,
    key: Bytes,
    ticket: Option<Ticket>,
}

impl Part for Ticketing {
    fn begin(&self) {}

    fn end(self: Box<Self>, receipt: Option<&Receipt>) {
        if receipt.is_none() {
            return;
        }
        let waiting = {
            let mut schedule = self.schedule.lock();
            match self.ticket {
                Some(ticket) => schedule.insert(self.key, ticket),
                None => schedule.remove(&self.key),
            }
            schedule.len()
        };
        told(waiting);
        self.wake.notify_one();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge need not be exact")]
pub(super) fn told(waiting: usize) {
    WAITING.set(waiting as f64);
}

impl<E> fmt::Debug for Hybrid<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.0.schedule.lock().len();
        f.debug_struct("Hybrid").field("waiting", &waiting).finish_non_exhaustive()
    }
}

impl<E: Entity> Hybrid<E> {
    /// Opens the repository of a collection; what waited for the archive waits again. Run the
    /// service that comes with it; without it nothing is archived.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for options that contradict themselves, and what the store
    /// fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn open(
        documents: Arc<dyn DocumentStore>,
        vault: Vault,
        options: HybridOptions,
    ) -> Result<(Self, Archivist<E>)> {
        options.check()?;
        let vault = Arc::new(vault);
        let repository = Repository::with_limits(documents, options.limits.clone())?
            .archived_in(Arc::clone(&vault));
        let name = |suffix: &str| Collection::new(format!("{}.{suffix}", E::COLLECTION));
        let index = |name: &str| IndexName::new(format!("archive:{name}"));
        let hybrid = Self(Arc::new(Inner {
            repository,
            vault,
            outbox: name("outbox")?,
            dead: name("dead")?,
            indexes: Indexes { kept: index("kept")?, archived: index("at")?, tag: index("tag")? },
            schedule: Arc::new(Mutex::new(Schedule::new(options.ageing))),
            wake: Arc::new(Notify::new()),
            gates: Gates::new(),
            options,
        }));
        hybrid.0.recall().await?;
        let archivist = Archivist::new(Arc::clone(&hybrid.0));
        Ok((hybrid, archivist))
    }

    /// Returns an entity, from memory, from the store or from the archive.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`], and [`Corrupt`](ErrorKind::Corrupt) for an archived one that is
    /// missing or fails its digest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Stored<E>>> {
        self.0.repository.get(key).await
    }

    /// Saves an entity if what is stored is as expected; a completed one is handed over to the
    /// archive, in the same commit. Saving an archived one brings it back; archiving it made its
    /// version one higher.
    ///
    /// # Errors
    ///
    /// As for [`Repository::save`], and [`Overloaded`](ErrorKind::Overloaded) if too many hand-overs
    /// wait; nothing is stored then.
    ///
    /// # Cancel safety
    ///
    /// As for [`Repository::save`].
    pub async fn save(&self, entity: E, expected: Expected) -> Result<Version> {
        let inner = &self.0;
        let (key, standing, now) = (entity.key(), entity.standing(), inner.options.clock.wall());
        let after = inner.options.completed.filter(|_| standing == Standing::Completed);
        let ticket = after.map(|after| Ticket {
            priority: Priority::Normal,
            submitted: now,
            due: now.plus(after),
            attempts: 0,
            number: 0,
        });
        let mut batch = Batch::new();
        let mut parts = vec![inner.repository.put(&mut batch, Arc::new(entity), expected).await?];
        if standing != Standing::Active
            && let Some(Write::Put { terms, .. }) = batch.writes.last_mut()
        {
            terms.push(Term::new(inner.indexes.kept.clone(), by_time(now)));
        }
        if let Some(ticket) = &ticket {
            inner.check_queue(&key, ticket.priority)?;
            batch = batch.put(inner.outbox.clone(), key.clone(), Expected::Any, row(ticket)?);
        } else if inner.schedule.lock().has(&key) {
            batch = batch.delete(inner.outbox.clone(), key.clone(), Expected::Any);
        }
        parts.push(inner.ticketing(key, ticket));
        let receipt = commit(inner.repository.documents(), batch, parts).await?;
        let nothing = || Error::new(ErrorKind::Internal, "save entity");
        receipt.versions.into_iter().next().ok_or_else(nothing)
    }

    /// Removes an entity, wherever it is; a hand-over that waits does not bring it back.
    ///
    /// # Errors
    ///
    /// As for [`Repository::save`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the entity there or not; an object of it that is left then is
    /// found by [`reconcile`](Self::reconcile).
    pub async fn remove(&self, key: &[u8], expected: Expected) -> Result<()> {
        let inner = &self.0;
        let key = Bytes::copy_from_slice(key);
        for _ in 0..TRIES {
            let found = inner.document(&key).await?;
            let actual = found.as_ref().map_or(Version::ZERO, |found| found.version);
            if !expected.admits(actual) {
                return Err(Error::conflict("remove entity", expected, actual));
            }
            let Some(found) = found else { return Ok(()) };
            let batch = Batch::new()
                .delete(inner.collection().clone(), key.clone(), Expected::Exactly(actual))
                .delete(inner.outbox.clone(), key.clone(), Expected::Any)
                .delete(inner.dead.clone(), key.clone(), Expected::Any);
            match inner.commit_removal(&key, batch).await {
                Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {}
                Err(error) => return Err(error),
                Ok(_) if Vault::is_stub(&found.payload) => {
                    let stub = Vault::read_stub(&found.payload)?;
                    return inner.vault.delete(&stub.object).await;
                }
                Ok(_) => return Ok(()),
            }
        }
        Err(Error::new(ErrorKind::Overloaded, "remove entity"))
    }

    /// Hands an entity over now, with a priority.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound), [`Invalid`](ErrorKind::Invalid) for an active one,
    /// [`Overloaded`](ErrorKind::Overloaded) if too many wait.
    ///
    /// # Cancel safety
    ///
    /// As for [`Repository::save`].
    pub async fn archive(&self, key: &[u8], priority: Priority) -> Result<()> {
        const ARCHIVE: &str = "archive entity";
        let key = Bytes::copy_from_slice(key);
        let found = self.0.document(&key).await?;
        let found = found.ok_or_else(|| Error::new(ErrorKind::NotFound, ARCHIVE))?;
        if Vault::is_stub(&found.payload) {
            return Ok(());
        }
        if E::decode(&found.payload)?.standing() == Standing::Active {
            return Err(Error::invalid(ARCHIVE, "it is active"));
        }
        self.0.submit(&found, priority).await
    }

    /// Brings an archived entity back from the archive, and returns its new version. It stays until
    /// it is archived again, by its next save or by hand.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound), [`Corrupt`](ErrorKind::Corrupt) for a damaged object, and
    /// a conflict with a change that came at the same time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it archived or not.
    pub async fn restore(&self, key: &[u8]) -> Result<Version> {
        const RESTORE: &str = "restore entity";
        let inner = &self.0;
        let found = inner.document(&Bytes::copy_from_slice(key)).await?;
        let found = found.ok_or_else(|| Error::new(ErrorKind::NotFound, RESTORE))?;
        if !Vault::is_stub(&found.payload) {
            return Ok(found.version);
        }
        let payload = inner.vault.fetch(&found.payload).await?;
        let entity = E::decode(&payload)?;
        let mut terms = entity.terms()?;
        let now = inner.options.clock.wall();
        terms.push(Term::new(inner.indexes.kept.clone(), by_time(now)));
        let batch = Batch::new().write(Write::Put {
            collection: inner.collection().clone(),
            key: found.key.clone(),
            expected: Expected::Exactly(found.version),
            payload,
            terms,
        });
        let receipt = inner.commit(batch, inner.ticketing(found.key.clone(), None)).await?;
        inner.vault.delete(&Vault::read_stub(&found.payload)?.object).await?;
        Ok(receipt.versions.into_iter().next().unwrap_or(found.version.next()))
    }

    /// Returns up to `limit` hand-overs that were given up, after a key.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn dead_letters(
        &self,
        after: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>> {
        let scan = Scan { after, ..Scan::prefix("", limit) };
        let found = self.0.documents().scan(&self.0.dead, scan).await?;
        let letter = |found: &Document| {
            let letter: DeadLetter = found.decode()?;
            Ok(DeadLetter { key: found.key.clone(), ..letter })
        };
        found.iter().map(letter).collect()
    }

    /// Returns how many hand-overs wait.
    pub fn waiting(&self) -> usize {
        self.0.schedule.lock().len()
    }

    /// Returns what is in memory and how it was used.
    pub fn usage(&self) -> Usage {
        self.0.repository.usage()
    }

    /// Returns the repository below: for queries, lists and counts. Save and remove here.
    pub fn repository(&self) -> &Repository<E> {
        &self.0.repository
    }
}

pub(super) fn row(ticket: &Ticket) -> Result<Payload> {
    Payload::json(1, ticket)
}

impl<E: Entity> Inner<E> {
    pub(super) fn documents(&self) -> &Arc<dyn DocumentStore> {
        self.repository.documents()
    }

    pub(super) fn collection(&self) -> &Collection {
        self.repository.collection()
    }

    pub(super) async fn document(&self, key: &Bytes) -> Result<Option<Document>> {
        self.documents().get(self.collection(), key).await
    }

    pub(super) fn ticketing(&self, key: Bytes, ticket: Option<Ticket>) -> Box<dyn Part> {
        let (schedule, wake) = (Arc::clone(&self.schedule), Arc::clone(&self.wake));
        Box::new(Ticketing { schedule, wake, key, ticket })
    }

    /// Commits changes of which memory knows no value.
    pub(super) async fn commit(&self, batch: Batch, ticketing: Box<dyn Part>) -> Result<Receipt> {
        let parts = vec![self.repository.touched(&batch), ticketing];
        commit(self.documents(), batch, parts).await
    }

    /// Commits a removal, after which no hand-over that is under way can put back what it has read.
    async fn commit_removal(&self, key: &Bytes, batch: Batch) -> Result<Receipt> {
        let _turn = self.gates.enter(key).await;
        self.schedule.lock().overtake(key);
        self.commit(batch, self.ticketing(key.clone(), None)).await
    }

    pub(super) fn check_queue(&self, key: &Bytes, priority: Priority) -> Result<()> {
        let schedule = self.schedule.lock();
        let waiting = schedule.len_of(priority);
        if schedule.has(key) || waiting < self.options.queue {
            return Ok(());
        }
        let detail = format!("{waiting} hand-overs of priority {priority:?} wait for the archive");
        Err(Error::new(ErrorKind::Overloaded, "hand over entity").detail(detail))
    }

    /// Writes a hand-over down, if the entity is still the one that was seen.
    pub(super) async fn submit(&self, seen: &Document, priority: Priority) -> Result<()> {
        self.check_queue(&seen.key, priority)?;
        let now = self.options.clock.wall();
        let ticket = Ticket { priority, submitted: now, due: now, attempts: 0, number: 0 };
        let batch = Batch::new()
            .check(self.collection().clone(), seen.key.clone(), Expected::Exactly(seen.version))
            .delete(self.dead.clone(), seen.key.clone(), Expected::Any)
            .put(self.outbox.clone(), seen.key.clone(), Expected::Any, row(&ticket)?);
        let parts = vec![self.ticketing(seen.key.clone(), Some(ticket))];
        commit(self.documents(), batch, parts).await.map(|_| ())
    }

    /// Takes rows of the outbox into the schedule that it does not know.
    pub(super) async fn recall(&self) -> Result<()> {
        let mut scan = Scan::prefix("", PAGE);
        loop {
            let rows = self.documents().scan(&self.outbox, scan.clone()).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            scan.after = Some(last.key.clone());
            for row in &rows {
                let ticket = row.decode()?;
                let mut schedule = self.schedule.lock();
                if !schedule.has(&row.key) {
                    schedule.insert(row.key.clone(), ticket);
                }
            }
        }
    }
}
