//! What a room that is over leaves behind is removed by a task, once the tokens that it was played with
//! are good no longer: the generations of its players' tokens, and the snapshots of its state. Its events stay;
//! they are the record.
//!
//! A task waits in a durable queue for as long as a token is good, so it comes due also over restarts.
//! Whoever still comes back later loses nothing: a token that is genuine is good without its
//! generation, and a room without a snapshot is read from its events.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Error, ErrorKind, Result,
    codec::Payload,
    event::RecordedEvent,
    health::{Finding, HealthCheck},
    id::StreamName,
    lifecycle::Stop,
    snapshot::SnapshotStore,
    store::Batch,
};
use infra_messaging::handler::Job;
use serde::{Deserialize, Serialize};

use super::{
    projection::{Checkpoint, Projection},
    task_queue::Place,
    tasks::{Home, Tasks, failure},
};
use crate::{
    credentials::{self, LIFETIME},
    rooms::room_of,
};

/// How many rooms may wait for their time; behind that the log waits.
const CAPACITY: usize = 50_000;

/// A room that is over.
#[derive(Debug, Serialize, Deserialize)]
struct Over {
    stream: StreamName,
}

/// The queue of rooms that are over. Clones are the same queue.
#[derive(Debug, Clone)]
pub(super) struct CleanUp {
    tasks: Tasks,
    snapshots: Arc<dyn SnapshotStore>,
    after: Duration,
}

impl CleanUp {
    /// Returns the queue itself.
    pub(super) fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }

    pub(super) async fn open(place: Place, snapshots: Arc<dyn SnapshotStore>) -> Result<Self> {
        let (queue, name) = ("clean-up", "clean-up queue");
        let home = Home { queue, name, capacity: CAPACITY, place };
        Ok(Self { tasks: Tasks::open(home).await?, snapshots, after: LIFETIME })
    }

    /// Sets how long after its end a room is cleaned up; a day by default.
    pub(super) const fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }

    /// Cleans up until the service stops.
    pub(super) async fn run(&self, stop: Stop) {
        let cleaning = self.clone();
        let clean = tower::service_fn(move |job: Job| {
            let cleaning = cleaning.clone();
            async move {
                let over: Over = job.message.payload.decode()?;
                cleaning.clean(&over).await.map_err(|error| failure(&error))
            }
        });
        self.tasks.run(clean, stop).await;
    }

    /// Removes what is not needed any more of a room; a second time there is nothing left to do.
    async fn clean(&self, over: &Over) -> Result<()> {
        let broken = || Error::new(ErrorKind::Corrupt, "clean up").detail(over.stream.to_string());
        let room = room_of(&over.stream).ok_or_else(broken)?;
        let tokens = credentials::forget(self.tasks.documents().as_ref(), room).await?;
        let snapshots = self.snapshots.prune(&over.stream, 0).await?;
        tracing::debug!(%room, tokens, snapshots, "cleaned up");
        Ok(())
    }
}

#[async_trait]
impl HealthCheck for CleanUp {
    fn name(&self) -> &'static str {
        self.tasks.name()
    }

    async fn check(&self) -> Finding {
        self.tasks.check().await
    }
}

