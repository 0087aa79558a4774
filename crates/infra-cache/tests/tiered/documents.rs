//! A document store behind memory keeps the port's contract, and what it says is never older than the store.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_cache::{CachedDocuments, Options};
use infra_core::{
    Error, ErrorKind, Result, SystemClock,
    codec::Payload,
    durability::Durability,
    id::Collection,
    store::{Batch, Document, DocumentStore, Features, Query, Receipt, Scan},
    version::{Expected, Position},
};
use infra_testkit::{model::ModelDocuments, seed::Seed};
use rand::RngExt as _;
use tokio::task::JoinSet;

fn cached(inner: Arc<dyn DocumentStore>) -> CachedDocuments {
    let options = Options::new(1_000).absent_for(Duration::from_mins(10));
    CachedDocuments::new(inner, options, SystemClock::shared())
}

fn model() -> Arc<dyn DocumentStore> {
    Arc::new(ModelDocuments::new(SystemClock::shared()))
}

fn store() -> Ready<Arc<dyn DocumentStore>> {
    ready(Arc::new(cached(model())))
}

mod documents_keep {
    infra_testkit::document_store_contract!(super::store());
}

/// A store whose commits take steps, and are done at any of them.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn DocumentStore>,
    reads: AtomicU64,
    /// The next commits are done, and nobody is told.
    unanswered: AtomicU64,
    /// The next commits are done, and panic.
    panicking: AtomicU64,
}

impl Slow {
    fn new() -> Arc<Self> {
        let [reads, unanswered, panicking] = [const { AtomicU64::new(0) }; 3];
        Arc::new(Self { inner: model(), reads, unanswered, panicking })
    }
}

#[async_trait]
impl DocumentStore for Slow {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let found = self.inner.get(collection, key).await;
        tokio::task::yield_now().await;
        found
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let found = self.inner.get_many(collection, keys).await;
        tokio::task::yield_now().await;
        found
    }

    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        tokio::task::yield_now().await;
        let receipt = self.inner.commit(batch).await;
        tokio::task::yield_now().await;
        if self.unanswered.load(Ordering::SeqCst) != 0 {
            self.unanswered.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Indeterminate, "commit"));
        }
        if self.panicking.load(Ordering::SeqCst) != 0 {
            self.panicking.fetch_sub(1, Ordering::SeqCst);
            panic!("as planned");
        }
        receipt
    }

    async fn reach(&self, commit: Position, durability: Durability) -> Result<()> {
        self.inner.reach(commit, durability).await
    }

    async fn scan(&self, collection: &Collection, scan: Scan) -> Result<Vec<Document>> {
        self.inner.scan(collection, scan).await
    }

    async fn query(&self, collection: &Collection, query: Query) -> Result<Vec<Document>> {
        self.inner.query(collection, query).await
    }

    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64> {
        self.inner.count(collection, prefix).await
    }

    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>> {
        self.inner.history(collection, key, limit).await
    }
}

fn put(of: &Collection, key: &'static str, value: u64) -> Batch {
    Batch::new().put(of.clone(), key, Expected::Any, Payload::json(1, &value).unwrap())
}

#[tokio::test]
async fn a_document_is_asked_for_once_until_it_is_written() {
    let (slow, rooms) = (Slow::new(), Collection::new("rooms").unwrap());
    let documents = cached(Arc::clone(&slow) as _);
    documents.commit(put(&rooms, "a", 1)).await.unwrap();
    for _ in 0..3 {
        let found = documents.get(&rooms, b"a").await.unwrap().unwrap();
        assert_eq!(found.decode::<u64>().unwrap(), 1);
        assert!(documents.get(&rooms, b"none").await.unwrap().is_none());
        let keys = ["a", "none"].map(Bytes::from);
        let many = documents.get_many(&rooms, &keys).await.unwrap();
        assert_eq!((many[0].is_some(), many[1].is_some()), (true, false));
    }
    assert_eq!(slow.reads.load(Ordering::SeqCst), 2);
    documents.commit(put(&rooms, "a", 2)).await.unwrap();
    let found = documents.get(&rooms, b"a").await.unwrap().unwrap();
    assert_eq!((found.decode::<u64>().unwrap(), found.version.get()), (2, 2));
    assert_eq!(slow.reads.load(Ordering::SeqCst), 3);
    assert!(0 < documents.statistics().hits);
    documents.clear();
    documents.get(&rooms, b"a").await.unwrap();
    assert_eq!(slow.reads.load(Ordering::SeqCst), 4);
}

/// After a scan told of a version no read tells of an older one, also while commits are on their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_tells_less_than_a_scan_before_it() {
    for seed in Seed::each(6) {
        let rooms = Collection::new("rooms").unwrap();
        let documents = cached(Slow::new() as _);
        documents.commit(put(&rooms, "a", 0)).await.unwrap();
        let mut tasks = JoinSet::new();
        for task in 0..6_u64 {
            let (documents, rooms) = (documents.clone(), rooms.clone());
            let mut dice = Seed(seed.0 * 10 + task).dice();
            tasks.spawn(async move {
                for value in 0..150 {
                    if task < 2 {
                        let commit = documents.commit(put(&rooms, "a", value));
                        if dice.random_bool(0.2) {
                            // The caller goes; the commit goes on.
                            let _gone = tokio::time::timeout(Duration::ZERO, commit).await.is_ok();
                        } else {
                            commit.await.unwrap();
                        }
                        continue;
                    }
                    let scanned = documents.scan(&rooms, Scan::prefix("a", 1)).await.unwrap();
                    let read = if dice.random() {
                        documents.get(&rooms, b"a").await.unwrap()
                    } else {
                        documents.get_many(&rooms, &["a".into()]).await.unwrap().pop().flatten()
                    };
                    assert!(scanned[0].version <= read.unwrap().version, "{seed}");
                }
            });
        }
        tasks.join_all().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_commit_of_unknown_fate_nothing_is_kept_for_a_while() {
    for kind in [ErrorKind::Indeterminate, ErrorKind::Internal] {
        let (slow, rooms) = (Slow::new(), Collection::new("rooms").unwrap());
        let documents = cached(Arc::clone(&slow) as _);
        documents.commit(put(&rooms, "a", 1)).await.unwrap();
        let is_panic = kind == ErrorKind::Internal;
        let failing = if is_panic { &slow.panicking } else { &slow.unanswered };
        failing.store(1, Ordering::SeqCst);
        let error = documents.commit(put(&rooms, "a", 2)).await.unwrap_err();
        assert_eq!(*error.kind(), kind);
        let reads = || slow.reads.load(Ordering::SeqCst);
        for read in 1..4 {
            documents.get(&rooms, b"a").await.unwrap();
            assert_eq!(reads(), read);
        }
        tokio::time::sleep(Duration::from_secs(61)).await;
        documents.get(&rooms, b"a").await.unwrap();
        documents.get(&rooms, b"a").await.unwrap();
        assert_eq!(reads(), 4, "then it is kept again");
    }
}
