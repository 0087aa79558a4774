//! A queue of the server's own tasks, which is opened again should it fail.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Error, ErrorKind, Result,
    health::{Finding, HealthCheck},
    lifecycle::Stop,
    queue::{Message, Queue},
    random::Random,
    store::DocumentStore,
};
use infra_messaging::{
    Mint, QueueHealth,
    handler::{Failure, Job, Schedule, Worker},
};
use parking_lot::Mutex;
use tower::Service;

use super::task_queue::{Place, TaskQueue};

/// How many tasks are worked on at a time.
const AT_ONCE: usize = 2;

/// How many dead letters are tried once more at a start.
const MAX_REPLAYS: usize = 10_000;

/// The pause before a queue whose store failed is opened again, and before a task is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What a queue of tasks is and where it is kept.
#[derive(Debug, Clone)]
pub(super) struct Home {
    /// Its name among the queues.
    pub(super) queue: &'static str,
    /// As what its health is shown.
    pub(super) name: &'static str,
    /// How many tasks may wait; behind that they are refused, and the follower asks again each second.
    pub(super) capacity: usize,
    pub(super) place: Place,
}

/// A queue of tasks. Clones are the same queue.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    home: Home,
    /// It is another one after the store failed.
    queue: Arc<Mutex<TaskQueue>>,
    mint: Mint,
}

/// Returns what becomes of a task that was not done: only what is wrong with itself is a reason to
/// give it up.
pub(super) fn failure(error: &Error) -> Failure {
    let is_broken =
        matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Unsupported);
    if is_broken { Failure::permanent(error) } else { Failure::retryable(error) }
}

impl Home {
    async fn open(&self) -> Result<TaskQueue> {
        self.place.open(self.queue, self.capacity).await
    }

    fn warn(&self, error: &Error, what: &str) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(queue = self.queue, error, "{what}");
    }
}

impl Tasks {
    /// Opens the queue; what was given up in the last process is tried once more.
    pub(super) async fn open(home: Home) -> Result<Self> {
        let queue = home.open().await?;
        let port = queue.port();
        for letter in port.dead_letters(MAX_REPLAYS).await? {
            port.replay(letter.message.id).await?;
        }
        let mint = Mint::new(Arc::clone(&home.place.clock), Random::from_system());
        Ok(Self { home, queue: Arc::new(Mutex::new(queue)), mint })
    }

    pub(super) fn queue(&self) -> Arc<dyn Queue> {
        self.queue.lock().port()
    }

    /// Ends the work once the queue is empty.
    #[cfg(test)]
    pub(super) fn drain(&self) {
        self.queue.lock().drain();
    }

    /// Returns how many tasks may wait.
    pub(super) const fn capacity(&self) -> usize {
        self.home.capacity
    }

    pub(super) const fn mint(&self) -> &Mint {
        &self.mint
    }

    pub(super) fn documents(&self) -> &Arc<dyn DocumentStore> {
        &self.home.place.documents
    }

    /// Publishes tasks, as safely as the store can.
    pub(super) async fn publish(&self, tasks: Vec<Message>) -> Result<()> {
        let queue = self.queue();
        queue.publish(tasks, queue.features().durability).await.map(|_| ())
    }

    /// Works on tasks until the service stops.
    pub(super) async fn run<S>(&self, work: S, stop: Stop)
    where
        S: Service<Job, Response = (), Error = Failure> + Clone + Send + 'static,
        S::Future: Send,
    {
        while let Err(error) = self.work(work.clone(), stop.clone()).await {
            self.home.warn(&error, "task queue failed and is opened again");
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.requested() => break,
            }
            // As long as it cannot be opened, the one that failed says so again.
            if let Ok(queue) = self.home.open().await {
                *self.queue.lock() = queue;
            }
        }
        // What was given back is written before the stores end.
        let queue = self.queue.lock().clone();
        if let Err(error) = queue.close().await {
            self.home.warn(&error, "task queue not closed");
        }
    }

    async fn work<S>(&self, work: S, stop: Stop) -> Result<()>
    where
        S: Service<Job, Response = (), Error = Failure> + Clone + Send + 'static,
        S::Future: Send,
    {
        let retries = Schedule::exponential(PAUSE, 2.0, u32::MAX).jitter(0.5);
        let worker = Worker::new(self.queue(), work)
            .concurrency(AT_ONCE)
            .schedule(retries, Random::from_system())
            .grace(Duration::from_secs(1));
        worker.run(stop).await.map(|_| ())
    }
}

