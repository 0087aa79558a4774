//! The ports of the infra crates and the vocabulary they share.
//!
//! A component implements ports or takes them as `Arc<dyn Port>`; it never names another
//! component. So the crates can be used one by one, and a circular import cannot exist. This crate
//! does no I/O. Each port's documentation carries a numbered `# Contract`; the suite of the same
//! clauses is in `infra-testkit`, for every backend there is and for yours.
//!
//! | to | see |
//! |---|---|
//! | match an error | [`error::Error`], [`error::ErrorKind`] |
//! | tell the time, wait, retry | [`clock::Clock`], [`backoff::Backoff`], [`budget::Deadline`] |
//! | store documents, archives, snapshots | [`store::DocumentStore`], [`archive::ArchiveStore`], [`snapshot::SnapshotStore`] |
//! | store events | [`event::EventStore`] |
//! | cache, limit, lease | [`cache::Cache`], [`limit::RateLimiter`], [`lease::Leases`] |
//! | queue and broadcast | [`queue::Queue`], [`pubsub::PubSub`] |
//! | write a state machine | [`machine::StateMachine`] |
//! | measure and report | [`metric`], [`health::HealthCheck`] |
//! | stop cleanly | `lifecycle::Shutdown` (feature `tokio`) |
//!
//! # Features
//!
//! - `tokio`: the system clock, the task-local context, the shutdown of tasks.
//! - `bincode`: the bincode codec.

pub mod archive;
pub mod backoff;
pub mod baggage;
pub mod budget;
pub mod cache;
pub mod clock;
pub mod codec;
pub mod context;
pub mod durability;
pub mod error;
pub mod event;
pub mod health;
pub mod id;
pub mod lease;
#[cfg(feature = "tokio")]
pub mod lifecycle;
pub mod limit;
pub mod machine;
pub mod metric;
pub mod pubsub;
pub mod queue;
pub mod random;
pub mod snapshot;
pub mod store;
pub mod trace;
pub mod version;

pub use clock::Clock;
#[cfg(feature = "tokio")]
pub use clock::SystemClock;
pub use error::{Error, ErrorKind, Result};
