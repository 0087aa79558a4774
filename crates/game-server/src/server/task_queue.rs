//! The queue that tasks wait in, wherever it is kept.

use std::sync::Arc;

#[cfg(feature = "nats")]
use infra_core::durability::Durability;
use infra_core::{
    Clock, Error, ErrorKind, Result, id::QueueName, queue::Queue, store::DocumentStore,
};
use infra_messaging::{DurableQueue, Options};

use crate::config::Backend;

/// In how many processes that ended a task may have been in hand before it is a dead letter.
const MAX_CRASHES: u32 = 10;

/// Where queues of tasks are kept, and what comes with them.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Where the checkpoints of those are that publish tasks; the queues too, if there is no backend.
    pub(super) documents: Arc<dyn DocumentStore>,
    /// A server that keeps the queues.
    pub(super) backend: Option<Backend>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A queue that was opened. Clones are the same queue.
#[derive(Debug, Clone)]
pub(super) struct TaskQueue {
    port: Arc<dyn Queue>,
    /// Set if the queue is this process's own, which has to let go of its store.
    own: Option<DurableQueue>,
}

impl Place {
    /// Opens the queue of a name that takes so many tasks.
    pub(super) async fn open(&self, queue: &str, capacity: usize) -> Result<TaskQueue> {
        let options = Options::new(capacity).max_failures(u32::MAX).max_crashes(MAX_CRASHES);
        let (name, clock) = (QueueName::new(queue)?, Arc::clone(&self.clock));
        match &self.backend {
            None => {
                let documents = Arc::clone(&self.documents);
                let own = DurableQueue::open(documents, name, options, clock).await?;
                Ok(TaskQueue { port: Arc::new(own.clone()), own: Some(own) })
            }
            #[cfg(feature = "nats")]
            Some(Backend::Nats(url)) => {
                let server = infra_messaging::JetStream::at(url.whole());
                let open = infra_messaging::JetStreamQueue::connect(server, name, options, clock);
                let port = Box::pin(open).await?;
                let is_safe = port.features().durability == Durability::Durable;
                tracing::info!(queue, server = %url, is_safe, "queue opened");
                Ok(TaskQueue { port: Arc::new(port), own: None })
            }
            #[cfg(feature = "postgres")]
            Some(Backend::Postgres(url)) => {
                let server = infra_messaging::PostgresOptions::new(url.whole())
                    .connections(CONNECTIONS)
                    .patience(PATIENCE);
                let open = infra_messaging::PostgresQueue::open(server, name, options, clock);
                let port = Box::pin(open).await?;
                tracing::info!(queue, database = %url, "queue opened");
                Ok(TaskQueue { port: Arc::new(port), own: None })
            }
            Some(other) => {
                let error = Error::new(ErrorKind::Unsupported, "open queue");
                Err(error.detail(format!("queues in {other}")))
            }
        }
    }
}

/// How many connections to PostgreSQL a queue has: one that receives, and a few for the rest.
#[cfg(feature = "postgres")]
const CONNECTIONS: u32 = 4;

/// How long a connection to PostgreSQL may say nothing before a queue gives it up.
#[cfg(feature = "postgres")]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

impl TaskQueue {
    pub(super) fn port(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.port)
    }

    /// Writes what was given back and lets go of the store.
    pub(super) async fn close(&self) -> Result<()> {
        match &self.own {
            Some(own) => own.close().await,
            None => Ok(()),
        }
    }

    /// Ends whoever works on the queue once it is empty.
    #[cfg(test)]
    pub(super) fn drain(&self) {
        if let Some(own) = &self.own {
            own.drain();
        }
    }
}
