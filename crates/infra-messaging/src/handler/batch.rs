//! The worker for handlers that want many messages at once.

use std::{fmt, sync::Arc, time::Duration};

use infra_core::{
    ErrorKind, Result,
    lifecycle::Stop,
    queue::{Delivery, Queue},
};
use tower::{Service, ServiceExt as _};

use super::{Failure, Job};

/// Runs a handler on batches: full ones at once, others once their first message has waited.
///
/// A batch is acknowledged after the handler said Ok; if it failed, all its messages are tried again
/// or, after a permanent failure, are dead letters. Each batch has a timer of its own.
pub struct BatchWorker<S> {
    queue: Arc<dyn Queue>,
    service: S,
    size: usize,
    patience: Duration,
    lease: Duration,
    pause: Duration,
}

impl<S> fmt::Debug for BatchWorker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchWorker").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<S> BatchWorker<S>
where
    S: Service<Vec<Job>, Response = (), Error = Failure> + Clone + Send,
    S::Future: Send,
{
    /// Creates a worker for batches of up to `size` messages (at least one) that wait for no longer
    /// than `patience`; leases of a minute beyond that, failed batches again after a second.
    pub fn new(queue: Arc<dyn Queue>, service: S, size: usize, patience: Duration) -> Self {
        let lease = patience + Duration::from_mins(1);
        let (size, pause) = (size.max(1), Duration::from_secs(1));
        Self { queue, service, size, patience, lease, pause }
    }

    /// Sets how long a batch may take, its waiting included; a handler that takes longer runs, but
    /// its messages are delivered again.
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets after how long a failed batch is tried again.
    #[must_use]
    pub const fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Works until it is told to stop or the queue is closed; what was collected is still handled.
    /// Returns how many batches were done.
    ///
    /// # Errors
    ///
    /// What the queue fails with, if trying again cannot help.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases what was collected.
    pub async fn run(self, stop: Stop) -> Result<u64> {
        let mut done = 0;
        loop {
            let mut batch = tokio::select! {
                biased;
                () = stop.requested() => return Ok(done),
                first = self.queue.receive(self.size, self.lease) => match first {
                    Ok(first) => first,
                    Err(error) if *error.kind() == ErrorKind::Closed => return Ok(done),
                    Err(error) if error.is_transient() => {
                        tokio::time::sleep(self.pause).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            self.fill(&mut batch, &stop).await;
            done += u64::from(self.handle(batch).await);
        }
    }

    /// Adds to a batch until it is full or its time is over.
    async fn fill(&self, batch: &mut Vec<Delivery>, stop: &Stop) {
        let over = tokio::time::sleep(self.patience);
        tokio::pin!(over);
        while batch.len() < self.size {
            let more = tokio::select! {
                biased;
                more = self.queue.receive(self.size - batch.len(), self.lease) => more,
                () = &mut over => return,
                () = stop.requested() => return,
            };
            match more {
                Ok(more) => batch.extend(more),
                Err(_) => return,
            }
        }
    }

    async fn handle(&self, batch: Vec<Delivery>) -> bool {
        let jobs = batch.iter().map(Job::of).collect();
        let said = self.service.clone().oneshot(jobs).await;
        for delivery in batch {
            let settled = match &said {
                Ok(()) => delivery.ack().await,
                Err(Failure::Retryable(reason)) => delivery.nack(self.pause, reason.clone()).await,
                Err(Failure::Permanent(reason)) => delivery.dead_letter(reason.clone()).await,
            };
            // A late verdict is the queue's to count: the message is delivered again.
            let _is_settled = settled.is_ok();
        }
        said.is_ok()
    }
}
