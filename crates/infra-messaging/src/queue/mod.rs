//! Queues: work that is done once its delivery was acknowledged.

mod dead;
mod entry;
mod memory;
mod options;
mod state;

pub use self::{
    memory::MemoryQueue,
    options::{Options, Overflow},
};
