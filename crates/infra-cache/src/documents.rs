//! A document store behind a cache of its documents.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    clock::Instant,
    durability::Durability,
    id::Collection,
    store::{Batch, Document, DocumentStore, Features, Query, Receipt, Scan},
    version::Position,
};
use parking_lot::Mutex;

use crate::{local::LocalCache, options::Options, read::Loaded, task};

/// For how long nothing is kept after a commit whose fate is unknown: it may still be done.
const DOUBT: Duration = Duration::from_mins(1);

const COMMIT: &str = "commit through cache";

/// A [`DocumentStore`] whose single documents are read through memory; it keeps the port's contract.
///
/// What a commit touches is neither read from memory nor kept there from before the commit until after it, so a
/// read never tells less than a scan or query before it did. Scans, queries, counts and histories go to the store.
/// It must be the only way in which the collections are written: what other processes commit is seen when the
/// time to live is over, and compare-and-set is always the store's own.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use infra_cache::{CachedDocuments, Options};
/// use infra_core::{SystemClock, codec::Payload, id::Collection, store::{Batch, DocumentStore}, version::Expected};
/// use infra_testkit::model::ModelDocuments;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let clock = SystemClock::shared();
/// let store = Arc::new(ModelDocuments::new(Arc::clone(&clock)));
/// let options = Options::new(10_000).ttl(Duration::from_secs(60));
/// let documents = CachedDocuments::new(store, options, clock);
/// let players = Collection::new("players")?;
/// let ann = Payload::json(1, "Ann")?;
/// documents.commit(Batch::new().put(players.clone(), "7", Expected::Absent, ann)).await?;
/// assert_eq!(documents.get(&players, b"7").await?.unwrap().decode::<String>()?, "Ann");
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct CachedDocuments {
    inner: Arc<dyn DocumentStore>,
    cache: LocalCache<Name, Document>,
    clock: Arc<dyn Clock>,
    writes: Arc<Mutex<Writes>>,
}

/// A document's collection and key.
type Name = (Collection, Bytes);

/// What is being committed now.
#[derive(Debug, Default)]
struct Writes {
    touched: HashMap<Name, usize>,
    /// Until when nothing is kept, because a commit may be done that we know nothing of.
    doubt: Instant,
}

impl CachedDocuments {
    /// Puts memory in front of a store. Errors are never told again, whatever the options say.
    pub fn new(inner: Arc<dyn DocumentStore>, options: Options, clock: Arc<dyn Clock>) -> Self {
        let cache = LocalCache::new(options.forget_errors(), Arc::clone(&clock));
        Self { inner, cache, clock, writes: Arc::default() }
    }

    /// Returns what the memory has done.
    pub fn statistics(&self) -> crate::Statistics {
        self.cache.statistics()
    }

    /// Forgets everything that is in memory.
    pub fn clear(&self) {
        self.cache.clear();
    }

    /// Returns whether a document may be read from memory and kept there.
    fn is_quiet(&self, name: &Name) -> bool {
        let now = self.clock.now();
        let writes = self.writes.lock();
        writes.doubt <= now && !writes.touched.contains_key(name)
    }

    /// Makes of a document what is kept; nothing if a commit touches it now.
    fn kept(&self, name: &Name, document: Option<Document>) -> Loaded<Document> {
        let loaded = document.map_or_else(Loaded::absent, Loaded::new);
        if self.is_quiet(name) { loaded } else { loaded.ttl(Duration::ZERO) }
    }

    fn touch(&self, batch: &Batch) -> Touching {
        let targets = batch.writes.iter().map(infra_core::store::Write::target);
        let names: HashSet<Name> =
            targets.map(|(collection, key, _)| (collection.clone(), key.clone())).collect();
        let names: Vec<Name> = names.into_iter().collect();
        let mut writes = self.writes.lock();
        for name in &names {
            *writes.touched.entry(name.clone()).or_default() += 1;
        }
        drop(writes);
        // After the marks: a load that does not see them is superseded by this.
        self.cache.invalidate_many(&names);
        Touching { documents: self.clone(), names }
    }
}

/// The time of a commit, for the documents that it touches.
struct Touching {
    documents: CachedDocuments,
    names: Vec<Name>,
}

impl Drop for Touching {
    fn drop(&mut self) {
        self.documents.cache.invalidate_many(&self.names);
        let mut writes = self.documents.writes.lock();
        for name in &self.names {
            if let Some(count) = writes.touched.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    writes.touched.remove(name);
                }
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DocumentStore for CachedDocuments {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        let name = (collection.clone(), Bytes::copy_from_slice(key));
        if !self.is_quiet(&name) {
            return self.inner.get(collection, key).await;
        }
        let (documents, wanted) = (self.clone(), name.clone());
        let load = || async move {
            let document = documents.inner.get(&wanted.0, &wanted.1).await?;
            Ok(documents.kept(&wanted, document))
        };
        Ok(self.cache.read_or_load(&name, load).await?.value)
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        let name = |key: &Bytes| (collection.clone(), key.clone());
        let names: Vec<Name> = keys.iter().map(name).collect();
        if !names.iter().all(|name| self.is_quiet(name)) {
            return self.inner.get_many(collection, keys).await;
        }
        let load = |names: Vec<Name>| {
            let (documents, collection) = (self.clone(), collection.clone());
            async move {
                let keys: Vec<Bytes> = names.iter().map(|(_, key)| key.clone()).collect();
                let found = documents.inner.get_many(&collection, &keys).await?;
                let loaded = names.into_iter().zip(found).map(|(name, document)| {
                    let kept = documents.kept(&name, document);
                    (name, kept)
                });
                Ok(loaded.collect())
            }
        };
        let found = self.cache.get_many_or_load(&names, load).await?;
        Ok(names.iter().map(|name| found.get(name).cloned()).collect())
    }

    /// Commits a batch; it goes on if the future is dropped.
    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        let (documents, touching) = (self.clone(), self.touch(&batch));
        task::detached(COMMIT, async move {
            let store = Arc::clone(&documents.inner);
            // In a task of its own, so that the fate of what a store that panics has done is in doubt too.
            let committed = task::detached(COMMIT, async move { store.commit(batch).await }).await;
            if committed.as_ref().is_err_and(is_unknown) {
                documents.writes.lock().doubt = documents.clock.now() + DOUBT;
                documents.cache.clear();
            }
            drop(touching);
            committed
        })
        .await
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

/// Returns whether a failed commit may have been done, or may yet be.
const fn is_unknown(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Indeterminate | ErrorKind::Timeout | ErrorKind::Internal)
}
