//! The segmented log: frames with checksums in segment files, one writer, many readers.
//!
//! ```text
//! events/
//!   lock                        held by the process that writes
//!   witness                     last acknowledged commit and a running digest
//!   00000000000000000001.log    segment, named after its first position
//!   00000000000000000001.idx    what a sealed segment's commits did, so that it need not be read
//!     header 32 bytes | frame | frame | ... | zeros to the preallocated end
//! ```
//!
//! One frame is one atomic commit. A group of commits shares one `fdatasync`; only then are they
//! visible and acknowledged.

mod backup;
mod disk;
mod encoding;
pub(crate) mod frame;
mod options;
mod order;
mod reader;
mod recovery;
mod scan;
mod segment;
mod segment_index;
mod store;
mod witness;
mod writer;

pub use disk::{Disk, DiskFile, RealDisk};
pub use options::{Check, Mode, Options};
pub use recovery::{Lost, RecoveryReport, SegmentReport};
pub use store::LogEventStore;
