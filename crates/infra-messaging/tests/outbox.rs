//! Outboxes, and request and reply.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result, SystemClock,
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    event::{Append, EventStore, NewEvent},
    health::{HealthCheck, Status},
    id::{Collection, EventId, EventType, MessageId, QueueName, StreamName},
    lifecycle::Shutdown,
    pubsub::{Pattern, PubSub, Subject},
    queue::{Cause, DeadLetter, Delivery, Features, Message, Queue, Stats},
    random::Random,
    store::{Batch, DocumentStore},
    version::Expected,
};
use infra_messaging::{
    MemoryPubSub, MemoryQueue, Mint, Options, QueueHealth,
    outbox::{DocumentRelay, EventRelay},
    request::{Requester, answer},
};
use infra_testkit::model::{ModelDocuments, ModelEvents};

/// A queue where each third publish takes the messages and then loses its answer, as when the
/// process ends before the relay has noted that they are out.
#[derive(Debug)]
struct LosesAnswers {
    inner: MemoryQueue,
    n_publishes: AtomicU32,
}

#[async_trait]
impl Queue for LosesAnswers {
    fn name(&self) -> &QueueName {
        self.inner.name()
    }

    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn publish(&self, messages: Vec<Message>, durability: Durability) -> Result<Vec<bool>> {
        let new = self.inner.publish(messages, durability).await?;
        if self.n_publishes.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
            return Err(Error::new(ErrorKind::Indeterminate, "publish message"));
        }
        Ok(new)
    }

    async fn receive(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>> {
        self.inner.receive(limit, lease).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.inner.stats().await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        self.inner.dead_letters(limit).await
    }

    async fn peek(&self, limit: usize) -> Result<Vec<Message>> {
        self.inner.peek(limit).await
    }

    async fn replay(&self, id: MessageId) -> Result<bool> {
        self.inner.replay(id).await
    }

    async fn purge_dead(&self, before: Timestamp, cause: Option<Cause>) -> Result<u64> {
        self.inner.purge_dead(before, cause).await
    }

    async fn clear(&self) -> Result<u64> {
        self.inner.clear().await
    }

    async fn set_paused(&self, paused: bool) -> Result<()> {
        self.inner.set_paused(paused).await
    }
}

fn queue() -> MemoryQueue {
    MemoryQueue::new(QueueName::new("mail").unwrap(), Options::new(9_999), SystemClock::shared())
}

fn losing() -> (Arc<LosesAnswers>, MemoryQueue) {
    let inner = queue();
    let losing = LosesAnswers { inner: inner.clone(), n_publishes: AtomicU32::new(0) };
    (Arc::new(losing), inner)
}

fn mint() -> Mint {
    Mint::new(SystemClock::shared(), Random::seeded(1))
}

fn documents() -> Arc<dyn DocumentStore> {
    Arc::new(ModelDocuments::new(SystemClock::shared()))
}

