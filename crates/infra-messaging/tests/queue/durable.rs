//! The queue over a document store, which outlives its process.

use std::{sync::Arc, time::Duration};

use infra_core::{
    ErrorKind, SystemClock,
    durability::Durability,
    queue::{Priority, Queue},
    store::DocumentStore,
};
use infra_messaging::{DurableQueue, Options};
use infra_testkit::{
    contract::queue::{CAPACITY, LIMIT, WINDOW},
    model::ModelDocuments,
};

use crate::{LEASE, message, name, programs::soon};

/// Stops a queue as the end of its process would: nothing more of it is written.
async fn crash(queue: DurableQueue) {
    drop(queue);
    soon().await;
}

#[tokio::test(start_paused = true)]
async fn everything_is_there_again_when_a_durable_queue_is_opened_again() {
    let store = documents();
    let first = kept(&store, Options::new(99)).await;
    let minute = Duration::from_mins(1);
    let messages = vec![
        message(1).key("a"),
        message(2).key("a").priority(Priority::High),
        message(3).delay(minute),
        message(4).ttl(minute).delay(minute * 2),
        message(5).dedup("once"),
        message(6).priority(Priority::Critical),
    ];
    let published = first.publish(messages.clone(), Durability::Durable).await.unwrap();
    assert_eq!(published, [true; 6]);
    let mut held = first.receive(2, LEASE).await.unwrap();
    held.remove(0).dead_letter("cannot be done").await.unwrap();
    let lost = held.remove(0);
    assert_eq!(lost.message().id, messages[0].id);
    first.set_paused(true).await.unwrap();
    let stats = first.stats().await.unwrap();
    assert_eq!((stats.ready, stats.delayed, stats.leased, stats.dead), (2, 2, 1, 1));
    // The process ends with a message in hand.
    std::mem::forget(lost);
    crash(first).await;
    let again = kept(&store, Options::new(99)).await;
    let stats = again.stats().await.unwrap();
    assert_eq!((stats.ready, stats.delayed, stats.leased, stats.dead), (3, 2, 0, 1));
    again.set_paused(false).await.unwrap();
    let dead = again.dead_letters(9).await.unwrap();
    assert_eq!((&dead[0].message, dead[0].reason.as_str()), (&messages[5], "cannot be done"));
    let once = again.publish(vec![message(7).dedup("once")], Durability::Durable).await.unwrap();
    assert_eq!(once, [false], "dedup ids too");
    let received = again.receive(9, LEASE).await.unwrap();
    let told: Vec<_> = received
        .iter()
        .map(|one| (one.message().id, one.attempts().deliveries, one.attempts().crashes))
        .collect();
    assert_eq!(told, [(messages[0].id, 2, 1), (messages[4].id, 1, 0)], "its loss is a crash");
    for delivery in received {
        delivery.ack().await.unwrap();
    }
    tokio::time::sleep(minute).await;
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let delivery = again.receive(1, LEASE).await.unwrap().pop().unwrap();
        numbers.push(delivery.message().payload.decode::<u64>().unwrap());
        delivery.ack().await.unwrap();
    }
    assert_eq!(numbers, [2, 3], "key and delay are kept");
    assert!(again.replay(messages[5].id).await.unwrap());
    again.close().await.unwrap();
    let third = kept(&store, Options::new(99)).await;
    let stats = third.stats().await.unwrap();
    assert_eq!((stats.ready, stats.dead), (1, 1), "replayed and expired, once each");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_its_process_each_time_is_dead_after_its_limit() {
    let store = documents();
    for crash_number in 0..LIMIT {
        let queue = kept(&store, Options::new(9)).await;
        if crash_number == 0 {
            queue.publish(vec![message(1)], Durability::Durable).await.unwrap();
        }
        let poison = queue.receive(1, LEASE).await.unwrap().pop().unwrap();
        assert_eq!(poison.attempts().crashes, crash_number);
        std::mem::forget(poison);
        crash(queue).await;
    }
    let queue = kept(&store, Options::new(9)).await;
    let dead = queue.dead_letters(9).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts.crashes), (1, LIMIT));
    // A deployment gives back what is in hand, and kills nothing.
    queue.publish(vec![message(2)], Durability::Durable).await.unwrap();
    for _ in 0..10 {
        let queue = kept(&store, Options::new(9)).await;
        drop(queue.receive(1, LEASE).await.unwrap());
        queue.close().await.unwrap();
    }
    let queue = kept(&store, Options::new(9)).await;
    assert_eq!(queue.receive(1, LEASE).await.unwrap()[0].attempts().crashes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_closed_has_written_everything_and_let_go_of_its_store() {
    let store = documents();
    let queue = kept(&store, Options::new(9)).await;
    queue.publish(vec![message(1), message(2)], Durability::Durable).await.unwrap();
    let mut held = queue.receive(2, LEASE).await.unwrap();
    let late = held.pop().unwrap();
    drop(held);
    let closing = queue.clone();
    let (first, second) = tokio::join!(queue.close(), closing.close());
    first.unwrap();
    second.unwrap();
    assert_eq!(Arc::strong_count(&store), 1, "only the test holds it");
    let refused = late.ack().await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Closed);
    let refused = queue.publish(vec![message(3)], Durability::Applied).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Closed);
    let again = kept(&store, Options::new(9)).await;
    let mut crashes = Vec::new();
    for delivery in again.receive(9, LEASE).await.unwrap() {
        crashes.push(delivery.attempts().crashes);
    }
    assert_eq!(crashes, [0, 1], "what was given back, and what was still in hand");
}

async fn durable() -> Arc<dyn Queue> {
    Arc::new(kept(&documents(), Options::new(CAPACITY)).await)
}

mod keeps {
    infra_testkit::queue_contract!(super::durable());
}

pub(crate) fn documents() -> Arc<dyn DocumentStore> {
    Arc::new(ModelDocuments::new(SystemClock::shared()))
}

/// Opens the queue of a store.
pub(crate) async fn kept(store: &Arc<dyn DocumentStore>, options: Options) -> DurableQueue {
    // One clock for all openings: the wall clock of a new one knows nothing of paused time.
    static CLOCK: std::sync::OnceLock<Arc<dyn infra_core::Clock>> = std::sync::OnceLock::new();
    let clock = Arc::clone(CLOCK.get_or_init(SystemClock::shared));
    let options = options.max_failures(LIMIT).max_crashes(LIMIT).dedup_window(WINDOW);
    DurableQueue::open(Arc::clone(store), name(), options, clock).await.unwrap()
}
