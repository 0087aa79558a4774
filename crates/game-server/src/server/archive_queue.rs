//! Finished games on their way to the archive: each is a task of a queue, so one that cannot be
//! archived holds up none behind it.
//!
//! A task is published before the log's checkpoint moves on, with a dedup id, and the archive takes
//! a name once; so a game is archived once whenever the process ends. While the archive is away its
//! games wait in the queue. A game that is broken itself is a dead letter, which the queue's health
//! shows, and is tried once more by each start.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    codec::Payload,
    event::RecordedEvent,
    health::{Finding, HealthCheck},
    id::QueueName,
    lifecycle::Stop,
    queue::Queue,
    random::Random,
    store::{Batch, DocumentStore},
};
use infra_messaging::{
    DurableQueue, Mint, Options, QueueHealth,
    handler::{Failure, Job, Schedule, Worker},
};
use parking_lot::Mutex;

use super::{
    archivist::{Archivist, Ended},
    projection::{Checkpoint, Projection},
};

/// How many games may wait; behind that the log waits.
const CAPACITY: usize = 10_000;

/// How many games are archived at a time.
const AT_ONCE: usize = 2;

/// In how many processes that ended a game may have been in hand before it is a dead letter.
const MAX_CRASHES: u32 = 10;

/// The pause before a queue whose store failed is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// The queue of finished games. Clones are the same queue.
#[derive(Debug, Clone)]
pub(super) struct ArchiveQueue {
    /// It is another one after the store failed.
    queue: Arc<Mutex<DurableQueue>>,
    documents: Arc<dyn DocumentStore>,
    clock: Arc<dyn Clock>,
    mint: Mint,
}

async fn open(documents: &Arc<dyn DocumentStore>, clock: &Arc<dyn Clock>) -> Result<DurableQueue> {
    let options = Options::new(CAPACITY).max_failures(u32::MAX).max_crashes(MAX_CRASHES);
    let name = QueueName::new("archive")?;
    DurableQueue::open(Arc::clone(documents), name, options, Arc::clone(clock)).await
}

fn warn(error: &Error, what: &str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}

/// Returns what becomes of a game that was not archived: only what is wrong with itself is a reason
/// to give it up.
fn failure(error: &Error) -> Failure {
    let is_broken =
        matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Unsupported);
    if is_broken { Failure::permanent(error) } else { Failure::retryable(error) }
}

impl ArchiveQueue {
    pub(super) async fn open(
        documents: Arc<dyn DocumentStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let queue = open(&documents, &clock).await?;
        for letter in queue.dead_letters(CAPACITY).await? {
            queue.replay(letter.message.id).await?;
        }
        let mint = Mint::new(Arc::clone(&clock), Random::from_system());
        Ok(Self { queue: Arc::new(Mutex::new(queue)), documents, clock, mint })
    }

    fn queue(&self) -> DurableQueue {
        self.queue.lock().clone()
    }

    /// Archives games until the service stops.
    pub(super) async fn run(&self, archivist: Archivist, stop: Stop) {
        while let Err(error) = self.work(archivist.clone(), stop.clone()).await {
            warn(&error, "archive queue failed and is opened again");
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.requested() => break,
            }
            // As long as it cannot be opened, the one that failed says so again.
            if let Ok(queue) = open(&self.documents, &self.clock).await {
                *self.queue.lock() = queue;
            }
        }
        // What was given back is written before the stores end.
        if let Err(error) = self.queue().close().await {
            warn(&error, "archive queue not closed");
        }
    }

    async fn work(&self, archivist: Archivist, stop: Stop) -> Result<()> {
        let keep = tower::service_fn(move |job: Job| {
            let archivist = archivist.clone();
            async move {
                let ended: Ended = job.message.payload.decode()?;
                archivist.keep(&ended).await.map_err(|error| failure(&error))
            }
        });
        let retries = Schedule::exponential(PAUSE, 2.0, u32::MAX).jitter(0.5);
        let worker = Worker::new(Arc::new(self.queue()), keep)
            .concurrency(AT_ONCE)
            .schedule(retries, Random::from_system())
            .grace(Duration::from_secs(1));
        worker.run(stop).await.map(|_| ())
    }
}

#[async_trait]
impl HealthCheck for ArchiveQueue {
    fn name(&self) -> &'static str {
        "archive queue"
    }

    async fn check(&self) -> Finding {
        let health = QueueHealth::new(self.name(), Arc::new(self.queue()));
        health.max_age(Duration::from_mins(5)).check().await
    }
}

#[async_trait]
impl Projection for ArchiveQueue {
    const NAME: &'static str = "archive";

    fn concerns(&self, event: &RecordedEvent) -> bool {
        event.event.event_type.as_str() == "game_ended"
    }

