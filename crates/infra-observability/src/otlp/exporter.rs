//! The task that empties the buffer of spans into a collector.

use std::time::Duration;

use bytes::Bytes;
use infra_core::{ErrorKind, backoff::Backoff, lifecycle::Stop};

use super::{client::post, encode::request};
use crate::trace::{
    Attribute, Buffer, Finished,
    buffer::{EXPORTED, Fate},
};

/// Where spans go and how.
#[derive(Debug, Clone)]
pub struct Options {
    address: String,
    resource: Vec<Attribute>,
    batch: usize,
    interval: Duration,
    timeout: Duration,
    attempts: u32,
    last: Duration,
}

impl Options {
    /// Sends to the collector at `address` (`host:port`), as the service of this name.
    pub fn new(address: impl Into<String>, service: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            resource: vec![Attribute::text("service.name", service)],
            batch: 512,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            attempts: 3,
            last: Duration::from_secs(5),
        }
    }

    /// Adds an attribute of the service, such as `service.version`.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.resource.push(Attribute::text(name, value));
        self
    }

    /// Sets the most spans of one request; 512 by default.
    #[must_use]
    pub const fn batch(mut self, spans: usize) -> Self {
        self.batch = spans;
        self
    }

    /// Sets how long spans wait for others; 1 s by default.
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how long one request may take; 5 s by default.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long the end waits for what is left; 5 s by default.
    #[must_use]
    pub const fn last(mut self, patience: Duration) -> Self {
        self.last = patience;
        self
    }
}

/// Sends finished spans to a collector.
///
/// A batch is tried three times; then it is given up and counted as failed. While the collector is
/// gone the buffer fills, and what does not fit is dropped and counted: memory and the work that is
/// traced never feel it. At the end of the service what is left is sent, within a deadline.
#[derive(Debug)]
pub struct Exporter {
    options: Options,
    buffer: Buffer<Finished>,
}

impl Exporter {
    /// Creates the exporter of a buffer.
    pub const fn new(options: Options, buffer: Buffer<Finished>) -> Self {
        Self { options, buffer }
    }

    /// Sends until the service stops, then what is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the batch that is on its way.
    pub async fn run(self, stop: Stop) {
        loop {
            tokio::select! {
                () = self.ripe() => {}
                () = stop.requested() => {}
            }
            let draining = self.drain();
            tokio::pin!(draining);
            tokio::select! {
                () = &mut draining => {}
                // The batch on its way goes on, and the rest behind it, up to a deadline.
                () = over(&stop, self.options.last) => {}
            }
            if stop.is_requested() {
                break;
            }
        }
        let lost = self.buffer.take(usize::MAX).len();
        if 0 < lost {
            EXPORTED.add_for(Fate::Failed, lost as u64);
            tracing::warn!(lost, "the collector did not take the last spans");
        }
    }

    /// Waits until there is something, and others had the time to join it.
    async fn ripe(&self) {
        self.buffer.filled().await;
        tokio::time::sleep(self.options.interval).await;
    }

    /// Sends everything that is in the buffer.
    async fn drain(&self) {
        loop {
            let batch = self.buffer.take(self.options.batch);
            if batch.is_empty() {
                return;
            }
            let count = batch.len() as u64;
            let body = Bytes::from(request(&self.options.resource, &batch).to_string());
            let fate = if self.send(body).await { Fate::Sent } else { Fate::Failed };
            EXPORTED.add_for(fate, count);
        }
    }

    /// Sends one batch, and again where that may help; returns whether it was taken.
    async fn send(&self, body: Bytes) -> bool {
        let backoff = Backoff::exponential(Duration::from_millis(200));
        for attempt in 1..=self.options.attempts {
            let one = post(&self.options.address, "/v1/traces", body.clone());
            match tokio::time::timeout(self.options.timeout, one).await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) if error.kind() == &ErrorKind::Invalid => {
                    tracing::warn!(error = %error, "the collector refused spans");
                    return false;
                }
                Ok(Err(_)) | Err(_) => {}
            }
            if attempt < self.options.attempts {
                tokio::time::sleep(backoff.pause_before(attempt)).await;
            }
        }
        false
    }
}

/// Waits until the service was asked to stop, and then for as long as the last spans may take.
async fn over(stop: &Stop, last: Duration) {
    stop.requested().await;
    tokio::time::sleep(last).await;
}