#[async_trait]
impl Projection for CleanUp {
    const NAME: &'static str = "clean-up";
    const EVENTS: &'static [&'static str] = &["game_ended", "room_abandoned"];

    async fn take(&self, events: &[RecordedEvent], checkpoint: Checkpoint) -> Result<()> {
        let mut rooms = Vec::new();
        for event in events {
            let over = Over { stream: event.stream.clone() };
            let task = self.tasks.mint().message(Payload::json(1, &over)?);
            rooms.push(task.delay(self.after).dedup(event.event.id.to_string()));
        }
        self.tasks.publish(rooms).await?;
        self.tasks.documents().commit(Batch::new().write(checkpoint.write()?)).await.map(|_| ())
    }

    /// A room whose end was lost is not over; those that are come back with the log.
    async fn reset(&self) -> Result<()> {
        self.tasks.queue().clear().await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use infra_core::{
        Clock, SystemClock,
        event::{Append, EventStore, NewEvent},
        id::{Collection, EventId, EventType},
        lifecycle::Shutdown,
        random::Random,
        snapshot::Snapshot,
        store::{DocumentStore, Scan},
        version::{Expected, Version},
    };
    use infra_events::MemoryEventStore;
    use infra_persistence::Snapshots;
    use infra_testkit::model::ModelDocuments;
    use infra_ws::token::KeyRing;

    use super::{super::projection::Follower, *};
    use crate::{credentials::Credentials, domain::PlayerId, protocol::RoomCode};

    const ROOMS: [&str; 3] = ["AAAAAA", "BBBBBB", "CCCCCC"];

    fn stream(room: &str) -> StreamName {
        StreamName::new(format!("room-{room}")).unwrap()
    }

    async fn open(documents: &Arc<dyn DocumentStore>, clock: &Arc<dyn Clock>) -> CleanUp {
        let snapshots = Arc::new(Snapshots::new(Arc::clone(documents)).unwrap());
        let (documents, clock) = (Arc::clone(documents), Arc::clone(clock));
        let place = Place { documents, backend: None, clock };
        CleanUp::open(place, snapshots).await.unwrap()
    }

    /// Gives each room two tokens and a snapshot.
    async fn furnish(documents: &Arc<dyn DocumentStore>, clock: &Arc<dyn Clock>) {
        let ring = KeyRing::from_secret([7; 32]);
        let credentials = Credentials::new(ring, Arc::clone(documents), Arc::clone(clock)).unwrap();
        let snapshots = Snapshots::new(Arc::clone(documents)).unwrap();
        for room in ROOMS {
            for number in 0..2 {
                let player = PlayerId::from_uuid(uuid::Uuid::from_u128(number));
                credentials.issue(player, RoomCode::new(room).unwrap()).await.unwrap();
            }
            let (stream, version) = (stream(room), Version::new(3));
            let payload = Payload::json(1, &"a room").unwrap();
            let snapshot = Snapshot { stream, version, payload, taken: clock.wall() };
            let durability = documents.features().durability;
            snapshots.put_snapshot(snapshot, durability, None).await.unwrap();
        }
    }

    /// Returns how many documents each room has of the two kinds.
    async fn kept(documents: &Arc<dyn DocumentStore>) -> Vec<(usize, usize)> {
        let count = async |collection: &str, prefix: String| {
            let collection = Collection::new(collection).unwrap();
            documents.scan(&collection, Scan::prefix(prefix, 99)).await.unwrap().len()
        };
        let mut kept = Vec::new();
        for room in ROOMS {
            let tokens = count("tokens", format!("{room}/")).await;
            kept.push((tokens, count("snapshots", format!("room-{room}")).await));
        }
        kept
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_is_over_is_cleaned_up_once_its_tokens_are_of_no_use_also_after_a_restart()
    {
        let clock = SystemClock::shared();
        let documents: Arc<dyn DocumentStore> = Arc::new(ModelDocuments::new(Arc::clone(&clock)));
        furnish(&documents, &clock).await;
        let events = Arc::new(MemoryEventStore::new(Arc::clone(&clock)));
        for (room, kind) in [("AAAAAA", "game_ended"), ("CCCCCC", "room_abandoned")] {
            let id = EventId::generate(clock.wall(), &Random::from_system());
            let (kind, body) = (EventType::new(kind).unwrap(), Payload::json(1, &()).unwrap());
            let over = vec![NewEvent::new(id, kind, body)];
            events.append(Append::to(stream(room), Expected::Absent, over)).await.unwrap();
        }
        let run_for = async |time: Duration| {
            let clean_up = open(&documents, &clock).await;
            let (events, documents) = (Arc::clone(&events), Arc::clone(&documents));
            let follower = Follower::new(events, documents, clean_up.clone()).unwrap();
            follower.catch_up().await.unwrap();
            let (shutdown, working) = (Shutdown::new(), clean_up.clone());
            let stop = shutdown.stop();
            shutdown.spawn(async move { working.run(stop).await });
            tokio::time::sleep(time).await;
            let stats = clean_up.tasks.queue().stats().await.unwrap();
            shutdown.close(Duration::from_secs(9)).await;
            assert_eq!(clean_up.check().await, Finding::up());
            stats.delayed
        };
        let minute = Duration::from_mins(1);
        assert_eq!(run_for(LIFETIME / 2).await, 2);
        assert_eq!(run_for((LIFETIME / 2).saturating_sub(minute)).await, 2);
        assert_eq!(kept(&documents).await, [(2, 1); 3], "somebody may still come back");
        assert_eq!(run_for(minute * 2).await, 0);
        assert_eq!(kept(&documents).await, [(0, 0), (2, 1), (0, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_whose_end_the_log_has_lost_is_not_cleaned_up() {
        let clock = SystemClock::shared();
        let documents: Arc<dyn DocumentStore> = Arc::new(ModelDocuments::new(Arc::clone(&clock)));
        let clean_up = open(&documents, &clock).await;
        let ended = Arc::new(MemoryEventStore::new(Arc::clone(&clock)));
        let id = EventId::generate(clock.wall(), &Random::from_system());
        let kind = EventType::new("game_ended").unwrap();
        let over = vec![NewEvent::new(id, kind, Payload::json(1, &()).unwrap())];
        ended.append(Append::to(stream("AAAAAA"), Expected::Absent, over)).await.unwrap();
        let delayed = async |events: Arc<MemoryEventStore>| {
            let follower = Follower::new(events, Arc::clone(&documents), clean_up.clone()).unwrap();
            follower.catch_up().await.unwrap();
            clean_up.tasks.queue().stats().await.unwrap().delayed
        };
        assert_eq!(delayed(ended).await, 1);
        assert_eq!(delayed(Arc::new(MemoryEventStore::new(Arc::clone(&clock)))).await, 0);
    }
}
