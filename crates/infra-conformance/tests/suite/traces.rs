//! One trace, with its state and its baggage, through an event store, an outbox and a queue.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use infra_core::{
    Clock, SystemClock,
    baggage::Baggage,
    clock::Timestamp,
    codec::Payload,
    context::Context,
    event::{Append, Direction, EventStore, NewEvent, RecordedEvent},
    id::{CorrelationId, EventId, EventType, QueueName, StreamName},
    lifecycle::Shutdown,
    queue::Queue,
    random::Random,
    version::{Expected, Version},
};
use infra_events::{LogEventStore, MemoryEventStore, PostgresEventStore, PostgresOptions};
use infra_messaging::{
    JetStream, JetStreamQueue, MemoryQueue, Mint, Options,
    handler::{Failure, Job, Worker},
    outbox::EventRelay,
};
use infra_observability::trace::{Buffer, Finished, Sampler, Spans, traced};
use infra_testkit::{
    model::ModelDocuments,
    server::{Kind, shared},
};
use tower::service_fn;
use tracing_subscriber::{Registry, layer::SubscriberExt};

fn stream() -> StreamName {
    StreamName::new("room-1").unwrap()
}

async fn append(events: &dyn EventStore, what: &str, random: &Random) {
    let id = EventId::generate(SystemClock::new().wall(), random);
    let event = NewEvent::new(id, EventType::new(what).unwrap(), Payload::json(1, &0).unwrap());
    events.append(Append::to(stream(), Expected::Any, vec![event])).await.unwrap();
}

async fn read(events: &dyn EventStore) -> Vec<RecordedEvent> {
    events.read_stream(&stream(), Version::new(1), Direction::Forward, 9).await.unwrap()
}

/// What a trace goes through: a game ends in the first store; what is published for it is handled
/// by whoever holds the other end of the queue, and stored in the last store.
struct Way {
    first: Arc<dyn EventStore>,
    publish: Arc<dyn Queue>,
    handle: Arc<dyn Queue>,
    last: Arc<dyn EventStore>,
}

/// Holds that the whole way is one trace, and that everything that an action carries arrives.
async fn is_one_trace(way: Way) {
    let (clock, random) = (SystemClock::shared(), Arc::new(Random::from_system()));
    let spans: Buffer<Finished> = Buffer::new(100);
    let layer = Spans::new(Sampler::all(), Arc::clone(&clock), Arc::clone(&random), spans.clone());
    let _default = tracing::subscriber::set_default(Registry::default().with(layer));
    let mint = Mint::new(Arc::clone(&clock), Random::from_system());
    let map = move |event: &RecordedEvent| {
        let is_work = event.event.event_type.as_str() == "game_ended";
        is_work.then(|| Ok(mint.message(Payload::json(1, &0)?))).transpose()
    };
    let Way { first, publish, handle, last } = way;
    let documents = Arc::new(ModelDocuments::new(Arc::clone(&clock)));
    let relay = EventRelay::new("archive", Arc::clone(&first), publish, documents, map).unwrap();
    let shutdown = Shutdown::new();
    let stop = shutdown.stop();
    shutdown.spawn(async move { relay.run(stop).await.unwrap() });

    let correlation = CorrelationId::generate(Timestamp::EPOCH, &random);
    let baggage = Baggage::default().with("season", "spring, 2nd").unwrap();
    let request = Context::default()
        .correlation(correlation)
        .trace_state("vendor=1,other@x=2".parse().unwrap())
        .baggage(baggage);
    let action = traced(tracing::info_span!("room.action"), append(&*first, "game_ended", &random));
    request.clone().scope(action).await;

    let (log, ids) = (Arc::clone(&last), Arc::clone(&random));
    let done = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&done);
    let archive = service_fn(move |_: Job| {
        let (log, ids, told) = (Arc::clone(&log), Arc::clone(&ids), Arc::clone(&told));
        async move {
            let span = tracing::info_span!("game.archive", otel.kind = "consumer");
            traced(span, append(&*log, "game_archived", &ids)).await;
            told.notify_one();
            Ok::<(), Failure>(())
        }
    });
    let (worker, stop) = (Worker::new(handle, archive), shutdown.stop());
    shutdown.spawn(async move {
        worker.run(stop).await.unwrap();
    });
    tokio::time::timeout(Duration::from_secs(60), done.notified()).await.unwrap();
    shutdown.close(Duration::from_secs(5)).await;

    let finished = spans.take(100);
    let named = |name: &str| finished.iter().find(|span| span.name == name).unwrap();
    let (action, archive) = (named("room.action"), named("game.archive"));
    assert_eq!(archive.context.trace_id(), action.context.trace_id());
    assert_eq!(archive.parent, Some(action.context.span_id()), "the event's span is its cause");
    let (ended, archived) = (read(&*first).await.remove(0), read(&*last).await.pop().unwrap());
    for (stored, span) in [(ended, action), (archived, archive)] {
        assert_eq!(stored.trace, Some(span.context));
        assert_eq!(stored.correlation, Some(correlation));
        let carried = request.clone().trace(span.context).headers();
        assert_eq!((stored.headers, carried.len()), (carried, 2), "{}", span.name);
    }
}

#[tokio::test]
async fn a_trace_goes_on_through_a_stored_event_its_outbox_a_queue_and_what_the_handler_stores() {
    let clock = SystemClock::shared();
    let events = Arc::new(MemoryEventStore::new(Arc::clone(&clock)));
    let name = QueueName::new("archive").unwrap();
    let queue = Arc::new(MemoryQueue::new(name, Options::new(10), clock));
    let (first, last) = (Arc::<MemoryEventStore>::clone(&events), events);
    is_one_trace(Way { first, publish: Arc::<MemoryQueue>::clone(&queue), handle: queue, last })
        .await;
}

/// Two ends of one queue, each with a connection of its own.
async fn over_nats(clock: &Arc<dyn Clock>) -> [Arc<dyn Queue>; 2] {
    let name = format!("test-{:x}", Random::from_system().next_u64());
    let name = QueueName::new(name).unwrap();
    let end = || async {
        let server = JetStream::at(shared(Kind::Nats).unwrap());
        let server = server.cut_log_every(NonZeroU64::new(2).unwrap());
        let options = Options::new(10);
        let queue = JetStreamQueue::connect(server, name.clone(), options, Arc::clone(clock)).await;
        Arc::new(queue.unwrap())
    };
    [end().await, end().await]
}

#[tokio::test]
async fn a_trace_goes_on_from_a_log_on_disk_through_nats_into_postgresql() {
    let clock = SystemClock::shared();
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LogEventStore::open(infra_events::Options::new(folder.path())).await.unwrap();
    let [publish, handle] = over_nats(&clock).await;
    let schema = format!("traces_{:016x}", Random::from_system().next_u64());
    let postgres = PostgresOptions::new(shared(Kind::Postgres).unwrap()).schema(schema).unwrap();
    let last = Arc::new(PostgresEventStore::open(postgres).await.unwrap());
    is_one_trace(Way { first: Arc::new(log), publish, handle, last }).await;
}
