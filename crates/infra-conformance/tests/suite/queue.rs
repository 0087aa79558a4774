//! The contract of the queue port over the embedded store.

use std::{path::Path, sync::Arc};

use infra_core::{SystemClock, id::QueueName, queue::Queue};
use infra_messaging::{DurableQueue, Options};
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
