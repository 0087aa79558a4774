//! The task that empties a buffer of spans or log records into a collector.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use infra_core::{Clock, ErrorKind, backoff::Backoff, lifecycle::Stop};

use super::{client::post, encode::Encode};
use crate::{
    buffer::{Buffer, EXPORTED, Fate, Parcel, shipping},
    thrift::Thrift,
    trace::Attribute,
};

/// Where spans or log records go and how.
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

    /// Sets the most items of one request; 512 by default.
    #[must_use]
    pub const fn batch(mut self, items: usize) -> Self {
        self.batch = items;
        self
    }

    /// Sets how long items wait for others; 1 s by default.
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

/// Sends finished spans, or records of the log, to a collector.
///
/// A batch is tried three times; then it is given up and counted as failed. While the collector is
/// gone, or takes connections and never answers, the buffer fills, and what does not fit is dropped
/// and counted: memory and the work that is told of never feel it. One request is on its way at a
/// time. At the end of the service what is left is sent, within a deadline. Every item that was put
/// in before that end is counted once, as sent, dropped or failed; one put in later stays in the
/// buffer.
#[derive(Debug)]
pub struct Exporter<T> {
    options: Options,
    buffer: Buffer<T>,
    cost: Option<(Arc<dyn Clock>, Thrift)>,
}

impl<T: Encode> Exporter<T> {
    /// Creates the exporter of a buffer.
    pub const fn new(options: Options, buffer: Buffer<T>) -> Self {
        Self { options, buffer, cost: None }
    }

    /// Tells a budget what encoding costs, by this clock; by default nobody is told.
    #[must_use]
    pub fn thrift(mut self, thrift: Thrift, clock: Arc<dyn Clock>) -> Self {
        self.cost = Some((clock, thrift));
        self
    }

    /// Sends until the service stops, then what is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the batch that is on its way, and counts it as failed.
    pub async fn run(self, stop: Stop) {
        shipping(self.send_all(stop)).await;
    }

    async fn send_all(self, stop: Stop) {
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
            EXPORTED.add_for((T::SIGNAL, Fate::Failed), lost as u64);
            tracing::warn!(lost, signal = ?T::SIGNAL, "the collector did not take the last of it");
        }
    }

    /// Waits until there is something, and others had the time to join it.
    async fn ripe(&self) {
        self.buffer.filled().await;
        tokio::time::sleep(self.options.interval).await;
    }

    /// Sends everything that is in the buffer.
    async fn drain(&self) {
        while let Some((mut batch, items)) = Batch::take(&self.buffer, self.options.batch) {
            let body = self.encode(&items);
            drop(items);
            batch.became(body.len());
            if self.send(body).await {
                batch.was_sent();
            }
        }
    }

    fn encode(&self, items: &[T]) -> Bytes {
        let begun = self.cost.as_ref().map(|(clock, _)| clock.now());
        let body = Bytes::from(T::request(&self.options.resource, items).to_string());
        if let (Some(begun), Some((clock, thrift))) = (begun, &self.cost) {
            thrift.spend(clock.now().since(begun));
        }
        body
    }

    /// Sends one batch, and again where that may help; returns whether it was taken.
    async fn send(&self, body: Bytes) -> bool {
        let backoff = Backoff::exponential(Duration::from_millis(200));
        for attempt in 1..=self.options.attempts {
            let one = post(&self.options.address, T::PATH, body.clone());
            match tokio::time::timeout(self.options.timeout, one).await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) if error.kind() == &ErrorKind::Invalid => {
                    tracing::warn!(error = %error, signal = ?T::SIGNAL, "the collector refuses");
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

/// A batch on its way; whatever becomes of it, its items are counted once, and its bytes are those
/// of its buffer until then.
#[derive(Debug)]
struct Batch<'a, T: Parcel> {
    buffer: &'a Buffer<T>,
    items: usize,
    bytes: usize,
    fate: Fate,
}

impl<'a, T: Parcel> Batch<'a, T> {
    /// Takes what waits, up to a limit; none if nothing does.
    fn take(buffer: &'a Buffer<T>, limit: usize) -> Option<(Self, Vec<T>)> {
        let (items, bytes) = buffer.take_in_hand(limit);
        let batch = Self { buffer, items: items.len(), bytes, fate: Fate::Failed };
        (!items.is_empty()).then_some((batch, items))
    }

    /// Counts what was made of the items in their place.
    fn became(&mut self, bytes: usize) {
        self.buffer.in_hand(self.bytes, bytes);
        self.bytes = bytes;
    }

    fn was_sent(mut self) {
        self.fate = Fate::Sent;
    }
}

impl<T: Parcel> Drop for Batch<'_, T> {
    fn drop(&mut self) {
        self.buffer.in_hand(self.bytes, 0);
        EXPORTED.add_for((T::SIGNAL, self.fate), self.items as u64);
    }
}

/// Waits until the service was asked to stop, and then for as long as the last items may take.
async fn over(stop: &Stop, last: Duration) {
    stop.requested().await;
    tokio::time::sleep(last).await;
}

#[cfg(test)]
mod tests {
    use infra_testkit::clock::ManualClock;

    use super::*;
    use crate::buffer::Signal;

    /// What takes 3 ms to encode, by a clock that only it moves.
    #[derive(Debug)]
    struct Heavy(ManualClock);

    impl Parcel for Heavy {
        const SIGNAL: Signal = Signal::Traces;

        fn bytes(&self) -> usize {
            1
        }
    }

    impl Encode for Heavy {
        const PATH: &'static str = "/";

        fn request(_: &[Attribute], items: &[Self]) -> serde_json::Value {
            for Self(hands) in items {
                hands.advance(Duration::from_millis(3));
            }
            serde_json::Value::Null
        }
    }

    #[test]
    fn a_budget_is_told_what_encoding_costs() {
        let (hands, thrift) = (ManualClock::new(), Thrift::default());
        let exporter = Exporter::new(Options::new("127.0.0.1:1", "test"), Buffer::new(1))
            .thrift(thrift.clone(), Arc::new(hands.clone()));
        assert_eq!(exporter.encode(&[Heavy(hands.clone()), Heavy(hands)]), "null");
        assert_eq!(thrift.take_spent(), Duration::from_millis(6));
    }
}
