//! The projector: reads events, folds them, and commits views and checkpoint in one batch.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    backoff::Backoff,
    event::{EventStore, RecordedEvent},
    id::Collection,
    lifecycle::Stop,
    store::{Batch, DocumentStore, Scan},
    version::{Expected, Position, Version},
};
use tokio::sync::{Mutex, watch};

use super::{
    Parked, Projection, Status,
    fold::{self, Slot, Slots},
    layout::{self, Checkpoint, Stored, StoredParked},
};
use crate::{memory, telemetry::ParkedShare};

/// The most parked keys that a status names.
const MAX_PARKED: usize = 1_000;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more to read.
    More,
    /// Everything that can be read is in the views.
    CaughtUp,
}

/// Keeps the views of a projection in a document store. Cheap to share as an `Arc`.
///
/// Views and checkpoint are one batch, whose checkpoint must be the one that was read: so two
/// processes with the same projection do not disturb each other, and a crash at any point leaves
/// the views as they were before or after a batch.
#[derive(Debug)]
pub struct Projector<P: Projection> {
    pub(super) projection: Arc<P>,
    pub(super) events: Arc<dyn EventStore>,
    pub(super) documents: Arc<dyn DocumentStore>,
    pub(super) collection: Collection,
    page: usize,
    workers: usize,
    poll: Duration,
    /// The checkpoint as it was read or written last; the lock is held over a step.
    pub(super) known: Mutex<Option<Known>>,
    position: watch::Sender<Position>,
    parked: ParkedShare,
}

/// A checkpoint and its document's version.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) checkpoint: Checkpoint,
    pub(super) version: Version,
}

impl Known {
    pub(super) const fn expected(&self) -> Expected {
        if self.version.get() == 0 { Expected::Absent } else { Expected::Exactly(self.version) }
    }
}

impl<P: Projection> Projector<P> {
    /// Creates a projector whose documents stand in the collection `projections`.
    ///
    /// It reads pages of 256 events, folds them in 4 tasks, and looks for new ones each second
    /// when nothing wakes it.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for a name with a `/`.
    pub fn new(
        projection: P,
        events: Arc<dyn EventStore>,
        documents: Arc<dyn DocumentStore>,
    ) -> Result<Self> {
        layout::check_name(projection.name())?;
        Ok(Self {
            projection: Arc::new(projection),
            events,
            documents,
            collection: Collection::new("projections")?,
            page: 256,
            workers: 4,
            poll: Duration::from_secs(1),
            known: Mutex::new(None),
            position: watch::channel(Position::ZERO).0,
            parked: ParkedShare::default(),
        })
    }

    /// Sets the collection of its documents; `projections` by default.
    #[must_use]
    pub fn collection(mut self, collection: Collection) -> Self {
        self.collection = collection;
        self
    }

    /// Sets how many events a batch holds at most; 256 by default.
    #[must_use]
    pub fn page(mut self, events: usize) -> Self {
        self.page = events.max(1);
        self
    }

