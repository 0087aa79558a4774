//! The document store, written once over an ordered map of bytes.

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    durability::Durability,
    health::{Finding, HealthCheck},
    id::Collection,
    store::{Batch, Document, DocumentStore, Features, Query, Receipt, Scan},
    version::{Position, Version},
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    coordinator::{Coordinator, Job, Poison},
    engine::{Engine, Range},
    judge::{io_error, read},
    layout, value,
    witness::{Mark, Witness},
};

/// How many batches may wait for the coordinator.
const QUEUE: usize = 4_096;

/// With what a store starts.
pub(crate) struct Setup {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) mark: Mark,
    pub(crate) witness: Option<Witness>,
    /// How many versions of each document are kept; zero for none beside the present one.
    pub(crate) history: u64,
}

/// Keeps documents; made by [`memory`](crate::memory) and [`embedded`](crate::embedded).
///
/// Reads see every commit as soon as it is applied, before it is durable. They look at memory
/// mostly and run where they are called; a cold read waits for the disk.
///
/// A write on disk that finds no room is undone, and batches are refused with
/// [`Unavailable`](ErrorKind::Unavailable) until there is a megabyte again: then the store goes on by itself,
/// with everything that it had applied. While it opens its folder again, for that, reads are
/// [`Unavailable`](ErrorKind::Unavailable) for a moment, too. After any other write or sync that failed it is
/// [`Poisoned`](ErrorKind::Poisoned) until it is opened anew.
///
/// [Close](Self::close) and drop it before its folder is opened again: a store that is dropped without
/// being closed commits and syncs what waits in the background, and holds the folder meanwhile.
#[derive(Debug)]
pub struct Documents {
    engine: Arc<dyn Engine>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    permits: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
    poison: Poison,
    durable: watch::Receiver<Position>,
    features: Features,
}

impl Documents {
    pub(crate) fn start(engine: Arc<dyn Engine>, setup: Setup) -> Result<Self> {
        let Setup { clock, mark, witness, history } = setup;
        let (sender, durable) = watch::channel(Position::new(mark.commit));
        let poison = Poison::default();
        let coordinator = Coordinator {
            engine: Arc::clone(&engine),
            clock,
            mark,
            witness,
            poison: Arc::clone(&poison),
            history,
            durable: sender,
            is_witness_dirty: false,
            revival: None,
        };
        let (jobs, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("documents".to_owned());
        let thread = thread
            .spawn(move || coordinator.run(&receiver))
            .map_err(|cause| io_error("start document store", cause))?;
        Ok(Self {
            engine,
            jobs: Mutex::new(Some(jobs)),
            permits: Arc::new(Semaphore::new(QUEUE)),
            thread: Mutex::new(Some(thread)),
            poison,
            durable,
            features: if history == 0 {
                Features::new(Durability::Durable)
            } else {
                Features::new(Durability::Durable).with_history()
            },
        })
    }

    /// Ends the coordinator after everything that waits was committed and synced.
    ///
    /// Later commits are [`ErrorKind::Closed`]; reads go on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the closing finish in the background.
    pub async fn close(&self) {
        drop(self.jobs.lock().take());
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok());
            // A coordinator that panicked has ended too.
            let _ended = joined.await.is_ok();
        }
    }

    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine)
    }

    /// Collects what `take` makes of the keys and values of a range, up to `limit`.
    fn collect<T>(
        &self,
        range: Range,
        is_reverse: bool,
        limit: usize,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut found = Found::new(limit);
        if found.is_full() || layout::is_empty(&range) {
            return Ok(Vec::new());
        }
        let mut visit = |at: &[u8], value: &[u8]| found.take(|| take(at, value));
        let visited = self.engine.visit(range, is_reverse, &mut visit);
        visited.map_err(|cause| io_error("scan documents", cause))?;
        found.end()
    }
}

/// What a visit has found so far, up to a limit or the first failure.
struct Found<T> {
    all: Vec<T>,
    limit: usize,
    failed: Option<Error>,
}

impl<T> Found<T> {
    const fn new(limit: usize) -> Self {
        Self { all: Vec::new(), limit, failed: None }
    }

