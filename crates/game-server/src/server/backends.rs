//! The stores that the settings chose.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use infra_core::{
    Clock, Result, archive::ArchiveStore, cache::Cache, event::EventStore, health::HealthCheck,
    pubsub::PubSub, store::DocumentStore,
};
use infra_events::{LogEventStore, MemoryEventStore, Mode};
use infra_messaging::MemoryPubSub;
use infra_persistence::{Archive, Documents};
use tokio::sync::{OnceCell, watch};

#[cfg(feature = "postgres")]
use super::tenure::Tenure;
use super::{forgetting::Memory, guarded::Guarded};
use crate::{
    config::{Backend, Recovery, Settings},
    people::{DocumentVault, FolderVault, People, Vault},
};

/// How many messages of the bus may wait for a subscriber.
const MAILBOX: usize = 256;

/// How many connections read events, one of which listens: rooms that come back read at the same time.
#[cfg(feature = "postgres")]
const EVENT_READERS: u32 = 17;

/// What all keys of the cache begin with.
#[cfg(feature = "redis")]
const CACHE_PREFIX: &str = "game-server";

/// The stores of a server.
#[derive(Debug, Clone)]
pub struct Backends {
    /// Where rooms are recorded.
    pub events: Arc<dyn EventStore>,
    /// Where everything else is kept.
    pub documents: Arc<dyn DocumentStore>,
    /// Where finished games are kept.
    pub archive: Arc<dyn ArchiveStore>,
    /// Who is told what has changed.
    pub bus: Arc<dyn PubSub>,
    /// What servers have read for each other; none if each keeps its own.
    pub cache: Option<Arc<dyn Cache>>,
    /// What is to be watched of them.
    pub checks: Vec<Arc<dyn HealthCheck>>,
    /// The folder of people's keys; without one they are documents.
    keys: Option<PathBuf>,
    people: Arc<OnceCell<People>>,
    /// Whether another process has served the same database since.
    is_lost: Option<watch::Receiver<bool>>,
    /// What has to be closed, in this order.
    open: Vec<Arc<dyn Closing>>,
}

/// A store that has something to finish at its end.
#[async_trait]
trait Closing: fmt::Debug + Send + Sync {
    async fn close(&self);
}

macro_rules! closing {
    ($($store:ty),*) => {$(
        #[async_trait]
        impl Closing for $store {
            async fn close(&self) {
                <$store>::close(self).await;
            }
        }
    )*};
}

closing!(LogEventStore, Documents);
#[cfg(feature = "postgres")]
closing!(infra_events::PostgresEventStore, infra_persistence::PostgresDocuments, Tenure);

/// A store that was opened, and what belongs to it.
struct Opened<S: ?Sized> {
    store: Arc<S>,
    check: Option<Arc<dyn HealthCheck>>,
    closing: Option<Arc<dyn Closing>>,
}

impl<S: ?Sized> Opened<S> {
    /// Returns a store, given also as what is watched and closed.
    fn of(store: Arc<S>, same: &Arc<impl HealthCheck + Closing + 'static>) -> Self {
        Self { store, check: Some(Arc::clone(same) as _), closing: Some(Arc::clone(same) as _) }
    }
}

