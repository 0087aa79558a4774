//! The coordinator: one thread that takes all batches that wait, applies them and syncs once.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    durability::Durability,
    store::{Batch, Receipt},
    version::Position,
};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::{
    engine::Engine,
    judge::{Rules, judge},
    layout,
    telemetry::{COMMIT, COMMITS, Outcome, POISONED},
    witness::{Mark, Witness},
};

/// How often the witness is synced while commits come.
const WITNESS_INTERVAL: Duration = Duration::from_millis(100);

/// The most batches that share one sync.
const GROUP: usize = 512;

/// A batch, who waits for it, and its place in the queue.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) batch: Batch,
    pub(crate) reply: oneshot::Sender<Result<Receipt>>,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Why nothing can be written any more; shared with the store.
pub(crate) type Poison = Arc<Mutex<Option<Error>>>;

pub(crate) struct Coordinator {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) mark: Mark,
    pub(crate) witness: Option<Witness>,
    pub(crate) poison: Poison,
    /// How many versions of each document are kept.
    pub(crate) history: u64,
    /// The last commit that is durable.
    pub(crate) durable: watch::Sender<Position>,
    pub(crate) is_witness_dirty: bool,
}

type Reply = (oneshot::Sender<Result<Receipt>>, Result<Receipt>);

impl Coordinator {
    /// Serves jobs until all who could send one are gone.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        while let Some(first) = self.wait(jobs) {
            let begun = self.clock.now();
            let mut waiting: Vec<Reply> = Vec::new();
            let mut permits = Vec::new();
            let mut needed = Durability::Applied;
            let mut next = Some(first);
            while let Some(Job { batch, reply, permit }) = next {
                permits.push(permit);
                let durability = batch.durability;
                let result = self.apply(&batch);
                COMMITS.add_for(Outcome::of(&result), 1);
                if result.is_ok() && durability == Durability::Applied {
                    // Who has gone does not hear it; what was written stays written.
                    let _heard = reply.send(result).is_ok();
                } else {
                    needed = if result.is_ok() { needed.max(durability) } else { needed };
                    waiting.push((reply, result));
                }
                next = if waiting.len() < GROUP { jobs.try_recv().ok() } else { None };
            }
            self.settle(waiting, needed);
            COMMIT.record(self.clock.now().since(begun).as_secs_f64());
        }
        if let Err(cause) = self.sync() {
            tracing::warn!(error = &cause as &dyn std::error::Error, "last sync failed");
        }
        self.sync_witness();
    }

    fn wait(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        if self.is_witness_dirty {
            match jobs.recv_timeout(WITNESS_INTERVAL) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Timeout) => self.sync_witness(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        jobs.recv().ok()
    }

    /// Judges a batch and applies it; readers see it from now on.
    fn apply(&mut self, batch: &Batch) -> Result<Receipt> {
        if let Some(poison) = &*self.poison.lock() {
            return Err(poison.clone());
        }
        let rules = Rules { now: self.clock.wall(), history: self.history };
        let mut plan = judge(self.engine.as_ref(), batch, rules)?;
        let mut mark = Mark { commit: self.mark.commit + 1, ..self.mark };
        for (key, value) in &plan.changes {
            mark.digest = crc32c::crc32c_append(mark.digest, key);
            mark.digest = crc32c::crc32c_append(mark.digest, value.as_deref().unwrap_or(b"\0gone"));
        }
        plan.changes.push((layout::COMMIT.to_vec(), Some(mark.encode())));
        self.engine.apply(plan.changes).map_err(|cause| self.poisoned(cause))?;
        self.mark = mark;
        let commit = Position::new(mark.commit);
        Ok(Receipt { commit, versions: plan.versions, durability: batch.durability })
    }

    fn settle(&mut self, waiting: Vec<Reply>, needed: Durability) {
        let failed = match needed {
            Durability::Applied => None,
            Durability::Buffered => self.engine.flush().err(),
            Durability::Durable => self.sync().err(),
        };
        let failed = failed.map(|cause| self.poisoned(cause));
        for (reply, result) in waiting {
            let result = match (&failed, result) {
                (Some(error), Ok(_)) => Err(error.clone()),
                (_, result) => result,
            };
            let _heard = reply.send(result).is_ok();
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.engine.sync()?;
        if let Some(witness) = &self.witness {
            witness.write(self.mark)?;
            self.is_witness_dirty = true;
        }
        self.durable.send_replace(Position::new(self.mark.commit));
        Ok(())
    }

    fn sync_witness(&mut self) {
        if let Some(Err(cause)) = self.witness.as_ref().map(Witness::sync) {
            tracing::warn!(error = &cause as &dyn std::error::Error, "witness not synced");
        }
        self.is_witness_dirty = false;
    }

    fn poisoned(&self, cause: io::Error) -> Error {
        tracing::error!(error = &cause as &dyn std::error::Error, "the document store is poisoned");
        POISONED.set(1.0);
        let cause = Arc::new(cause);
        let later = Error::new(ErrorKind::Poisoned, "commit batch")
            .detail("an earlier write failed; reopen the store")
            .because(Arc::clone(&cause));
        *self.poison.lock() = Some(later);
        Error::new(ErrorKind::Indeterminate, "commit batch")
            .detail("the write or its sync failed")
            .because(cause)
    }
}
