//! The segmented log: frames with checksums in segment files, one writer, many readers.
//!
//! ```text
//! events/
//!   lock                        held by the process that writes
//!   witness                     last acknowledged commit and a running digest
//!   00000000000000000001.log    segment, named after its first position
//!   00000000000000000001.idx    where a sealed segment's events are, so that it need not be read
//!     header 32 bytes | frame | frame | ... | zeros to the preallocated end
//! ```
//!
//! One frame is one atomic commit. A group of commits shares one `fdatasync`; only then are they
//! visible and acknowledged.

mod backup;
mod catalogue;
mod disk;
mod encoding;
mod filter;
pub(crate) mod frame;
mod index_format;
mod options;
mod order;
mod pages;
mod reader;
mod recovery;
mod scan;
mod segment;
mod segment_index;
mod store;
mod unsealed;
mod witness;
mod writer;

pub use disk::{Disk, DiskFile, RealDisk};
pub use options::{Check, Mode, Options};
pub use recovery::{Lost, RecoveryReport, SegmentReport};
pub use store::LogEventStore;
