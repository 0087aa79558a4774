//! Finished games on their way to the archive: each is a task of a queue, so one that cannot be
//! archived holds up none behind it.
//!
//! A task is published before the log's checkpoint moves on, with a dedup id, and the archive takes
//! a name once; so a game is archived once whenever the process ends. While the archive is away its
//! games wait in the queue. A game that is broken itself is a dead letter, which the queue's health
//! shows, and is tried once more by each start.

use async_trait::async_trait;
use infra_core::{
    Result,
    codec::Payload,
    event::RecordedEvent,
    health::{Finding, HealthCheck},
    lifecycle::Stop,
    store::Batch,
};
use infra_messaging::handler::Job;
use infra_observability::trace::traced_result;

use super::{
    archivist::{Archivist, Ended},
    projection::{Checkpoint, Projection},
    task_queue::Place,
    tasks::{Home, Tasks, failure},
};

/// How many games may wait; behind that the log waits.
const CAPACITY: usize = 10_000;

/// The queue of finished games. Clones are the same queue.
#[derive(Debug, Clone)]
pub(super) struct ArchiveQueue(Tasks);

impl ArchiveQueue {
    pub(super) async fn open(place: Place) -> Result<Self> {
        let (queue, name) = ("archive", "archive queue");
        Tasks::open(Home { queue, name, capacity: CAPACITY, place }).await.map(Self)
    }

    /// Returns the queue itself.
    pub(super) fn tasks(&self) -> Tasks {
        self.0.clone()
    }

    /// Archives games until the service stops.
    pub(super) async fn run(&self, archivist: Archivist, stop: Stop) {
        let keep = tower::service_fn(move |job: Job| {
            let archivist = archivist.clone();
            // Of the trace of the action that ended the game, whenever that was.
            let span = tracing::info_span!("game.archive", otel.kind = "consumer");
            traced_result(span, async move {
                let ended: Ended = job.message.payload.decode()?;
                archivist.keep(&ended).await.map_err(|error| failure(&error))
            })
        });
        self.0.run(keep, stop).await;
    }
}

#[async_trait]
impl HealthCheck for ArchiveQueue {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn check(&self) -> Finding {
        self.0.check().await
    }
}

#[async_trait]
impl Projection for ArchiveQueue {
    const NAME: &'static str = "archive";
    const EVENTS: &'static [&'static str] = &["game_ended"];

    async fn take(&self, events: &[RecordedEvent], checkpoint: Checkpoint) -> Result<()> {
        let mut games = Vec::new();
        for event in events {
            // Of the context of the action that ended the game.
            let payload = Payload::json(1, &Ended::of(event))?;
            let task = event.context().sync_scope(|| self.0.mint().message(payload));
            games.push(task.dedup(event.event.id.to_string()));
        }
        self.0.publish(games).await?;
        self.0.documents().commit(Batch::new().write(checkpoint.write()?)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use infra_core::{
        Clock, SystemClock,
        archive::ArchiveStore,
        event::{Append, EventStore, NewEvent},
        id::{EventId, EventType, StreamName},
        lifecycle::Shutdown,
        random::Random,
        version::Expected,
    };
    use infra_events::MemoryEventStore;
    use infra_persistence::{Archive, Documents, memory};
    use serde_json::{Value, json};

    use super::{super::projection::Follower, *};
    use crate::people::{DocumentVault, People};

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
            let place = Place { documents, backend: None, clock: Arc::clone(clock) };
            ArchiveQueue::open(place).await.unwrap()
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

        /// Reads the log to its end.
        async fn follow(&self) {
            let (events, documents) =
                (Arc::clone(&self.events), Arc::clone(self.queue.0.documents()));
            let follower = Follower::new(events, documents, self.queue.clone()).unwrap();
            follower.catch_up().await.unwrap();
        }

        /// Works on what the log has; returns how many games are archived, and how many dead letters.
        async fn work(&self) -> (usize, u64) {
            let (events, archive) = (Arc::clone(&self.events), Arc::clone(&self.archive));
            self.follow().await;
            // Nothing more comes, so the work ends by itself.
            self.queue.0.drain();
            let vault = DocumentVault::new(Arc::<Documents>::clone(&self.documents)).unwrap();
            let people = People::open(Arc::new(vault), Arc::clone(&self.clock)).await.unwrap();
            let archivist = Archivist { events, archive, people };
            self.queue.run(archivist, Shutdown::new().stop()).await;
            let archived = self.archive.list("games", "", 9).await.unwrap().len();
            (archived, self.queue.0.queue().stats().await.unwrap().dead)
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
        assert_eq!(stage.work().await, (2, 1));
        let next = Stage::open(&stage.documents, &stage.clock).await;
        let found = next.check().await;
        assert_eq!((next.name(), found), ("archive queue", Finding::up()));
        let stats = next.0.queue().stats().await.unwrap();
        assert_eq!((stats.ready, stats.dead), (1, 0));
    }
}
