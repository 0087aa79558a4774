//! The contract of the event store port over every engine and layer, and over wrong ones.

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

/// A store in a schema of its own.
#[cfg(feature = "postgres")]
async fn postgres() -> Arc<dyn EventStore> {
    use infra_events::{PostgresEventStore, PostgresOptions};
    use infra_testkit::server::{Kind, shared};
    let number = infra_core::random::Random::from_system().next_u64();
    let options = PostgresOptions::new(shared(Kind::Postgres).unwrap())
        .schema(format!("events_{number:016x}"))
        .unwrap()
        .lanes(4)
        .readers(4);
    Arc::new(PostgresEventStore::open(options).await.unwrap())
}

#[cfg(feature = "postgres")]
mod postgres_keeps {
    infra_testkit::event_store_contract!(super::postgres());
}

/// A store with an archive behind it, into which nothing was moved yet.
#[cfg(feature = "archive")]
async fn archived() -> Arc<dyn EventStore> {
    use infra_events::archive::ArchivedEventStore;
    let archive = Arc::new(infra_testkit::model::ModelArchive::new(SystemClock::shared()));
    let store = ArchivedEventStore::open(memory().await, archive, "events").await;
    Arc::new(store.unwrap())
}

#[cfg(feature = "archive")]
mod archived_keeps {
    infra_testkit::event_store_contract!(super::archived());
}

mod projecting_keeps {
    use std::sync::Arc;

    use infra_core::event::EventStore;

    async fn projecting() -> Arc<dyn EventStore> {
        Arc::new(infra_events::projection::Projecting::new(super::memory().await))
    }

    infra_testkit::event_store_contract!(projecting());
}

mod wrong_ones {
    use infra_testkit::contract::event::wrong::Wrong;

    infra_testkit::event_store_contract!(planted async |bug| Wrong::plant(super::memory().await, bug));
}
