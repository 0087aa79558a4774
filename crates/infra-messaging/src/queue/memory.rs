//! A queue within a process.

use std::sync::Arc;

use infra_core::{Clock, id::QueueName};

use super::{
    local::{Local, delegate_queue},
    options::Options,
    state::State,
};

/// Hands out the messages of one process. Clones are the same queue.
///
/// Everything is lost at the end of the process, so it gives
/// [`Durability::Applied`](infra_core::durability::Durability::Applied) and refuses to promise more.
/// Everything else of the port's contract it keeps: leases, retries, dead letters, order per key,
/// priorities, delays, times to live, dedup ids, bounds.
#[derive(Debug, Clone)]
pub struct MemoryQueue(Local);

impl MemoryQueue {
    /// Creates an empty queue; delays, leases and times to live are judged by `clock`.
    pub fn new(name: QueueName, options: Options, clock: Arc<dyn Clock>) -> Self {
        Self(Local::new(name, options, clock, State::new(options), None))
    }

    /// Ends the queue: nothing more is taken or handed out, and whoever waits is told so. What is
    /// in hand can still be settled.
    pub fn close(&self) {
        self.0.shared().close();
    }

    /// Takes no more messages; what is there is still handed out, and once everything is settled
    /// whoever waits is told that it is over.
    pub fn drain(&self) {
        self.0.drain();
    }
}

delegate_queue!(MemoryQueue);
