//! Stores for the tests: models, ours in memory and on disk, and one that yields and forgets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    durability::Durability,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, RecordedEvent, StreamInfo,
        Subscription,
    },
    id::StreamName,
    lease::Fence,
    random::Random,
    snapshot::{Snapshot, SnapshotStore},
    version::{Expected, Position, Version},
};
use infra_persistence::{
    Documents, Options, Snapshots, embedded, memory,
    state::{DurableOptions, Strategy},
};
use infra_testkit::{
    clock::ManualClock,
    model::{ModelEvents, ModelSnapshots},
};
use parking_lot::Mutex;

pub(crate) fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

/// What a test works with.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) snapshots: Arc<dyn SnapshotStore>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = ManualClock::new();
        let events = Arc::new(ModelEvents::new(Arc::new(clock.clone())));
        Self { clock, events, snapshots: Arc::new(ModelSnapshots::new()) }
    }

    /// The documents are returned too, since they are to be closed.
    pub(crate) async fn on_disk(folder: &std::path::Path) -> (Self, Arc<Documents>) {
        let documents = Arc::new(embedded(Options::new(folder.to_owned())).await.unwrap().0);
        let snapshots = Arc::new(Snapshots::new(documents.clone()).unwrap());
        (Self { snapshots, ..Self::new() }, documents)
    }

    pub(crate) fn in_our_memory() -> Self {
        let world = Self::new();
        let documents = Arc::new(memory(world.shared_clock()).unwrap());
        Self { snapshots: Arc::new(Snapshots::new(documents).unwrap()), ..world }
    }

    pub(crate) fn shared_clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    pub(crate) fn hybrid(&self) -> DurableOptions {
        self.options(Strategy::Hybrid {
            events: Arc::clone(&self.events),
            snapshots: Arc::clone(&self.snapshots),
        })
    }

    pub(crate) fn options(&self, strategy: Strategy) -> DurableOptions {
        DurableOptions::new(strategy, self.shared_clock()).random(Arc::new(Random::from_system()))
    }

    pub(crate) fn strategies(&self) -> Vec<(&'static str, DurableOptions)> {
        let strategies = [
            ("snapshot-only", Strategy::SnapshotOnly(Arc::clone(&self.snapshots))),
            ("event-sourced", Strategy::EventSourced(Arc::clone(&self.events))),
            ("versioned", Strategy::Versioned(Arc::clone(&self.snapshots))),
        ];
        let mut all: Vec<_> =
            strategies.into_iter().map(|(name, strategy)| (name, self.options(strategy))).collect();
        all.push(("hybrid", self.hybrid()));
        all
    }
}

/// Yields around each operation, so that a future can be dropped there, and fails when it is told to.
#[derive(Debug)]
pub(crate) struct Shaky<S> {
    pub(crate) inner: S,
    /// How many writes are left until one fails after it was done; zero for never.
    pub(crate) until_lost_answer: AtomicUsize,
    /// How safe each snapshot was asked to be.
    pub(crate) durabilities: Mutex<Vec<Durability>>,
}

impl<S> Shaky<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, until_lost_answer: AtomicUsize::new(0), durabilities: Mutex::default() }
    }

    fn answer<T>(&self, answer: Result<T>) -> Result<T> {
        let left = self.until_lost_answer.load(Ordering::SeqCst);
        if left == 0 {
            return answer;
        }
        self.until_lost_answer.store(left - 1, Ordering::SeqCst);
        if left == 1 { Err(Error::new(ErrorKind::Indeterminate, "write")) } else { answer }
    }
}

#[async_trait]
impl EventStore for Shaky<Arc<dyn EventStore>> {
    async fn append(&self, append: Append) -> Result<Appended> {
        tokio::task::yield_now().await;
        let appended = self.inner.append(append).await;
        tokio::task::yield_now().await;
        self.answer(appended)
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        tokio::task::yield_now().await;
        self.inner.read_stream(stream, from, direction, limit).await
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        self.inner.read_all(after, filter, limit).await
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        self.inner.subscribe(after, filter).await
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        tokio::task::yield_now().await;
        self.inner.stream_info(stream).await
    }

    async fn stable_head(&self) -> Result<Position> {
        self.inner.stable_head().await
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        self.inner.wait_for(position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        self.inner.truncate_before(stream, before).await
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        self.inner.tombstone(stream, expected).await
    }
}

#[async_trait]
impl SnapshotStore for Shaky<Arc<dyn SnapshotStore>> {
    async fn put_snapshot(
        &self,
        snapshot: Snapshot,
        durability: Durability,
        fence: Option<Fence>,
    ) -> Result<()> {
        self.durabilities.lock().push(durability);
        tokio::task::yield_now().await;
        let put = self.inner.put_snapshot(snapshot, durability, fence).await;
        tokio::task::yield_now().await;
        self.answer(put)
    }

    async fn latest(&self, stream: &StreamName, at_most: Version) -> Result<Option<Snapshot>> {
        tokio::task::yield_now().await;
        self.inner.latest(stream, at_most).await
    }

    async fn versions(&self, stream: &StreamName) -> Result<Vec<Version>> {
        tokio::task::yield_now().await;
        self.inner.versions(stream).await
    }

    async fn prune(&self, stream: &StreamName, keep: usize) -> Result<usize> {
        tokio::task::yield_now().await;
        self.inner.prune(stream, keep).await
    }
}
