//! The queue: work that is done once its delivery was acknowledged.

mod dead_letter;
mod delivery;
mod message;
mod port;

pub use dead_letter::{Cause, DeadLetter, Failure, MAX_HISTORY};
pub use delivery::{Attempts, Delivery, Lease, Settlement};
pub use message::{Message, Priority};
pub use port::{Features, Queue, Stats};
