//! Queues: work that is done once its delivery was acknowledged.

mod dead;
mod durable;
mod entry;
mod journal;
mod local;
mod memory;
mod options;
mod order;
mod state;
mod stored;
mod writer;

#[cfg(feature = "postgres")]
pub(crate) use self::entry::remember;
#[cfg(any(feature = "nats", feature = "postgres"))]
pub(crate) use self::entry::shortened;
#[cfg(feature = "nats")]
pub(crate) use self::state::{Image, Moment, State, Taken};
pub use self::{
    durable::DurableQueue,
    memory::MemoryQueue,
    options::{Options, Overflow},
    order::Weigh,
};
