//! Documents that are memory-fast and never lose the only copy.
//!
//! [`Documents`] implements the document store once, over an ordered map of bytes: in memory
//! ([`memory`]) or on disk in fjall ([`embedded`]). One coordinator takes all batches that wait,
//! judges them, applies them and syncs once. Every value carries a checksum of its own, and a
//! witness beside the database tells a lost commit from one that was never finished.
//! [`Snapshots`] keeps snapshots in any document store, a [`Repository`] typed entities, the most
//! recently used ones in memory: [`Rooms`] and [`PlayerStatistics`] are two of them. An [`Archive`]
//! keeps whole objects, in files, in memory or, with the feature `s3`, in a bucket.
//!
//! ```
//! use infra_core::{SystemClock, codec::Payload, id::Collection};
//! use infra_core::{store::{Batch, DocumentStore}, version::Expected};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let store = infra_persistence::memory(SystemClock::shared())?;
//! let players = Collection::new("players")?;
//! let batch = Batch::new().put(players.clone(), "ann", Expected::Absent, Payload::json(1, "Ann")?);
//! store.commit(batch).await?;
//! let found = store.get(&players, b"ann").await?.expect("it was just stored");
//! assert_eq!(found.decode::<String>()?, "Ann");
//! # Ok::<(), infra_core::Error>(()) }).unwrap();
//! ```

mod archive;
mod backup;
mod config;
mod coordinator;
mod disk;
mod documents;
mod embedded;
mod engine;
mod hybrid;
mod journals;
mod judge;
mod layout;
mod leases;
mod memory;
mod migration;
#[cfg(feature = "postgres")]
mod postgres;
mod rank;
mod repository;
mod select;
mod snapshots;
pub mod state;
mod telemetry;
mod unit;
mod value;
mod witness;

#[cfg(feature = "s3")]
pub use archive::S3Options;
pub use archive::{Archive, Archived, Vault};
pub use backup::restore;
pub use config::{
    Backends, Factory, Opened, Opening, Preset, RepositoryConfig, StorageConfig, Strategy,
};
pub use documents::Documents;
pub use embedded::{OpenReport, Options, embedded};
pub use hybrid::{
    ArchiveQuery, Archivist, DeadLetter, Drained, Hybrid, HybridOptions, Lifecycle, Priority,
    Purged, Reconciled,
};
pub use leases::DocumentLeases;
pub use memory::{memory, memory_with_history};
pub use migration::{Migrated, Migrations, Run};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresDocuments, PostgresLeases, PostgresOptions};
pub use repository::{
    Entity, Export, GameResult, Limits, MAX_EXPORT, Order, Overflow, PlayerResult,
    PlayerStatistics, RATED_GAMES, Ranked, Repository, RoomRecord, RoomStatus, Rooms, Standing,
    Statistics, StatisticsUsage, Stored, Usage, Window,
};
pub use select::{Filter, Select, SelectExt, Sort, compare};
pub use snapshots::Snapshots;
pub use telemetry::METRICS;
pub use unit::{Outbox, OutboxMessage, Savepoint, UnitOfWork};

/// The page about this crate, so that its first example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
