//! The rooms of the server: a registry that finds them, and one task for each that writes it.
//!
//! ```text
//! connection -> mailbox (bounded) -> room task: decide -> append (durable) -> evolve -> frames
//! ```
//!
//! A room is a [`Durable`](infra_persistence::state::Durable) machine; its task is the only one that has it.

mod alarm;
mod anew;
mod audience;
mod change;
mod late;
mod lifetime;
mod machine;
mod mail;
mod moment;
mod reading;
mod record;
mod recovery;
mod registry;
mod summary;
mod task;

pub use machine::Stores;
pub use mail::{Enter, Entry, Look, Mail, Purpose, RoomHandle};
pub use recovery::Returned;
pub use registry::{Options, Registry};
pub use summary::Summary;

pub(crate) use audience::{close_of, frame_of};
pub(crate) use record::{STREAM_PREFIX, decode_event, room_of};
pub(crate) use task::entropy;