#[async_trait]
impl HealthCheck for Tasks {
    fn name(&self) -> &'static str {
        self.home.name
    }

    async fn check(&self) -> Finding {
        let health = QueueHealth::new(self.name(), self.queue());
        health.max_age(Duration::from_mins(5)).check().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use infra_core::{SystemClock, codec::Payload, lifecycle::Shutdown, store::DocumentStore};
    use infra_persistence::{Documents, memory};
    use infra_testkit::model::ModelDocuments;
    use tokio::sync::mpsc;

    use super::*;

    /// Opens a queue that reads a store through `through`.
    async fn tasks(through: Arc<dyn DocumentStore>) -> Tasks {
        let (queue, name) = ("work", "work queue");
        let place = Place { documents: through, backend: None, clock: SystemClock::shared() };
        let home = Home { queue, name, capacity: 9, place };
        Tasks::open(home).await.unwrap()
    }

    fn documents() -> Arc<Documents> {
        Arc::new(memory(SystemClock::shared()).unwrap())
    }

    #[tokio::test]
    async fn a_queue_whose_store_failed_is_opened_again() {
        let (gone, good) = (documents(), documents());
        let before = tasks(Arc::clone(&good) as _).await;
        let message = |number: u32| before.mint().message(Payload::json(1, &number).unwrap());
        let (task, lost) = (message(7), message(8));
        before.publish(vec![task.clone()]).await.unwrap();
        let queue = before.queue.lock().clone();
        queue.close().await.unwrap();
        let mut tasks = tasks(Arc::clone(&gone) as _).await;
        // It is opened again where the store is good, and the task waits.
        tasks.home.place.documents = good;
        gone.close().await;
        tasks.publish(vec![lost]).await.unwrap_err();
        let shutdown = Shutdown::new();
        let (told, mut heard) = mpsc::unbounded_channel();
        let work = tower::service_fn(move |job: Job| {
            let told = told.clone();
            async move {
                let _is_heard = told.send(job.message.id).is_ok();
                Ok(())
            }
        });
        let (working, stop) = (tasks.clone(), shutdown.stop());
        shutdown.spawn(async move { working.run(work, stop).await });
        assert_eq!(heard.recv().await, Some(task.id));
        shutdown.close(Duration::from_secs(9)).await;
        assert_eq!((tasks.name(), tasks.check().await), ("work queue", Finding::up()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_refused_is_tried_again_until_it_is_done() {
        let tasks = tasks(Arc::new(ModelDocuments::new(SystemClock::shared()))).await;
        let task = tasks.mint().message(Payload::json(1, &7).unwrap());
        tasks.publish(vec![task]).await.unwrap();
        // Nothing more comes, so the work ends by itself once it is done.
        tasks.drain();
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let work = tower::service_fn(move |_: Job| {
            let is_refused = counted.fetch_add(1, SeqCst) < 20;
            async move {
                let refused = || failure(&Error::new(ErrorKind::Unavailable, "archive game"));
                if is_refused { Err(refused()) } else { Ok(()) }
            }
        });
        tasks.run(work, Shutdown::new().stop()).await;
        assert_eq!(count.load(SeqCst), 21);
        assert_eq!(tasks.queue().stats().await.unwrap().dead, 0);
    }

    #[tokio::test]
    async fn a_place_that_keeps_no_queues_is_refused() {
        let backend = Some(crate::config::Backend::Memory);
        let place = Place { documents: documents(), backend, clock: SystemClock::shared() };
        let refused = place.open("work", 9).await.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Unsupported);
        assert!(refused.to_string().contains("queues in memory:"), "{refused}");
    }

    #[test]
    fn only_what_is_wrong_with_a_task_itself_is_a_reason_to_give_it_up() {
        let said = |kind| failure(&Error::new(kind, "do task"));
        for kind in [ErrorKind::Unavailable, ErrorKind::Denied, ErrorKind::NotFound] {
            assert!(matches!(said(kind), Failure::Retryable(_)));
        }
        for kind in [ErrorKind::Corrupt, ErrorKind::Invalid, ErrorKind::Unsupported] {
            assert!(matches!(said(kind), Failure::Permanent(_)));
        }
    }
}