    async fn take(&self, events: &[RecordedEvent], checkpoint: Checkpoint) -> Result<()> {
        let mut tasks = Vec::new();
        for event in events {
            let task = self.mint.message(Payload::json(1, &Ended::of(event))?);
            tasks.push(task.dedup(event.event.id.to_string()));
        }
        let queue = self.queue();
        queue.publish(tasks, queue.features().durability).await?;
        self.documents.commit(Batch::new().write(checkpoint.write()?)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use infra_core::{
        SystemClock,
        archive::ArchiveStore,
        event::{Append, EventStore, NewEvent},
        id::{EventId, EventType, StreamName},
        lifecycle::Shutdown,
        version::Expected,
    };
    use infra_events::MemoryEventStore;
    use infra_persistence::{Archive, Documents, memory};
    use serde_json::{Value, json};

    use super::{super::projection::Follower, *};

    struct Stage {
        clock: Arc<dyn Clock>,
        events: Arc<dyn EventStore>,
        documents: Arc<Documents>,
        archive: Arc<dyn ArchiveStore>,
        queue: ArchiveQueue,
    }

    impl Stage {
        async fn new() -> Self {
            let clock = SystemClock::shared();
            let documents = Arc::new(memory(Arc::clone(&clock)).unwrap());
            let queue = Self::open(&documents, &clock).await;
            let events = Arc::new(MemoryEventStore::new(Arc::clone(&clock)));
            let archive = Arc::new(Archive::in_memory());
            Self { clock, events, documents, archive, queue }
        }

        async fn open(documents: &Arc<Documents>, clock: &Arc<dyn Clock>) -> ArchiveQueue {
            let documents = Arc::<Documents>::clone(documents);
            ArchiveQueue::open(documents, Arc::clone(clock)).await.unwrap()
        }

        async fn end_game(&self, room: &str, body: &Value) {
            let random = Random::from_system();
            let id = EventId::generate(self.clock.wall(), &random);
            let payload = Payload::json(1, body).unwrap();
            let ended = NewEvent::new(id, EventType::new("game_ended").unwrap(), payload);
            let stream = StreamName::new(format!("room-{room}")).unwrap();
            let append = Append::to(stream, Expected::Absent, vec![ended]);
            self.events.append(append).await.unwrap();
        }

        /// Reads the log to its end, once the queue takes it.
        async fn follow(&self) {
            let documents = Arc::clone(&self.queue.documents);
            let events = Arc::clone(&self.events);
            let follower = Follower::new(events, documents, self.queue.clone()).unwrap();
            while follower.catch_up().await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }

        /// Archives until so many games are archived and so many are dead letters.
        async fn work_until(&self, games: usize, dead: u64) {
            let shutdown = Shutdown::new();
            let (events, archive) = (Arc::clone(&self.events), Arc::clone(&self.archive));
            let archivist = Archivist { events, archive };
            let (working, stop) = (self.queue.clone(), shutdown.stop());
            shutdown.spawn(async move { working.run(archivist, stop).await });
            self.follow().await;
            let is_done = async || {
                let archived = self.archive.list("games", "", 9).await.unwrap().len();
                let stats = self.queue.queue().stats().await;
                archived == games && stats.is_ok_and(|stats| stats.dead == dead)
            };
            while !is_done().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            shutdown.close(Duration::from_secs(9)).await;
        }
    }

    fn ended() -> Value {
        json!({"type": "game_ended", "rounds": 1, "scores": [7, 0, 0, 0], "winners": [0]})
    }

    #[tokio::test]
    async fn a_game_that_cannot_be_read_holds_up_none_and_is_tried_again_by_the_next_start() {
        let stage = Stage::new().await;
        stage.end_game("AAAAAA", &ended()).await;
        stage.end_game("BBBBBB", &json!({"type": "nothing"})).await;
        stage.end_game("CCCCCC", &ended()).await;
        stage.work_until(2, 1).await;
        let next = Stage::open(&stage.documents, &stage.clock).await;
        let found = next.check().await;
        assert_eq!((next.name(), found), ("archive queue", Finding::up()));
        let stats = next.queue().stats().await.unwrap();
        assert_eq!((stats.ready, stats.dead), (1, 0));
    }

    #[tokio::test]
    async fn a_queue_whose_store_failed_is_opened_again() {
        let stage = Stage::new().await;
        let gone: Arc<Documents> = Arc::new(memory(Arc::clone(&stage.clock)).unwrap());
        let store: Arc<dyn DocumentStore> = Arc::<Documents>::clone(&gone);
        *stage.queue.queue.lock() = open(&store, &stage.clock).await.unwrap();
        gone.close().await;
        stage.end_game("AAAAAA", &ended()).await;
        stage.work_until(1, 0).await;
    }

    #[test]
    fn only_what_is_wrong_with_a_game_itself_is_a_reason_to_give_it_up() {
        let said = |kind| failure(&Error::new(kind, "archive game"));
        for kind in [ErrorKind::Unavailable, ErrorKind::Denied, ErrorKind::NotFound] {
            assert!(matches!(said(kind), Failure::Retryable(_)));
        }
        for kind in [ErrorKind::Corrupt, ErrorKind::Invalid, ErrorKind::Unsupported] {
            assert!(matches!(said(kind), Failure::Permanent(_)));
        }
    }
}
