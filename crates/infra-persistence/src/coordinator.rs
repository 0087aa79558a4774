//! The coordinator: one thread that takes all batches that wait, applies them and syncs once.
//!
//! A write that found no room is undone: the engine is opened anew once there is some, and takes batches
//! again. After anything else that failed, above all a sync, nobody knows what is on the disk: the store is
//! poisoned until its next opening.

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
    backoff::Backoff,
    clock::Instant,
    durability::Durability,
    error::BoxError,
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

/// The pauses between attempts to go on after a write found no room.
const PAUSES: Backoff =
    Backoff::exponential(Duration::from_millis(100)).capped_at(Duration::from_secs(2));

const COMMIT_BATCH: &str = "commit batch";

/// A batch, who waits for it, and its place in the queue.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) batch: Batch,
    pub(crate) reply: oneshot::Sender<Result<Receipt>>,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Why nothing can be written, for now or any more; shared with the store.
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
    /// Set while there is no room.
    pub(crate) revival: Option<Revival>,
}

/// The next attempt to go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Revival {
    attempt: u32,
    due: Instant,
}

impl Revival {
    fn plan(attempt: u32, now: Instant) -> Self {
        Self { attempt, due: now + PAUSES.pause_before(attempt) }
    }
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What was written is behind everything that was acknowledged, or in nobody's way.
    Write,
    /// Nothing tells what of it is on the disk, now or later.
    Sync,
}

fn is_no_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Returns whether a store can go on after this, once there is room.
fn may_go_on(step: Step, cause: &io::Error) -> bool {
    step == Step::Write && is_no_room(cause)
}

/// Returns whether an attempt to go on may be made again.
fn may_try_again(cause: &io::Error) -> bool {
    let is_held = matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    is_held || is_no_room(cause)
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
        if let Err((_, cause)) = self.sync() {
            tracing::warn!(error = &cause as &dyn std::error::Error, "last sync failed");
        }
        self.sync_witness();
    }

    fn wait(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        loop {
            let pause = match self.revival {
                Some(revival) => revival.due.since(self.clock.now()),
                None if self.is_witness_dirty => WITNESS_INTERVAL,
                None => return jobs.recv().ok(),
            };
            match jobs.recv_timeout(pause) {
                // Who asks all the time does not keep the store from going on.
                Ok(job) => {
                    if pause.is_zero() {
                        self.revive();
                    }
                    return Some(job);
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.revival.is_some() => self.revive(),
                Err(RecvTimeoutError::Timeout) => self.sync_witness(),
            }
        }
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
        let applied = self.engine.apply(plan.changes);
        applied.map_err(|cause| self.failed((Step::Write, cause)))?;
        self.mark = mark;
        let commit = Position::new(mark.commit);
        Ok(Receipt { commit, versions: plan.versions, durability: batch.durability })
    }

    fn settle(&mut self, waiting: Vec<Reply>, needed: Durability) {
        let refused = self.poison.lock().clone();
        let failed = match (needed, refused) {
            (Durability::Applied, _) => None,
            // The engine failed after these were applied.
            (Durability::Buffered | Durability::Durable, Some(error)) => Some(unknown(error)),
            (Durability::Buffered, None) => self.flush().err().map(|failed| self.failed(failed)),
            (Durability::Durable, None) => self.sync().err().map(|failed| self.failed(failed)),
        };
        for (reply, result) in waiting {
            let result = match (&failed, result) {
                (Some(error), Ok(_)) => Err(error.clone()),
                (_, result) => result,
            };
            let _heard = reply.send(result).is_ok();
        }
    }

    fn sync(&mut self) -> Result<(), (Step, io::Error)> {
        self.flush()?;
        self.engine.sync().map_err(|cause| (Step::Sync, cause))?;
        self.witness().map_err(|cause| (Step::Write, cause))
    }

    fn flush(&self) -> Result<(), (Step, io::Error)> {
        self.engine.flush().map_err(|cause| (Step::Write, cause))
    }

    /// Tells that all that was applied is durable.
    fn witness(&mut self) -> io::Result<()> {
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

    /// Tries to take batches again.
    fn revive(&mut self) {
        let Some(Revival { attempt, .. }) = self.revival else { return };
        let mark = (0 < self.mark.commit).then(|| self.mark.encode());
        let revived = self.engine.revive(layout::COMMIT, mark.as_deref());
        match revived.and_then(|()| self.witness()) {
            Ok(()) => {
                tracing::info!(attempt, "the document store has room and takes batches again");
                self.revival = None;
                *self.poison.lock() = None;
                POISONED.set(0.0);
            }
            Err(cause) if may_try_again(&cause) => {
                self.revival = Some(Revival::plan(attempt + 1, self.clock.now()));
            }
            Err(cause) => {
                self.failed((Step::Sync, cause));
            }
        }
    }

    /// Takes no batches from now on; returns what those are told whose write or sync it was.
    fn failed(&mut self, (step, cause): (Step, io::Error)) -> Error {
        POISONED.set(1.0);
        let may_go_on = may_go_on(step, &cause);
        let cause = Arc::new(cause);
        let error = &*cause as &dyn std::error::Error;
        let later = if may_go_on {
            tracing::error!(error, "the document store found no room and waits for some");
            let detail = "no room for the documents; it goes on once there is some";
            Error::new(ErrorKind::Unavailable, COMMIT_BATCH).detail(detail)
        } else {
            tracing::error!(error, "the document store is poisoned");
            let detail = "an earlier write failed; reopen the store";
            Error::new(ErrorKind::Poisoned, COMMIT_BATCH).detail(detail)
        };
        self.revival = may_go_on.then(|| Revival::plan(1, self.clock.now()));
        *self.poison.lock() = Some(later.because(Arc::clone(&cause)));
        unknown(cause)
    }
}

/// What may have been done or not.
fn unknown(cause: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Indeterminate, COMMIT_BATCH)
        .detail("the write or its sync failed")
        .because(cause)
}