    const fn is_full(&self) -> bool {
        self.limit <= self.all.len()
    }

    /// Takes what `make` makes; returns whether to go on.
    fn take(&mut self, make: impl FnOnce() -> Result<T>) -> bool {
        match make() {
            Ok(value) => {
                self.all.push(value);
                !self.is_full()
            }
            Err(error) => {
                self.failed = Some(error);
                false
            }
        }
    }

    fn end(self) -> Result<Vec<T>> {
        self.failed.map_or(Ok(self.all), Err)
    }
}

fn broken_key() -> Error {
    Error::new(ErrorKind::Corrupt, "scan documents").detail("a key's format is broken")
}

fn broken_term(key: &[u8]) -> Error {
    let detail = format!("a term names {}, which is not there", key.escape_ascii());
    Error::new(ErrorKind::Corrupt, "query documents").detail(detail)
}

#[async_trait]
impl DocumentStore for Documents {
    fn features(&self) -> Features {
        self.features
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        read(self.engine.as_ref(), collection, key)
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        keys.iter().map(|key| read(self.engine.as_ref(), collection, key)).collect()
    }

    #[tracing::instrument(
        name = "commit documents",
        level = "debug",
        skip_all,
        fields(writes = batch.writes.len())
    )]
    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        const COMMIT: &str = "commit batch";
        let closed = || Error::new(ErrorKind::Closed, COMMIT);
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let job = Job { batch, reply, permit };
        let sent = self.jobs.lock().as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(closed());
        }
        let died = || Error::new(ErrorKind::Indeterminate, COMMIT).detail("the coordinator died");
        answer.await.unwrap_or_else(|_| Err(died()))
    }

    async fn reach(&self, commit: Position, durability: Durability) -> Result<()> {
        const REACH: &str = "reach durability";
        if commit <= *self.durable.borrow() {
            return Ok(());
        }
        // An empty batch takes everything before it along.
        let receipt = self.commit(Batch::new().durability(durability)).await?;
        if receipt.commit <= commit {
            return Err(Error::invalid(REACH, format!("commit {commit} was never given")));
        }
        Ok(())
    }

    async fn scan(&self, collection: &Collection, scan: Scan) -> Result<Vec<Document>> {
        let range = layout::scan(collection, &scan);
        self.collect(range, scan.is_reverse, scan.limit, |at, value| {
            let key = layout::key_of_document(at).ok_or_else(broken_key)?;
            value::decode(key, at, value)
        })
    }

    async fn query(&self, collection: &Collection, query: Query) -> Result<Vec<Document>> {
        let range = layout::query(collection, &query);
        let target =
            |at: &[u8]| layout::read_term(at).map(|(_, key)| layout::document(collection, key));
        let mut found = Found::new(query.limit);
        if found.is_full() || layout::is_empty(&range) {
            return Ok(Vec::new());
        }
        let mut visit = |at: &[u8], value: Option<&[u8]>| {
            found.take(|| {
                let (_, key) = layout::read_term(at).ok_or_else(broken_key)?;
                let value = value.ok_or_else(|| broken_term(key))?;
                value::decode(key, &layout::document(collection, key), value)
            })
        };
        let visited = self.engine.visit_targets(range, query.is_reverse, &target, &mut visit);
        visited.map_err(|cause| io_error("query documents", cause))?;
        found.end()
    }

    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64> {
        let all = Scan::prefix(Bytes::copy_from_slice(prefix), usize::MAX);
        let mut count = 0;
        self.collect(layout::scan(collection, &all), false, usize::MAX, |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>> {
        if !self.features.has_history {
            return Err(Error::new(ErrorKind::Unsupported, "read history"));
        }
        let range = layout::versions(collection, key, Version::MAX);
        self.collect(range, true, limit, |at, value| value::decode(key, at, value))
    }
}

#[async_trait]
impl HealthCheck for Documents {
    fn name(&self) -> &'static str {
        "documents"
    }

    async fn check(&self) -> Finding {
        match &*self.poison.lock() {
            Some(poison) => Finding::down(poison.to_string()),
            None if self.jobs.lock().is_none() => Finding::down("closed"),
            None => Finding::up(),
        }
    }
}