impl Backends {
    /// Opens the stores that `settings` name.
    ///
    /// # Errors
    ///
    /// What opening them fails with: a folder held by another process, damage, a failing disk.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub async fn open(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Self> {
        #[cfg(feature = "postgres")]
        let tenure = tenure(settings).await?;
        let opened = Box::pin(Self::open_all(settings, clock)).await;
        #[cfg(feature = "postgres")]
        if let Some(tenure) = tenure {
            let Ok(mut backends) = opened else {
                tenure.close().await;
                return opened;
            };
            backends.is_lost = Some(tenure.is_lost());
            backends.open.push(tenure);
            return Ok(backends);
        }
        opened
    }

    async fn open_all(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Self> {
        // It has nothing to close, so it comes before what has.
        let archive = archive(&settings.archive)?;
        #[cfg(feature = "nats")]
        let bus = bus(settings).boxed();
        #[cfg(not(feature = "nats"))]
        let bus = std::future::ready(Ok::<_, infra_core::Error>(None));
        #[cfg(feature = "redis")]
        let cache = cache(settings, clock).boxed();
        #[cfg(not(feature = "redis"))]
        let cache = std::future::ready(Ok::<_, infra_core::Error>(None));
        // They may be far away, and none needs another one.
        let documents = documents(&settings.documents, clock).boxed();
        let events = events(settings, clock).boxed();
        let (events, documents, bus, cache) = tokio::join!(events, documents, bus, cache);
        let open = [closing(&events), closing(&documents)];
        let all = documents.and_then(|documents| Ok((events?, documents, bus?, cache?)));
        let (events, documents, bus, cache) = match all {
            Ok(all) => all,
            Err(error) => {
                // Whoever tries again finds the folders free.
                for store in open.into_iter().flatten() {
                    store.close().await;
                }
                return Err(error);
            }
        };
        let mut backends = Self::new(events, documents);
        backends.keys = folder_of_keys(settings);
        backends.cache = cache;
        if let Some(archive) = archive {
            backends.archive = Arc::new(archive);
        }
        if let Some(bus) = bus {
            backends.bus = bus;
        }
        Ok(backends)
    }

    /// Opens an event log with options of one's own beside a document store; the archive is in memory.
    ///
    /// # Errors
    ///
    /// What opening the log fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the log again.
    pub async fn with_log(options: infra_events::Options, documents: Documents) -> Result<Self> {
        Ok(Self::new(log(options).await?, kept(documents)))
    }

    fn new(events: Opened<dyn EventStore>, documents: Opened<dyn DocumentStore>) -> Self {
        Self {
            events: events.store,
            documents: documents.store,
            archive: Arc::new(Archive::in_memory()),
            bus: Arc::new(MemoryPubSub::new(MAILBOX)),
            cache: None,
            is_lost: None,
            checks: documents.check.into_iter().chain(events.check).collect(),
            keys: None,
            people: Arc::default(),
            open: events.closing.into_iter().chain(documents.closing).collect(),
        }
    }

    /// Puts policies around the stores and the bus, and tells of those that are left alone.
    pub(super) fn guarded(mut self, patience: Duration, clock: &Arc<dyn Clock>) -> Self {
        let stores = (self.events, self.documents, self.archive);
        let guarded = Guarded::new(stores, self.bus, patience, clock);
        self.checks.push(guarded.health);
        Self {
            events: guarded.events,
            documents: guarded.documents,
            archive: guarded.archive,
            bus: guarded.bus,
            ..self
        }
    }

    /// Returns the rooms' events as they read and write them: what people say is sealed below.
    ///
    /// # Errors
    ///
    /// What opening the keys of people fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn rooms(&self, clock: &Arc<dyn Clock>) -> Result<Arc<dyn EventStore>> {
        Memory::open(self, clock).await.map(|memory| memory.events)
    }

    /// Returns the keys of people, which are opened once.
    pub(super) async fn people(&self, clock: &Arc<dyn Clock>) -> Result<People> {
        self.people.get_or_try_init(|| self.open_people(clock)).await.cloned()
    }

    async fn open_people(&self, clock: &Arc<dyn Clock>) -> Result<People> {
        let vault: Arc<dyn Vault> = match &self.keys {
            Some(folder) => Arc::new(FolderVault::open(folder.clone())?),
            None => Arc::new(DocumentVault::new(Arc::clone(&self.documents))?),
        };
        People::open(vault, Arc::clone(clock)).await
    }

    /// Ends the stores after everything that waits was stored.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the closing finish in the background.
    pub async fn close(&self) {
        for store in &self.open {
            store.close().await;
        }
    }

    /// Waits until another process serves the same database; for ever if none can.
    pub(super) async fn lost(&self) {
        let is_told = match self.is_lost.clone() {
            Some(mut is_lost) => is_lost.wait_for(|is_lost| *is_lost).await.is_ok(),
            None => false,
        };
        if !is_told {
            std::future::pending::<()>().await;
        }
    }
}

/// Returns what has to be closed of a store that was opened.
fn closing<S: ?Sized>(opened: &Result<Opened<S>>) -> Option<Arc<dyn Closing>> {
    opened.as_ref().ok()?.closing.clone()
}

/// Takes the right to serve the database that holds the rooms, since other processes can reach it.
#[cfg(feature = "postgres")]
async fn tenure(settings: &Settings) -> Result<Option<Arc<Tenure>>> {
    let Backend::Postgres(url) = &settings.events else { return Ok(None) };
    let options = infra_persistence::PostgresOptions::new(url.whole());
    let options = options.connections(1).patience(settings.tuning.store_patience);
    let leases = infra_persistence::PostgresLeases::connect(&options).await?;
    Tenure::begin(Arc::new(leases)).await.map(|tenure| Some(Arc::new(tenure)))
}

/// Returns the folder of people's keys, unless everything that is sealed under them is in memory, or in
/// a database that takes them as well.
fn folder_of_keys(settings: &Settings) -> Option<PathBuf> {
    let are_documents = match (&settings.events, &settings.documents) {
        (Backend::Memory, Backend::Memory) => settings.archive == Backend::Memory,
        #[cfg(feature = "postgres")]
        (Backend::Postgres(_), Backend::Postgres(_)) => true,
        _ => false,
    };
    (!are_documents).then(|| settings.data.join("people"))
}

/// Opens an archive that outlives the process.
fn archive(backend: &Backend) -> Result<Option<Archive>> {
    match backend {
        Backend::Memory => Ok(None),
        Backend::Files(folder) => Archive::in_folder(folder).map(Some),
        #[cfg(feature = "s3")]
        Backend::Bucket(address) => Archive::open(address).map(Some),
        #[cfg(feature = "postgres")]
        Backend::Postgres(_) => Err(misplaced("the archive in PostgreSQL")),
        #[cfg(feature = "nats")]
        Backend::Nats(_) => Err(misplaced("the archive in NATS")),
        #[cfg(feature = "redis")]
        Backend::Redis(_) => Err(misplaced("the archive in Redis")),
    }
}