#[cfg(test)]
mod tests {
    use infra_core::{
        SystemClock,
        codec::Payload,
        health::{HealthCheck as _, Status},
        id::Collection,
        store::DocumentStore as _,
        version::Expected,
    };
    use infra_testkit::disk::{DiskFaults, Fault, Operation};

    use super::*;
    use crate::{
        documents::{Documents, Setup},
        engine::{Change, Range, Target, Visit, VisitTarget},
        memory::Memory,
    };

    /// A map whose disk does what it is told.
    #[derive(Debug)]
    struct Failing {
        map: Memory,
        faults: DiskFaults,
    }

    impl Engine for Failing {
        fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
            self.map.get(key)
        }

        fn visit(&self, range: Range, is_reverse: bool, visit: &mut Visit<'_>) -> io::Result<()> {
            self.map.visit(range, is_reverse, visit)
        }

        fn visit_targets(
            &self,
            range: Range,
            is_reverse: bool,
            target: &Target<'_>,
            visit: &mut VisitTarget<'_>,
        ) -> io::Result<()> {
            self.map.visit_targets(range, is_reverse, target, visit)
        }

        fn dump(&self, visit: &mut Visit<'_>) -> io::Result<()> {
            self.map.dump(visit)
        }

        fn apply(&self, changes: Vec<Change>) -> io::Result<()> {
            self.faults.check(Operation::Write)?;
            self.map.apply(changes)
        }

        fn flush(&self) -> io::Result<()> {
            self.map.flush()
        }

        fn sync(&self) -> io::Result<()> {
            self.faults.check(Operation::Sync)
        }

        fn revive(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
            self.faults.check(Operation::Open)?;
            assert_eq!(self.map.get(key)?.as_deref(), value);
            Ok(())
        }
    }

    fn store() -> (Documents, DiskFaults) {
        let faults = DiskFaults::none();
        let engine = Failing { map: Memory::default(), faults: faults.clone() };
        let clock = SystemClock::shared();
        let setup = Setup { clock, mark: Mark::default(), witness: None, history: 0 };
        (Documents::start(Arc::new(engine), setup).unwrap(), faults)
    }

    async fn commit(store: &Documents) -> Result<Receipt> {
        let collection = Collection::new("c").unwrap();
        let body = Payload::raw(vec![1]);
        store.commit(Batch::new().put(collection, "a", Expected::Any, body)).await
    }

    async fn kind_of_failure(store: &Documents) -> ErrorKind {
        commit(store).await.unwrap_err().kind().clone()
    }

    /// Commits until it succeeds; what refuses meanwhile says that there is no room.
    async fn commit_at_last(store: &Documents) {
        while let Err(refused) = commit(store).await {
            assert_eq!(*refused.kind(), ErrorKind::Unavailable, "{refused:?}");
            assert!(refused.to_string().contains("no room"), "{refused}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn after_a_sync_that_failed_a_store_stays_poisoned_even_if_it_found_no_room() {
        for fault in [Fault::Full, Fault::Broken] {
            let (store, faults) = store();
            commit(&store).await.unwrap();
            faults.once(Operation::Sync, fault, 0);
            assert_eq!(kind_of_failure(&store).await, ErrorKind::Indeterminate);
            assert_eq!(kind_of_failure(&store).await, ErrorKind::Poisoned);
            tokio::time::sleep(PAUSES.pause_before(1) * 2).await;
            assert_eq!(kind_of_failure(&store).await, ErrorKind::Poisoned);
            assert_eq!(store.check().await.status, Status::Down);
        }
    }

    #[tokio::test]
    async fn after_a_write_that_found_no_room_a_store_goes_on_once_there_is_some() {
        let (store, faults) = store();
        faults.once(Operation::Write, Fault::Full, 1);
        faults.always(Operation::Open, Fault::Full);
        commit(&store).await.unwrap();
        assert_eq!(kind_of_failure(&store).await, ErrorKind::Indeterminate);
        assert_eq!(kind_of_failure(&store).await, ErrorKind::Unavailable);
        tokio::time::sleep(PAUSES.pause_before(1) * 2).await;
        assert_eq!(kind_of_failure(&store).await, ErrorKind::Unavailable);
        assert_eq!(store.check().await.status, Status::Down);
        faults.heal();
        commit_at_last(&store).await;
        assert_eq!(store.check().await.status, Status::Up);
    }

    #[tokio::test]
    async fn what_fails_otherwise_poisons_also_the_attempt_to_go_on() {
        let (store, faults) = store();
        faults.once(Operation::Write, Fault::Broken, 0);
        assert_eq!(kind_of_failure(&store).await, ErrorKind::Indeterminate);
        assert_eq!(kind_of_failure(&store).await, ErrorKind::Poisoned);

        let (store, faults) = self::store();
        faults.once(Operation::Write, Fault::Full, 0);
        faults.once(Operation::Open, Fault::Broken, 0);
        assert_eq!(kind_of_failure(&store).await, ErrorKind::Indeterminate);
        while kind_of_failure(&store).await == ErrorKind::Unavailable {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(kind_of_failure(&store).await, ErrorKind::Poisoned);
    }
}
