//! Documents that are memory-fast and never lose the only copy.
//!
//! [`Documents`] implements the document store once, over an ordered map of bytes: in memory
//! ([`memory`]) or on disk in fjall ([`embedded`]). One coordinator takes all batches that wait,
//! judges them, applies them and syncs once. Every value carries a checksum of its own, and a
//! witness beside the database tells a lost commit from one that was never finished.
//! [`Snapshots`] keeps snapshots in any document store, a [`Repository`] typed entities, the most
//! recently used ones in memory: [`Rooms`] and [`PlayerStatistics`] are two of them. An [`Archive`]
//! keeps whole objects, in files or in memory.
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
mod coordinator;
mod documents;
mod embedded;
mod engine;
mod judge;
mod layout;
mod memory;
mod repository;
mod snapshots;
mod telemetry;
mod value;
mod witness;

pub use archive::Archive;
pub use documents::Documents;
pub use embedded::{OpenReport, Options, embedded};
pub use memory::memory;
pub use repository::{
    Entity, GameResult, Order, PlayerResult, PlayerStatistics, RATED_GAMES, Repository, RoomRecord,
    RoomStatus, Rooms, Statistics, Stored,
};
pub use snapshots::Snapshots;
pub use telemetry::METRICS;
