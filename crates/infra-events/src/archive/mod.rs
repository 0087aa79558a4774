//! Streams that came to their end, kept as compressed objects and read in place.
//!
//! [`ArchivedEventStore`] stands before another event store. A stream that is archived becomes
//! checksummed objects of an `ArchiveStore`; only when they were read back and found equal are its
//! events removed below. Reads cross the border by themselves. An [`Archivist`] archives streams
//! some time after their last event.

mod archivist;
mod catalogue;
mod name;
mod segment;
mod store;

pub use archivist::Archivist;
pub use store::{Archived, ArchivedEventStore};
