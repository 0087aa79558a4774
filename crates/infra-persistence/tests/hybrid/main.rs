//! Memory, store and archive together: what goes where and when, and that nothing is lost on its way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod archive;
mod races;
mod triggers;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock as _, Error, ErrorKind, Result, SystemClock,
    archive::{ArchiveStore, ObjectInfo},
    backoff::Backoff,
    clock::Timestamp,
    id::IndexName,
    lifecycle::Shutdown,
    store::{DocumentStore, Term},
    version::{Expected, Version},
};
use infra_persistence::{
    Archive, ArchiveQuery, Archivist, Entity, Hybrid, HybridOptions, Limits, Overflow, Priority,
    Standing, Vault,
};
use infra_testkit::model::{ModelArchive, ModelDocuments};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Playing,
    Abandoned,
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Round {
    number: u32,
    declared: BTreeMap<String, u8>,
    scores: BTreeMap<String, i64>,
}

/// A game has an id of its own; its room knows the one that is played now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Game {
    id: String,
    room: String,
    phase: Phase,
    rounds: Vec<Round>,
    winner: Option<String>,
    turns: u32,
    started: Timestamp,
    ended: Option<Timestamp>,
}

impl Entity for Game {
    const COLLECTION: &'static str = "games";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        Bytes::copy_from_slice(self.id.as_bytes())
    }

    fn terms(&self) -> Result<Vec<Term>> {
        let room = Term::unique(IndexName::new("room")?, self.room.clone());
        Ok(if self.phase == Phase::Playing { vec![room] } else { Vec::new() })
    }

    fn standing(&self) -> Standing {
        match self.phase {
            Phase::Playing => Standing::Active,
            Phase::Abandoned => Standing::Idle,
            Phase::Over => Standing::Completed,
        }
    }

    fn tags(&self) -> Vec<String> {
        vec![self.room.clone()]
    }
}

fn game(id: &str, phase: Phase) -> Game {
    let rounds = (1..=3).map(|number| Round {
        number,
        declared: [("ann".to_owned(), 3), ("bot".to_owned(), 2)].into(),
        scores: [("ann".to_owned(), 8), ("bot".to_owned(), -1)].into(),
    });
    Game {
        id: id.to_owned(),
        room: format!("room of {id}"),
        phase,
        rounds: rounds.collect(),
        winner: (phase == Phase::Over).then(|| "ann".to_owned()),
        turns: 24,
        started: Timestamp::from_millis(1_000),
        ended: (phase == Phase::Over).then(|| Timestamp::from_millis(9_000)),
    }
}

/// An archive that is watched: how many writes are under way, in which order they came and when, and
/// that fails or waits as it is told.
#[derive(Debug)]
struct Watched {
    inner: ModelArchive,
    clock: Arc<dyn infra_core::Clock>,
    writes: Mutex<Vec<(String, Timestamp)>>,
    flying: AtomicUsize,
    most: AtomicUsize,
    failures: Mutex<Vec<ErrorKind>>,
    is_shut: AtomicBool,
    opened: Notify,
    slow: Duration,
    /// How long after an object is there its writer is told so.
    lag: Mutex<Duration>,
}

impl Watched {
    fn new(slow: Duration) -> Arc<Self> {
        let clock = SystemClock::shared();
        Arc::new(Self {
            inner: ModelArchive::new(Arc::clone(&clock)),
            clock,
            writes: Mutex::default(),
            flying: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            failures: Mutex::default(),
            is_shut: AtomicBool::new(false),
            opened: Notify::new(),
            slow,
            lag: Mutex::default(),
        })
    }

    fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
    }

    fn open(&self) {
        self.is_shut.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    async fn names(&self) -> Vec<String> {
        let found = self.inner.list("games", "", 1_000).await.unwrap();
        found.into_iter().map(|info| info.name).collect()
    }

    /// The games in the order of their writes.
    fn order(&self) -> Vec<String> {
        self.writes
            .lock()
            .iter()
            .map(|(name, _)| name.split('/').nth(1).unwrap().to_owned())
            .collect()
    }
}

#[async_trait]
impl ArchiveStore for Watched {
    async fn create(&self, name: &str, body: Bytes) -> Result<()> {
        self.writes.lock().push((name.to_owned(), self.clock.wall()));
        let flying = self.flying.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(flying, Ordering::SeqCst);
        loop {
            let opened = self.opened.notified();
            if !self.is_shut.load(Ordering::SeqCst) {
                break;
            }
            opened.await;
        }
        tokio::time::sleep(self.slow).await;
        self.flying.fetch_sub(1, Ordering::SeqCst);
        let failure = self.failures.lock().pop();
        if let Some(kind) = failure {
            return Err(Error::new(kind, "create object"));
        }
        let created = self.inner.create(name, body).await;
        let lag = *self.lag.lock();
        tokio::time::sleep(lag).await;
        created
    }

    async fn replace(&self, name: &str, body: Bytes) -> Result<()> {
        self.inner.replace(name, body).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner.get(name).await
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.inner.head(name).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name).await
    }
}

struct Bench {
    hybrid: Hybrid<Game>,
    archive: Arc<Watched>,
    documents: Arc<dyn DocumentStore>,
    archivist: Option<Archivist<Game>>,
    shutdown: Shutdown,
}

fn options(entries: usize) -> HybridOptions {
    HybridOptions::new(Limits::entries(entries)).batch(100, Duration::ZERO)
}

impl Bench {
    async fn new(options: HybridOptions, slow: Duration) -> Self {
        let documents = Arc::new(ModelDocuments::new(SystemClock::shared()));
        Self::over(documents, Watched::new(slow), options).await
    }

    async fn over(
        documents: Arc<dyn DocumentStore>,
        archive: Arc<Watched>,
        options: HybridOptions,
    ) -> Self {
        let objects: Arc<dyn ArchiveStore> = Arc::<Watched>::clone(&archive);
        // Two clocks of the system that are made one after the other may differ by a millisecond.
        let options = options.clock(Arc::clone(&archive.clock));
        let opened = Hybrid::open(Arc::clone(&documents), Vault::new(objects), options).await;
        let (hybrid, archivist) = opened.unwrap();
        let shutdown = Shutdown::new();
        Self { hybrid, archive, documents, archivist: Some(archivist), shutdown }
    }

    fn start(&mut self) {
        let (archivist, stop) = (self.archivist.take().unwrap(), self.shutdown.stop());
        self.shutdown.spawn(async move {
            archivist.run(stop).await;
        });
    }

    fn archivist(&self) -> &Archivist<Game> {
        self.archivist.as_ref().unwrap()
    }

    async fn save(&self, id: &str, phase: Phase) -> Version {
        self.hybrid.save(game(id, phase), Expected::Any).await.unwrap()
    }

    async fn is_archived(&self, id: &str) -> bool {
        self.hybrid.archived_as(id.as_bytes()).await.unwrap().is_some()
    }

    async fn read(&self, id: &str) -> Option<Game> {
        let found = self.hybrid.get(id.as_bytes()).await.unwrap();
        found.map(|found| found.entity.as_ref().clone())
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const HOUR: Duration = Duration::from_hours(1);
const MS: Duration = Duration::from_millis(1);
