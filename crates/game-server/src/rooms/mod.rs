//! The rooms of the server: a registry that finds them, and one task for each that writes it.
//!
//! ```text
//! connection -> mailbox (bounded) -> room task: decide -> append (durable) -> evolve -> frames
//! ```

mod alarm;
mod audience;
mod machine;
mod mail;
mod reading;
mod record;
mod registry;
mod summary;
mod task;

pub use mail::{Enter, Entry, Look, Mail, Purpose, RoomHandle};
pub use registry::{Options, Registry};
pub use summary::Summary;

pub(crate) use audience::{close_of, frame_of};
pub(crate) use record::{STREAM_PREFIX, decode_event, room_of};
pub(crate) use task::entropy;
