//! An embedded event store that is never silently wrong.
//!
//! [`LogEventStore`] keeps streams of events in a segmented log: each commit is one checksummed
//! frame, many concurrent appends share one `fsync`, and a witness file beside the log tells an
//! unfinished write from a lost one. [`MemoryEventStore`] keeps them in memory, for tests and as
//! the model. Both implement [`infra_core::event::EventStore`].
//!
//! ```
//! use infra_core::{event::{Append, Direction, EventStore, NewEvent}, version::{Expected, Version}};
//! use infra_core::{clock::Timestamp, codec::Payload, id::{EventId, EventType, StreamName}, random::Random};
//! use infra_events::{LogEventStore, Options};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! let (store, report) = LogEventStore::open(Options::new(folder.path())).await?;
//! assert_eq!(report.events, 0);
//! let room = StreamName::new("room-7f3a")?;
//! let id = EventId::generate(Timestamp::EPOCH, &Random::from_system());
//! let event = NewEvent::new(id, EventType::new("room_created")?, Payload::json(1, "Ann")?);
//! let appended = store.append(Append::to(room.clone(), Expected::Absent, vec![event])).await?;
//! assert_eq!(appended.versions, [Version::new(1)]);
//! assert_eq!(store.read_stream(&room, Version::new(1), Direction::Forward, 10).await?.len(), 1);
//! # Ok::<(), infra_core::Error>(()) }).unwrap();
//! ```

#[cfg(feature = "archive")]
pub mod archive;
mod index;
mod log;
mod memory;
mod memtable;
#[cfg(feature = "postgres")]
mod postgres;
pub mod projection;
mod retention;
pub mod sourcing;
mod subscription;
mod telemetry;

pub use log::{
    Check, Disk, DiskFile, LogEventStore, Lost, Mode, Options, RealDisk, RecoveryReport,
    SegmentReport,
};
pub use memory::MemoryEventStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresEventStore, PostgresOptions};
pub use retention::Retention;
pub use telemetry::METRICS;
