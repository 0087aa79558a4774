//! One trace through an event store, an outbox and a queue.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Clock, SystemClock,
    codec::Payload,
    event::{Append, Direction, EventStore, NewEvent},
    id::{EventId, EventType, QueueName, StreamName},
    lifecycle::Shutdown,
    queue::Queue,
    random::Random,
    version::{Expected, Version},
};
use infra_events::MemoryEventStore;
use infra_messaging::{
    MemoryQueue, Mint, Options,
    handler::{Failure, Job, Worker},
    outbox::EventRelay,
};
use infra_observability::trace::{Buffer, Finished, Sampler, Spans, traced};
use infra_testkit::model::ModelDocuments;
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

#[tokio::test]
async fn a_trace_goes_on_through_a_stored_event_its_outbox_a_queue_and_what_the_handler_stores() {
    let (clock, random) = (SystemClock::shared(), Arc::new(Random::seeded(7)));
    let spans: Buffer<Finished> = Buffer::new(100);
    let layer = Spans::new(Sampler::all(), Arc::clone(&clock), Arc::clone(&random), spans.clone());
    let _default = tracing::subscriber::set_default(Registry::default().with(layer));
    let events: Arc<dyn EventStore> = Arc::new(MemoryEventStore::new(Arc::clone(&clock)));
    let name = QueueName::new("archive").unwrap();
    let queue: Arc<dyn Queue> =
        Arc::new(MemoryQueue::new(name, Options::new(10), Arc::clone(&clock)));
    let mint = Mint::new(Arc::clone(&clock), Random::seeded(8));
    let map = move |event: &infra_core::event::RecordedEvent| {
        let is_work = event.event.event_type.as_str() == "game_ended";
        is_work.then(|| Ok(mint.message(Payload::json(1, &0)?))).transpose()
    };
    let documents = Arc::new(ModelDocuments::new(Arc::clone(&clock)));
    let relay = EventRelay::new("archive", Arc::clone(&events), Arc::clone(&queue), documents, map);
    let shutdown = Shutdown::new();
    let stop = shutdown.stop();
    shutdown.spawn(async move { relay.unwrap().run(stop).await.unwrap() });

    let action = tracing::info_span!("room.action");
    traced(action, append(&*events, "game_ended", &random)).await;

    let (log, ids) = (Arc::clone(&events), Arc::clone(&random));
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
    let (worker, stop) = (Worker::new(queue, archive), shutdown.stop());
    shutdown.spawn(async move {
        worker.run(stop).await.unwrap();
    });
    tokio::time::timeout(Duration::from_secs(30), done.notified()).await.unwrap();
    shutdown.close(Duration::from_secs(5)).await;

    let finished = spans.take(100);
    let named = |name: &str| finished.iter().find(|span| span.name == name).unwrap();
    let (action, archive) = (named("room.action"), named("game.archive"));
    assert_eq!(archive.context.trace_id(), action.context.trace_id());
    assert_eq!(archive.parent, Some(action.context.span_id()), "the event's span is its cause");
    let (stream, first) = (stream(), Version::new(1));
    let read = events.read_stream(&stream, first, Direction::Forward, 9).await.unwrap();
    let stored: Vec<_> = read.iter().map(|event| event.trace.unwrap()).collect();
    assert_eq!(stored, [action.context, archive.context]);
}