/// Refuses a place that the option does not take.
#[cfg(any(feature = "postgres", feature = "s3", feature = "nats", feature = "redis"))]
fn misplaced(what: &'static str) -> infra_core::Error {
    infra_core::Error::new(infra_core::ErrorKind::Unsupported, "open stores").detail(what)
}

async fn documents(backend: &Backend, clock: &Arc<dyn Clock>) -> Result<Opened<dyn DocumentStore>> {
    match backend {
        Backend::Memory => infra_persistence::memory(Arc::clone(clock)).map(kept),
        Backend::Files(folder) => {
            let options = infra_persistence::Options::new(folder).clock(Arc::clone(clock));
            let (documents, report) = infra_persistence::embedded(options).await?;
            tracing::info!(commits = report.commits, "documents opened");
            Ok(kept(documents))
        }
        #[cfg(feature = "postgres")]
        Backend::Postgres(url) => {
            let options = infra_persistence::PostgresOptions::new(url.whole());
            let options = options.clock(Arc::clone(clock));
            let documents = infra_persistence::PostgresDocuments::connect(&options).await?;
            tracing::info!(database = %url, "documents opened");
            let documents = Arc::new(documents);
            Ok(Opened::of(Arc::clone(&documents) as _, &documents))
        }
        #[cfg(feature = "s3")]
        Backend::Bucket(_) => Err(misplaced("documents in a bucket")),
        #[cfg(feature = "nats")]
        Backend::Nats(_) => Err(misplaced("documents in NATS")),
        #[cfg(feature = "redis")]
        Backend::Redis(_) => Err(misplaced("documents in Redis")),
    }
}

async fn events(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Opened<dyn EventStore>> {
    match &settings.events {
        Backend::Memory => {
            let store = Arc::new(MemoryEventStore::new(Arc::clone(clock)));
            Ok(Opened { store, check: None, closing: None })
        }
        Backend::Files(folder) => {
            let mode = match settings.recovery {
                Recovery::Strict => Mode::Strict,
                Recovery::Salvage => Mode::Salvage,
            };
            let options = infra_events::Options::new(folder)
                .mode(mode)
                .segment_bytes(settings.tuning.event_segment)
                .clock(Arc::clone(clock));
            log(options).await
        }
        #[cfg(feature = "postgres")]
        Backend::Postgres(url) => {
            // Who asked is gone by then: a connection that says nothing for longer holds no lane.
            let options = infra_events::PostgresOptions::new(url.whole())
                .patience(settings.tuning.store_patience)
                .readers(EVENT_READERS)
                .clock(Arc::clone(clock));
            let events = Arc::new(infra_events::PostgresEventStore::open(options).await?);
            tracing::info!(database = %url, "events opened");
            Ok(Opened::of(Arc::clone(&events) as _, &events))
        }
        #[cfg(feature = "s3")]
        Backend::Bucket(_) => Err(misplaced("events in a bucket")),
        #[cfg(feature = "nats")]
        Backend::Nats(_) => Err(misplaced("events in NATS")),
        #[cfg(feature = "redis")]
        Backend::Redis(_) => Err(misplaced("events in Redis")),
    }
}

/// Opens the bus, if it is not within this process.
#[cfg(feature = "nats")]
async fn bus(settings: &Settings) -> Result<Option<Arc<dyn PubSub>>> {
    let Backend::Nats(url) = &settings.bus else { return Ok(None) };
    // Games start without it too, as they go on without it.
    let bus = infra_messaging::NatsPubSub::connect_once_there(url.whole(), MAILBOX).await?;
    tracing::info!(bus = %url, "bus opened");
    Ok(Some(Arc::new(bus)))
}

/// Opens the cache that servers share, if there is one.
#[cfg(feature = "redis")]
async fn cache(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Option<Arc<dyn Cache>>> {
    let Backend::Redis(url) = &settings.cache else { return Ok(None) };
    let options = infra_cache::redis::RedisOptions::new(url.whole(), CACHE_PREFIX);
    let cache = infra_cache::redis::RedisCache::connect(options, Arc::clone(clock));
    let cache = Box::pin(cache).await?;
    tracing::info!(cache = %url, "cache connected");
    Ok(Some(Arc::new(cache)))
}

/// Opens an event log and tells what was found.
async fn log(options: infra_events::Options) -> Result<Opened<dyn EventStore>> {
    let (log, report) = LogEventStore::open(options).await?;
    let (events, torn) = (report.events, report.torn_bytes);
    tracing::info!(events, torn, segments = report.segments, "event log opened");
    if report.is_witness_missing {
        tracing::warn!("the event log had no readable witness: a lost end would not be noticed");
    }
    if let Some(lost) = &report.lost {
        let (segment, offset, commits) = (&lost.segment, lost.offset, lost.commits);
        let why = &lost.why;
        tracing::error!(segment, offset, commits, why, "acknowledged events are lost");
    }
    let log = Arc::new(log);
    Ok(Opened::of(Arc::clone(&log) as _, &log))
}

fn kept(documents: Documents) -> Opened<dyn DocumentStore> {
    let documents = Arc::new(documents);
    Opened::of(Arc::clone(&documents) as _, &documents)
}
