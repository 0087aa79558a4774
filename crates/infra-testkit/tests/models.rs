//! Every model keeps the contract of its port, and every planted bug is caught.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{future::Ready, sync::Arc};

use infra_core::{
    SystemClock, archive::ArchiveStore, cache::Cache, event::EventStore, id::QueueName,
    lease::Leases, limit::RateLimiter, pubsub::PubSub, queue::Queue, snapshot::SnapshotStore,
    store::DocumentStore,
};
use infra_testkit::{
    contract::{cache, limit, queue},
    model::{
        ModelArchive, ModelCache, ModelDocuments, ModelEvents, ModelLeases, ModelLimiter,
        ModelPubSub, ModelQueue, ModelSnapshots, Policy,
    },
};

macro_rules! model {
    ($name:ident, $port:ident, $contract:ident, $suite:ident, $make:expr) => {
        mod $name {
            use super::*;

            fn make() -> Ready<Arc<dyn $port>> {
                std::future::ready(Arc::new($make))
            }

            infra_testkit::$contract!(make());

            infra_testkit::$contract!(planted async |bug| {
                infra_testkit::contract::$suite::wrong::Wrong::plant(make().await, bug)
            });
        }
    };
}

model!(
    archive,
    ArchiveStore,
    archive_store_contract,
    archive,
    ModelArchive::new(SystemClock::shared())
);
model!(
    caches,
    Cache,
    cache_contract,
    cache,
    ModelCache::new(cache::CAPACITY, SystemClock::shared())
);
model!(
    documents,
    DocumentStore,
    document_store_contract,
    document,
    ModelDocuments::new(SystemClock::shared())
);
model!(events, EventStore, event_store_contract, event, ModelEvents::new(SystemClock::shared()));
model!(leases, Leases, leases_contract, lease, ModelLeases::new(SystemClock::shared()));
model!(
    limiter,
    RateLimiter,
    rate_limiter_contract,
    limit,
    ModelLimiter::new(limit::LIMITS, SystemClock::shared()).windows(limit::WINDOWS)
);
model!(pubsub, PubSub, pubsub_contract, pubsub, ModelPubSub::new(100));
model!(
    queues,
    Queue,
    queue_contract,
    queue,
    ModelQueue::new(QueueName::new("work").unwrap(), policy(), SystemClock::shared())
);
model!(snapshots, SnapshotStore, snapshot_store_contract, snapshot, ModelSnapshots::new());

const fn policy() -> Policy {
    Policy {
        capacity: queue::CAPACITY,
        max_failures: queue::LIMIT,
        max_crashes: queue::LIMIT,
        window: queue::WINDOW,
        oldest_every: None,
    }
}
