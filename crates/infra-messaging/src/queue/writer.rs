//! Writes what changes in a queue to a document store, in the order of the changes.
//!
//! One commit is under way at a time; what comes meanwhile is folded into the next one, so many
//! publishers share each sync of the disk. Only the last state of a document is written.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    backoff::Backoff,
    codec::Payload,
    durability::Durability,
    id::Collection,
    store::{Batch, DocumentStore, Write},
    version::Expected,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::{entry::Number, journal::Journal, local::Shared, stored};

/// How many documents are written in one commit at most, a step's own documents aside.
const MAX_BATCH: usize = 2_000;

/// How often a commit is tried.
const TRIES: u32 = 8;

/// The hand that gives work to the writer's task.
#[derive(Debug)]
pub(crate) struct Writer {
    // Its length is bounded by the queue's capacity: each entry has few steps on their way. It is
    // gone once the queue is closed.
    steps: Mutex<Option<mpsc::UnboundedSender<Step>>>,
    durability: Durability,
    failed: Arc<OnceLock<Error>>,
    has_ended: watch::Receiver<bool>,
}

/// What is written together, and who waits for it.
#[derive(Debug)]
struct Step {
    journal: Journal,
    durability: Durability,
    answer: oneshot::Sender<Result<()>>,
}

impl Writer {
    /// Creates a writer and its task, which ends with the queue once everything is written.
    pub(crate) fn new(store: Arc<dyn DocumentStore>, collection: Collection) -> (Self, Scribe) {
        let (steps, receiver) = mpsc::unbounded_channel();
        let failed = Arc::new(OnceLock::new());
        let (end, has_ended) = watch::channel(false);
        let (steps, durability) = (Mutex::new(Some(steps)), store.features().durability);
        let writer = Self { steps, durability, failed: Arc::clone(&failed), has_ended };
        (writer, Scribe { steps: receiver, store, collection, failed, end })
    }

    pub(crate) const fn durability(&self) -> Durability {
        self.durability
    }

    /// Returns what made the writer give up.
    pub(crate) fn check(&self) -> Result<()> {
        self.failed.get().map_or(Ok(()), |error| {
            Err(Error::new(ErrorKind::Poisoned, "use queue").because(error.clone()))
        })
    }

    /// Gives the writer a step; the order of the calls is the order of the writes.
    pub(crate) fn write(
        &self,
        journal: Journal,
        durability: Durability,
    ) -> oneshot::Receiver<Result<()>> {
        let (answer, receiver) = oneshot::channel();
        let step = Step { journal, durability: durability.min(self.durability), answer };
        let steps = self.steps.lock();
        let Some(steps) = steps.as_ref() else {
            let _is_awaited = step.answer.send(Err(closed())).is_ok();
            return receiver;
        };
        // If the task is gone, the receiver is told so by the dropped sender.
        let _is_taken = steps.send(step).is_ok();
        receiver
    }

    /// Takes no more steps, and returns once the task has written those it was given and has let go
    /// of the store.
    pub(crate) async fn end(&self) -> Result<()> {
        drop(self.steps.lock().take());
        let mut has_ended = self.has_ended.clone();
        let ended = has_ended.wait_for(|ended| *ended).await.map(|_| ());
        self.check()?;
        // A task that ended otherwise went with its runtime, and perhaps with a step in hand.
        ended.map_err(|_| Error::new(ErrorKind::Indeterminate, "close queue"))
    }
}

/// The writer's task.
#[derive(Debug)]
pub(crate) struct Scribe {
    steps: mpsc::UnboundedReceiver<Step>,
    store: Arc<dyn DocumentStore>,
    collection: Collection,
    failed: Arc<OnceLock<Error>>,
    end: watch::Sender<bool>,
}

/// The documents of a commit: the last state of each, or none if it goes.
type Fold = HashMap<Bytes, Option<Payload>>;

impl Scribe {
    /// Writes until the queue is closed or gone.
    pub(crate) async fn run(mut self, queue: Weak<Shared>) {
        while let Some(first) = self.steps.recv().await {
            let (mut fold, mut steps) = (Fold::new(), Vec::new());
            let mut durability = Durability::Applied;
            let mut next = Some(first);
            let mut failed = None;
            while let Some(step) = next {
                durability = durability.max(step.durability);
                failed = failed.or(fold_in(&mut fold, &step.journal).err());
                steps.push(step);
                next = if fold.len() < MAX_BATCH { self.steps.try_recv().ok() } else { None };
            }
            let said = match (self.failed.get(), failed) {
                (Some(error), _) => Err(error.clone()),
                (None, Some(error)) => Err(error),
                (None, None) => self.commit(fold, durability).await,
            };
            self.answer(steps, &said, &queue);
            // Who heard that it is written and publishes again at once shares the next commit.
            tokio::task::yield_now().await;
        }
        // Whoever waits for the end may open the store's folder again at once.
        drop(self.store);
        self.end.send_replace(true);
    }

    fn answer(&self, steps: Vec<Step>, said: &Result<()>, queue: &Weak<Shared>) {
        if let Err(error) = said {
            // What is in memory is ahead of the disk now, so nothing more may be promised.
            let _is_first = self.failed.set(error.clone()).is_ok();
        }
        let queue = queue.upgrade();
        if let (Some(queue), Ok(())) = (&queue, said) {
            show(queue, &steps);
        }
        for step in steps {
            let _is_awaited = step.answer.send(said.clone()).is_ok();
        }
        if let (Some(queue), Err(_)) = (queue, said) {
            queue.wake_all();
        }
    }

    /// Commits; each write says what is to be, so it may be repeated.
    async fn commit(&self, fold: Fold, durability: Durability) -> Result<()> {
        let backoff =
            Backoff::exponential(Duration::from_millis(10)).capped_at(Duration::from_secs(1));
        let batch = self.batch(fold).durability(durability);
        let mut tries = 1;
        loop {
            let Err(error) = self.store.commit(batch.clone()).await else { return Ok(()) };
            let may_repeat = error.is_transient() || *error.kind() == ErrorKind::Indeterminate;
            if !may_repeat || TRIES <= tries {
                return Err(error);
            }
            tokio::time::sleep(backoff.pause_before(tries)).await;
            tries += 1;
        }
    }

    fn batch(&self, fold: Fold) -> Batch {
        let collection = &self.collection;
        let writes = fold.into_iter().map(|(key, payload)| match payload {
            Some(payload) => Write::Put {
                collection: collection.clone(),
                key,
                expected: Expected::Any,
                payload,
                terms: Vec::new(),
            },
            None => Write::Delete { collection: collection.clone(), key, expected: Expected::Any },
        });
        Batch { writes: writes.collect(), ..Batch::default() }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "write queue")
}

fn fold_in(fold: &mut Fold, journal: &Journal) -> Result<()> {
    for change in &journal.changes {
        for (key, payload) in stored::documents(change)? {
            fold.insert(key, payload);
        }
    }
    Ok(())
}

/// Shows what was written to consumers.
fn show(queue: &Shared, steps: &[Step]) {
    let shown: Vec<Number> = steps.iter().flat_map(|step| step.journal.shown.clone()).collect();
    let closed: Vec<_> = steps.iter().flat_map(|step| step.journal.closed.clone()).collect();
    if !shown.is_empty() || !closed.is_empty() {
        queue.now(|state, at| state.written(&shown, &closed, at));
    }
}
