//! The contract of the queue port over the embedded store.

use std::{path::Path, sync::Arc, time::Duration};

use infra_core::{
    ErrorKind, SystemClock, codec::Payload, durability::Durability, id::QueueName, queue::Queue,
    random::Random, store::DocumentStore,
};
use infra_messaging::{DurableQueue, Mint, Options, Overflow};
use infra_persistence::memory;
use infra_testkit::contract::queue::{CAPACITY, LIMIT, LIVE_WINDOW};

/// Opens the queue of a folder.
pub(crate) async fn open(folder: &Path, options: Options) -> DurableQueue {
    let stored = infra_persistence::Options::new(folder);
    let (documents, _report) = infra_persistence::embedded(stored).await.unwrap();
    let name = QueueName::new("work").unwrap();
    DurableQueue::open(Arc::new(documents), name, options, SystemClock::shared()).await.unwrap()
}

async fn live() -> Arc<dyn Queue> {
    let options = Options::new(CAPACITY).max_failures(LIMIT).max_crashes(LIMIT);
    // The folder goes with the test's process.
    let folder = tempfile::tempdir().unwrap().keep();
    Arc::new(open(&folder, options.dedup_window(LIVE_WINDOW)).await)
}

mod keeps {
    infra_testkit::queue_contract!(live super::live());
}

#[tokio::test]
async fn who_waits_for_room_hears_that_the_store_has_failed() {
    let documents = Arc::new(memory(SystemClock::shared()).unwrap());
    let store: Arc<dyn DocumentStore> = Arc::<infra_persistence::Documents>::clone(&documents);
    let options = Options::new(1).overflow(Overflow::Wait);
    let name = QueueName::new("full").unwrap();
    let queue = DurableQueue::open(store, name, options, SystemClock::shared()).await.unwrap();
    let mint = Mint::new(SystemClock::shared(), Random::seeded(1));
    let message = |number: u32| vec![mint.message(Payload::json(1, &number).unwrap())];
    queue.publish(message(1), Durability::Applied).await.unwrap();
    let (waiting, next) = (queue.clone(), message(2));
    let waiting = tokio::spawn(async move { waiting.publish(next, Durability::Applied).await });
    let held = queue.receive(1, Duration::from_mins(1)).await.unwrap().remove(0);
    // On one thread: whoever can run has run now, and waits.
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "there is no room yet");
    documents.close().await;
    assert!(held.ack().await.is_err(), "nothing can be written any more");
    let said = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let error = said.expect("it waits for ever").unwrap().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Poisoned, "{error}");
}