async fn numbers(queue: &MemoryQueue) -> Vec<u64> {
    let peeked = queue.peek(9_999).await.unwrap();
    peeked.iter().map(|message| message.payload.decode().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn rows_are_published_once_whenever_the_relay_ends() {
    let (store, (losing, queue)) = (documents(), losing());
    let relay = DocumentRelay::new("mail", Arc::clone(&store), losing).unwrap();
    let players = Collection::new("players").unwrap();
    let (mint, clock) = (mint(), Random::seeded(2));
    for number in 0..600_u64 {
        tokio::time::advance(Duration::from_millis(1 + clock.below(3))).await;
        let row = relay.row(&mint.message(Payload::json(1, &number).unwrap())).unwrap();
        let player = Payload::json(1, &number).unwrap();
        let key = number.to_be_bytes().to_vec();
        let batch = Batch::new().put(players.clone(), key.clone(), Expected::Absent, player);
        store.commit(batch.write(row).clone()).await.unwrap();
        // A batch that is refused leaves no row.
        let row = relay.row(&mint.message(Payload::json(1, &9_999_u64).unwrap())).unwrap();
        let refused = Batch::new().put(players.clone(), key, Expected::Absent, Payload::raw("x"));
        store.commit(refused.write(row)).await.unwrap_err();
    }
    let shutdown = Shutdown::new();
    let running = {
        let (relay, stop) = (relay.clone(), shutdown.stop());
        tokio::spawn(async move { relay.run(stop).await })
    };
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(numbers(&queue).await, (0..600).collect::<Vec<_>>(), "each once, in order");
    let row = relay.row(&mint.message(Payload::json(1, &600_u64).unwrap())).unwrap();
    store.commit(Batch::new().write(row)).await.unwrap();
    relay.nudge();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(numbers(&queue).await.len(), 601);
    shutdown.begin();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn events_are_published_once_and_in_order_whenever_the_relay_ends() {
    let (store, (losing, queue)) = (documents(), losing());
    let events: Arc<dyn EventStore> = Arc::new(ModelEvents::new(SystemClock::shared()));
    let random = Random::seeded(4);
    let stream = StreamName::new("room-1").unwrap();
    let append = async |number: u64| {
        let id = EventId::generate(SystemClock::new().wall(), &random);
        let event_type =
            EventType::new(if number.is_multiple_of(2) { "even" } else { "odd" }).unwrap();
        let event = NewEvent::new(id, event_type, Payload::json(1, &number).unwrap());
        let append = Append::to(stream.clone(), Expected::Any, vec![event]);
        events.append(append).await.unwrap();
    };
    for number in 0..700 {
        append(number).await;
    }
    let relay = || {
        let map = |event: &infra_core::event::RecordedEvent| {
            let is_even = event.event.event_type.as_str() == "even";
            let own = MessageId::from_uuid(event.event.id.as_uuid());
            Ok(is_even.then(|| Message::new(own, event.event.payload.clone())))
        };
        let (events, losing, store) =
            (Arc::clone(&events), Arc::clone(&losing), Arc::clone(&store));
        EventRelay::new("mail", events, losing, store, map).unwrap()
    };
    // Each step is of another process.
    for _ in 0..20 {
        let _stepped = relay().step().await;
    }
    let even = |to: u64| (0..to).filter(|number| number.is_multiple_of(2)).collect::<Vec<_>>();
    assert_eq!(numbers(&queue).await, even(700));
    let shutdown = Shutdown::new();
    let (live, stop) = (relay(), shutdown.stop());
    let running = tokio::spawn(async move { live.run(stop).await });
    append(700).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(numbers(&queue).await, even(702));
    shutdown.begin();
    tokio::time::sleep(Duration::from_secs(5)).await;
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_or_times_out_at_its_deadline() {
    let bus: Arc<dyn PubSub> = Arc::new(MemoryPubSub::new(10));
    let shutdown = Shutdown::new();
    let double = |message: Message| async move {
        let number: u64 = message.payload.decode()?;
        tokio::time::sleep(Duration::from_millis(number)).await;
        Payload::json(1, &(number * 2))
    };
    let (server, stop) = (Arc::clone(&bus), shutdown.stop());
    let running = tokio::spawn(async move {
        answer(server, &Pattern::new("double.*").unwrap(), mint(), double, stop).await
    });
    tokio::task::yield_now().await;
    let requester = Requester::new(Arc::clone(&bus), mint(), SystemClock::shared());
    let subject = Subject::new("double.it").unwrap();
    bus.publish(&subject, "no request".into()).await.unwrap();
    let patience = Duration::from_millis(100);
    for (number, wanted) in [(21, Ok(42)), (99, Ok(198)), (101, Err(ErrorKind::Timeout))] {
        let payload = Payload::json(1, &number).unwrap();
        let said = requester.ask(&subject, payload, patience).await;
        let said = said.map(|payload| payload.decode::<u64>().unwrap());
        assert_eq!(said.map_err(|error| error.kind().clone()), wanted, "{number}");
    }
    shutdown.begin();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_health_of_a_queue_is_its_depth_its_age_and_its_dead() {
    let queue = queue();
    let health = QueueHealth::new("mail", Arc::new(queue.clone()))
        .max_depth(1)
        .max_age(Duration::from_secs(5))
        .max_dead(0);
    assert_eq!(health.name(), "mail");
    let say = async || {
        let message = mint().message(Payload::raw("x"));
        queue.publish(vec![message], Durability::Applied).await.unwrap();
    };
    assert_eq!(health.check().await.status, Status::Up);
    say().await;
    assert_eq!(health.check().await.status, Status::Up);
    say().await;
    assert_eq!(health.check().await.detail, "2 messages wait");
    let lease = Duration::from_mins(1);
    queue.receive(1, lease).await.unwrap().pop().unwrap().dead_letter("no").await.unwrap();
    assert_eq!(health.check().await.detail, "1 dead letters");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(health.check().await.detail, "one has waited for 6s, 1 dead letters");
}