    /// Sets in how many tasks keys are folded; 4 by default.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Sets how often it looks for new events when nothing wakes it; each second by default.
    #[must_use]
    pub const fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll = interval;
        self
    }

    /// Returns the projection's name.
    pub fn name(&self) -> &str {
        self.projection.name()
    }

    /// Reads one page and commits what it makes of it.
    ///
    /// # Errors
    ///
    /// What the stores fail with; [`Conflict`](ErrorKind::Conflict) if another process was faster:
    /// the next step goes on from there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the page committed or not.
    #[tracing::instrument(level = "debug", skip_all, fields(projection = self.name()))]
    pub async fn step(&self) -> Result<Progress> {
        let mut known = self.known.lock().await;
        let current = match known.take() {
            Some(current) => current,
            None => self.load().await?,
        };
        let generation = current.checkpoint.generation;
        let (next, progress) = self.advance(current, generation).await?;
        self.position.send_replace(next.checkpoint.position);
        *known = Some(next);
        Ok(progress)
    }

    /// Reads the checkpoint.
    pub(super) async fn load(&self) -> Result<Known> {
        let key = layout::checkpoint_key(self.name());
        let Some(document) = self.documents.get(&self.collection, &key).await? else {
            return Ok(Known::default());
        };
        Ok(Known { checkpoint: document.decode()?, version: document.version })
    }

    /// Brings a generation one page further.
    pub(super) async fn advance(
        &self,
        mut known: Known,
        generation: u64,
    ) -> Result<(Known, Progress)> {
        let after = known.checkpoint.position_of(generation);
        let page = self.events.read_all(after, &self.projection.filter(), self.page).await?;
        let progress = if page.is_end { Progress::CaughtUp } else { Progress::More };
        if page.read_to <= after {
            return Ok((known, progress));
        }
        let events: Vec<_> = page.events.into_iter().map(Arc::new).collect();
        let batch = self.fold(generation, &events).await?;
        known.checkpoint.advance(generation, page.read_to);
        Ok((self.commit(batch, known).await?, progress))
    }

    /// Commits a batch together with the checkpoint.
    pub(super) async fn commit(&self, batch: Batch, mut known: Known) -> Result<Known> {
        let key = layout::checkpoint_key(self.name());
        let payload = layout::encode(&known.checkpoint)?;
        let place = batch.writes.len();
        let batch = batch.put(self.collection.clone(), key, known.expected(), payload);
        let receipt = self.documents.commit(batch).await?;
        known.version = receipt.versions.get(place).copied().unwrap_or_default();
        Ok(known)
    }

    /// Folds events and returns the writes of what changed.
    async fn fold(&self, generation: u64, events: &[Arc<RecordedEvent>]) -> Result<Batch> {
        let groups = fold::by_key(self.projection.as_ref(), events);
        let keys: Vec<String> = groups.keys().cloned().collect();
        let (slots, versions) = self.slots(generation, &keys).await?;
        let folded = fold::fold_all(&self.projection, slots, groups, self.workers).await?;
        let mut batch = Batch::new();
        for (key, slot) in &folded {
            batch = self.write(batch, (generation, key), slot, versions.get(key))?;
        }
        Ok(batch)
    }

    /// Reads the slots of keys, and the versions of their documents.
    async fn slots(
        &self,
        generation: u64,
        keys: &[String],
    ) -> Result<(Slots<P::View>, BTreeMap<String, Versions>)> {
        let name = self.name();
        let of_views: Vec<Bytes> =
            keys.iter().map(|key| layout::view_key(name, generation, key)).collect();
        let of_parked: Vec<Bytes> =
            keys.iter().map(|key| layout::parked_key(name, generation, key)).collect();
        let views = self.documents.get_many(&self.collection, &of_views).await?;
        let parked = self.documents.get_many(&self.collection, &of_parked).await?;
        let (mut slots, mut versions) = (Slots::new(), BTreeMap::new());
        for ((key, view), parked) in keys.iter().zip(views).zip(parked) {
            let mut slot = Slot::default();
            let mut version = Versions::default();
            if let Some(document) = view {
                let stored: Stored<P::View> = document.decode()?;
                (slot.view, slot.position, slot.seen) =
                    (stored.view, stored.position, stored.position);
                version.view = document.version;
            }
            if let Some(document) = parked {
                let stored: StoredParked = document.decode()?;
                (slot.parked, slot.seen) = (Some(stored.parked), stored.seen);
                version.parked = document.version;
            }
            slots.insert(key.clone(), slot);
            versions.insert(key.clone(), version);
        }
        Ok((slots, versions))
    }

    fn write(
        &self,
        mut batch: Batch,
        (generation, key): (u64, &str),
        slot: &Slot<P::View>,
        versions: Option<&Versions>,
    ) -> Result<Batch> {
        let name = self.name();
        let versions = versions.copied().unwrap_or_default();
        if Position::ZERO < slot.position {
            let stored = Stored { position: slot.position, view: &slot.view };
            let (at, payload) = (layout::view_key(name, generation, key), layout::encode(&stored)?);
            batch = batch.put(self.collection.clone(), at, expected(versions.view), payload);
        }
        let at = layout::parked_key(name, generation, key);
        if let Some(parked) = &slot.parked {
            let stored = StoredParked { parked: parked.clone(), seen: slot.seen };
            let payload = layout::encode(&stored)?;
            batch = batch.put(self.collection.clone(), at, expected(versions.parked), payload);
        } else if Version::ZERO < versions.parked {
            batch = batch.delete(self.collection.clone(), at, expected(versions.parked));
        }
        Ok(batch)
    }

    /// Returns a view of the active generation, or `None` if no event has touched its key.
    ///
    /// # Errors
    ///
    /// What the document store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn view(&self, key: &str) -> Result<Option<P::View>> {
        let generation = self.load().await?.checkpoint.generation;
        let at = layout::view_key(self.name(), generation, key);
        let Some(document) = self.documents.get(&self.collection, &at).await? else {
            return Ok(None);
        };
        Ok(Some(document.decode::<Stored<P::View>>()?.view))
    }

    /// Returns up to `limit` views of the active generation whose keys come after `after`.
    ///
    /// # Errors
    ///
    /// What the document store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn views(&self, after: &str, limit: usize) -> Result<Vec<(String, P::View)>> {
        let generation = self.load().await?.checkpoint.generation;
        let prefix = layout::views(self.name(), generation);
        let mut scan = Scan::prefix(prefix.clone(), limit);
        if !after.is_empty() {
            scan.after = Some(Bytes::from(prefix.clone() + after));
        }
        let mut views = Vec::new();
        for document in self.documents.scan(&self.collection, scan).await? {
            let key = String::from_utf8_lossy(&document.key);
            let key = key.strip_prefix(&prefix).unwrap_or_default().to_owned();
            views.push((key, document.decode::<Stored<P::View>>()?.view));
        }
        Ok(views)
    }

    /// Applies the events again that wait behind a parked key, and releases it if they all fit.
    ///
    /// Returns whether the key is free now; a key that was not parked is.
    ///
    /// # Errors
    ///
    /// What the stores fail with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the key parked or released.
    pub async fn retry(&self, key: &str) -> Result<bool> {
        let mut known = self.known.lock().await;
        let current = self.load().await?;
        let generation = current.checkpoint.generation;
        let (mut slots, versions) = self.slots(generation, &[key.to_owned()]).await?;
        let mut slot = slots.remove(key).unwrap_or_default();
        let Some(_parked) = slot.parked.take() else { return Ok(true) };
        slot.seen = slot.position;
        let (mut after, filter) = (slot.position, self.projection.filter());
        while after < current.checkpoint.position {
            let page = self.events.read_all(after, &filter, self.page).await?;
            let within = |event: &RecordedEvent| event.position <= current.checkpoint.position;
            let events = page.events.into_iter().filter(within).map(Arc::new);
            let events: Vec<_> = events.collect();
            if let Some(events) = fold::by_key(self.projection.as_ref(), &events).get(key) {
                fold::fold(self.projection.as_ref(), key, &mut slot, events);
            }
            after = page.read_to;
            if page.is_end {
                break;
            }
        }
        let is_free = slot.parked.is_none();
        let batch = self.write(Batch::new(), (generation, key), &slot, versions.get(key))?;
        *known = Some(self.commit(batch, current).await?);
        Ok(is_free)
    }

    /// Returns position, lag, parked keys and rebuild in one look.
    ///
    /// # Errors
    ///
    /// What the stores fail with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn status(&self) -> Result<Status> {
        let checkpoint = self.load().await?.checkpoint;
        let prefix = layout::parked(self.name(), checkpoint.generation);
        let scan = Scan::prefix(prefix, MAX_PARKED);
        let found = self.documents.scan(&self.collection, scan).await?;
        let parked = found.iter().map(|document| Ok(document.decode::<StoredParked>()?.parked));
        let parked = parked.collect::<Result<Vec<Parked>>>()?;
        self.parked.set(parked.len());
        Ok(Status {
            name: self.name().to_owned(),
            position: checkpoint.position,
            head: self.events.stable_head().await?,
            parked,
            rebuilt_to: checkpoint.rebuilding.map(|(_, position)| position),
            generation: checkpoint.generation,
        })
    }

    /// Waits until the events up to `position` are in the views; somebody has to run it.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) after `patience`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        memory::wait_for(self.position.subscribe(), position, patience).await
    }

    /// Steps until everything that can be read is in the views.
    ///
    /// # Errors
    ///
    /// As for [`Projector::step`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves whole pages committed.
    pub async fn catch_up(&self) -> Result<()> {
        while self.step().await? == Progress::More {}
        Ok(())
    }

    /// Follows the events until it is told to stop; outages are waited out, and a rebuild that is
    /// under way goes on.
    ///
    /// # Errors
    ///
    /// An error that does not pass by itself, such as a corrupt event.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves whole pages committed.
    pub async fn run(&self, stop: Stop) -> Result<()> {
        let backoff =
            Backoff::exponential(Duration::from_millis(50)).capped_at(Duration::from_secs(10));
        let mut failures = 0;
        while !stop.is_requested() {
            let pause = match self.turn().await {
                Ok(Progress::More) => {
                    failures = 0;
                    continue;
                }
                Ok(Progress::CaughtUp) => {
                    failures = 0;
                    None
                }
                Err(error) if passes(&error) => {
                    failures += 1;
                    tracing::warn!(
                        projection = self.name(),
                        error = &error as &dyn std::error::Error,
                        "projection is tried again"
                    );
                    Some(backoff.pause_before(failures))
                }
                Err(error) => return Err(error),
            };
            tokio::select! {
                () = stop.requested() => {}
                () = self.idle(pause) => {}
            }
        }
        Ok(())
    }

    /// Takes one step of the views that are served, and one of those that are rebuilt.
    async fn turn(&self) -> Result<Progress> {
        let progress = self.step().await?;
        Ok(match self.step_rebuild().await? {
            Progress::More => Progress::More,
            Progress::CaughtUp => progress,
        })
    }

    /// Waits for a pause, or for the next event.
    async fn idle(&self, pause: Option<Duration>) {
        if let Some(pause) = pause {
            return tokio::time::sleep(pause).await;
        }
        let next = self.position.borrow().next();
        if let Err(error) = self.events.wait_for(next, self.poll).await
            && *error.kind() != ErrorKind::Timeout
        {
            tokio::time::sleep(self.poll).await;
        }
    }
}

/// Returns whether an error is no reason to give up.
fn passes(error: &Error) -> bool {
    error.is_transient()
        || matches!(error.kind(), ErrorKind::Conflict { .. } | ErrorKind::Indeterminate)
}

const fn expected(version: Version) -> Expected {
    if version.get() == 0 { Expected::Absent } else { Expected::Exactly(version) }
}

/// The versions of a key's documents; zero for one that is not there.
#[derive(Debug, Clone, Copy, Default)]
struct Versions {
    view: Version,
    parked: Version,
}
