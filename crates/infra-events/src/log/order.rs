//! What the writer is asked to do, and what is known of it.

use infra_core::{
    Error, Result,
    event::{Append, Appended, Metadata},
    id::{CorrelationId, StreamName},
    trace::TraceContext,
    version::{Expected, Version},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Order {
    Append {
        append: Append,
        correlation: Option<CorrelationId>,
        trace: Option<TraceContext>,
        headers: Metadata,
    },
    Truncate {
        stream: StreamName,
        before: Version,
    },
    Tombstone {
        stream: StreamName,
        expected: Expected,
    },
    /// Tries again for a segment, if the last one could not be made.
    Probe,
}

/// An order, who waits for it, and its place in the queue.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Result<Appended>>,
    pub(super) permit: OwnedSemaphorePermit,
}

/// What others may know of the writer.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Why nothing can be written any more, until the log is reopened.
    pub(super) poisoned: Option<Error>,
    /// Why the last segment could not be made; gone once one can.
    pub(super) full: Option<String>,
}

/// An order that was carried out in memory and waits for its sync.
pub(super) type Waiting = (oneshot::Sender<Result<Appended>>, Result<Appended>);
