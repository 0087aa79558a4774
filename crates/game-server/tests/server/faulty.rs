//! Stores that fail on purpose: calls that are refused, that are done and then said to have failed,
//! that stall, and a store that is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    durability::Durability,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, RecordedEvent, StreamInfo,
        Subscription,
    },
    id::{Collection, StreamName},
    random::Random,
    store::{Batch, Document, DocumentStore, Features, Query, Receipt, Scan},
    version::{Expected, Position, Version},
};
use tokio::sync::Notify;

/// How the stores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// They serve.
    Calm = 0,
    /// One call of twenty fails, half of them after it was done; one of ten stalls for 200 ms.
    Rough = 1,
    /// They are gone: half of the calls fail at once, half of them never come back.
    Outage = 2,
    /// Writes are done and then said to be of unknown fate; reads are served.
    Doubtful = 3,
    /// Writes wait for other weather; reads are served.
    Held = 4,
    /// They are far away: what is asked of a stream waits until others are asked as well, for a while.
    Far = 5,
}

/// What befalls the calls of stores; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Faults(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    weather: AtomicU8,
    changed: Notify,
    random: Random,
    struck: AtomicU64,
    asked: AtomicUsize,
    most_asked: AtomicUsize,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        let inner = Inner {
            weather: AtomicU8::new(Weather::Calm as u8),
            changed: Notify::new(),
            random: Random::seeded(seed),
            struck: AtomicU64::new(0),
            asked: AtomicUsize::new(0),
            most_asked: AtomicUsize::new(0),
        };
        Self(Arc::new(inner))
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.0.weather.store(weather as u8, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    /// Returns how many calls failed, never came back, or were held.
    pub(crate) fn struck(&self) -> u64 {
        self.0.struck.load(Ordering::SeqCst)
    }

    /// Returns of how many streams something was asked at the same time while they were far, at most.
    pub(crate) fn most_asked(&self) -> usize {
        self.0.most_asked.load(Ordering::SeqCst)
    }

    /// Waits as a call of a store that is far does, until more than `enough` wait, or for a while.
    async fn travel(&self, enough: usize) {
        let Inner { weather, asked, most_asked, .. } = &*self.0;
        if weather.load(Ordering::SeqCst) != Weather::Far as u8 {
            return;
        }
        most_asked.fetch_max(asked.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if enough < most_asked.load(Ordering::SeqCst) {
                break;
            }
        }
        asked.fetch_sub(1, Ordering::SeqCst);
    }

    /// Makes a call, or lets it fail.
    async fn around<T>(&self, kind: ErrorKind, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Inner { weather, changed, random, struck, .. } = &*self.0;
        if kind == ErrorKind::Indeterminate {
            let is_held = || weather.load(Ordering::SeqCst) == Weather::Held as u8;
            if is_held() {
                struck.fetch_add(1, Ordering::SeqCst);
            }
            loop {
                let change = changed.notified();
                if !is_held() {
                    break;
                }
                change.await;
            }
        }
        let weather = weather.load(Ordering::SeqCst);
        let fail = |kind| {
            struck.fetch_add(1, Ordering::SeqCst);
            Err(Error::new(kind, "ask faulty store").idempotent())
        };
        let drawn = random.below(1_000);
        if weather == Weather::Outage as u8 {
            if drawn < 500 {
                return fail(ErrorKind::Unavailable);
            }
            struck.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        if weather == Weather::Doubtful as u8 && kind == ErrorKind::Indeterminate {
            let _done = call.await?;
            return fail(kind);
        }
        if weather == Weather::Rough as u8 {
            match drawn {
                0..25 => return fail(ErrorKind::Unavailable),
                25..50 => {
                    let _done = call.await?;
                    return fail(kind);
                }
                50..150 => tokio::time::sleep(Duration::from_millis(200)).await,
                _ => {}
            }
        }
        call.await
    }

    async fn read<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.around(ErrorKind::Unavailable, call).await
    }

    async fn write<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.around(ErrorKind::Indeterminate, call).await
    }
}

#[derive(Debug)]
pub(crate) struct FaultyEvents {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) faults: Faults,
}

#[async_trait]
impl EventStore for FaultyEvents {
    async fn append(&self, append: Append) -> Result<Appended> {
        self.faults.write(self.store.append(append)).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        self.faults.read(self.store.read_stream(stream, from, direction, limit)).await
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        self.faults.read(self.store.read_all(after, filter, limit)).await
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        self.faults.read(self.store.subscribe(after, filter)).await
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        self.faults.travel(8).await;
        self.faults.read(self.store.stream_info(stream)).await
    }

    async fn stable_head(&self) -> Result<Position> {
        self.faults.read(self.store.stable_head()).await
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        self.store.wait_for(position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        self.faults.write(self.store.truncate_before(stream, before)).await
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        self.faults.write(self.store.tombstone(stream, expected)).await
    }
}

#[derive(Debug)]
pub(crate) struct FaultyDocuments {
    pub(crate) store: Arc<dyn DocumentStore>,
    pub(crate) faults: Faults,
}

#[async_trait]
impl DocumentStore for FaultyDocuments {
    fn features(&self) -> Features {
        self.store.features()
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        self.faults.read(self.store.get(collection, key)).await
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        self.faults.read(self.store.get_many(collection, keys)).await
    }

    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        self.faults.write(self.store.commit(batch)).await
    }

    async fn reach(&self, commit: Position, durability: Durability) -> Result<()> {
        self.faults.read(self.store.reach(commit, durability)).await
    }

    async fn scan(&self, collection: &Collection, scan: Scan) -> Result<Vec<Document>> {
        self.faults.read(self.store.scan(collection, scan)).await
    }

    async fn query(&self, collection: &Collection, query: Query) -> Result<Vec<Document>> {
        self.faults.read(self.store.query(collection, query)).await
    }

    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64> {
        self.faults.read(self.store.count(collection, prefix)).await
    }

    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>> {
        self.faults.read(self.store.history(collection, key, limit)).await
    }
}
