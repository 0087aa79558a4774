//! The contract of the event store port over both engines, and over wrong ones.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{future::Ready, sync::Arc};

use infra_core::{SystemClock, event::EventStore};
use infra_events::{LogEventStore, MemoryEventStore, Options};

fn memory() -> Ready<Arc<dyn EventStore>> {
    std::future::ready(Arc::new(MemoryEventStore::new(SystemClock::shared())))
}

async fn log() -> Arc<dyn EventStore> {
    // Small segments, so that every clause crosses from one to the next.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    let options = Options::new(folder).segment_bytes(4_096);
    Arc::new(LogEventStore::open(options).await.unwrap().0)
}

mod memory_keeps {
    infra_testkit::event_store_contract!(super::memory());
}

mod log_keeps {
    infra_testkit::event_store_contract!(super::log());
}

mod wrong_ones {
    use infra_testkit::contract::event::wrong::Wrong;

    infra_testkit::event_store_contract!(planted async |bug| Wrong::plant(super::memory().await, bug));
}
