//! A bounded buffer between the work and whoever exports: full is counted, never waited for.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use infra_core::metric::{Counter, Declaration, Label, LabelSet};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The bytes that a buffer holds at most, unless it is told otherwise.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// What is sent to a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Records of the log.
    Logs,
}

impl Label for Signal {
    const SET: LabelSet = LabelSet { name: "signal", values: &["traces", "logs"] };

    fn value(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }
}

/// What became of a span or of a shipped log record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only who exports sends"))]
    Sent,
    Dropped,
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only who exports fails"))]
    Failed,
}

impl Label for Fate {
    const SET: LabelSet = LabelSet { name: "fate", values: &["sent", "dropped", "failed"] };

    fn value(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

pub(crate) const EXPORTED: Counter<(Signal, Fate)> = Counter::labelled(
    "infra_observability_exported_total",
    "Spans and log records for the collector: sent, dropped because the buffer was full, or failed.",
);

tokio::task_local! {
    static SHIPPING: ();
}

/// Returns whether the running task sends to a collector: what is logged within it is not shipped,
/// since each request would be the cause of the next one.
pub(crate) fn is_shipping() -> bool {
    SHIPPING.try_with(|()| ()).is_ok()
}

/// Runs what sends to a collector.
#[cfg(feature = "otlp")]
pub(crate) async fn shipping<F: Future>(work: F) -> F::Output {
    SHIPPING.scope((), work).await
}

/// The metrics of what is exported.
pub(crate) const METRICS: &[Declaration] = &[EXPORTED.declaration()];

/// What a [`Buffer`] holds: a span, or a record of the log.
pub trait Parcel: Send + fmt::Debug + 'static {
    /// What kind of thing it is.
    const SIGNAL: Signal;

    /// Returns about how many bytes of memory it takes.
    fn bytes(&self) -> usize;
}

#[derive(Debug)]
struct Held<T> {
    items: VecDeque<T>,
    bytes: usize,
    /// Bytes of what an exporter has taken and is sending.
    in_hand: usize,
}

impl<T: Parcel> Held<T> {
    fn take(&mut self, limit: usize) -> (Vec<T>, usize) {
        let taken: Vec<T> = self.items.drain(..limit.min(self.items.len())).collect();
        let bytes = taken.iter().map(Parcel::bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        (taken, bytes)
    }
}

#[derive(Debug)]
struct Shared<T> {
    capacity: usize,
    max_bytes: usize,
    held: Mutex<Held<T>>,
    dropped: AtomicU64,
    filled: Notify,
}

/// A bounded buffer of spans or log records. Cheap to clone; clones share it.
///
/// It is bounded by a number of items and by their bytes. When it is full, the newest are dropped
/// and counted.
#[derive(Debug)]
pub struct Buffer<T>(Arc<Shared<T>>);

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Parcel> Buffer<T> {
    /// Creates a buffer of at most `capacity` items and 8 MiB.
    pub fn new(capacity: usize) -> Self {
        Self::within(capacity, MAX_BYTES)
    }

    /// Creates a buffer of at most `capacity` items that together take at most `max_bytes`.
    pub fn within(capacity: usize, max_bytes: usize) -> Self {
        Self(Arc::new(Shared {
            capacity,
            max_bytes,
            held: Mutex::new(Held { items: VecDeque::new(), bytes: 0, in_hand: 0 }),
            dropped: AtomicU64::new(0),
            filled: Notify::new(),
        }))
    }

    /// Puts an item in; returns whether there was room.
    pub fn put(&self, item: T) -> bool {
        let bytes = item.bytes();
        let mut held = self.0.held.lock();
        if self.0.capacity <= held.items.len() || self.0.max_bytes < held.bytes + bytes {
            drop(held);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            EXPORTED.add_for((T::SIGNAL, Fate::Dropped), 1);
            return false;
        }
        held.bytes += bytes;
        held.items.push_back(item);
        drop(held);
        self.0.filled.notify_one();
        true
    }

    /// Takes up to `limit` items, oldest first.
    pub fn take(&self, limit: usize) -> Vec<T> {
        self.0.held.lock().take(limit).0
    }

    /// Takes up to `limit` items, oldest first, and returns their bytes too, which are in hand from
    /// now on.
    #[cfg(feature = "otlp")]
    pub(crate) fn take_in_hand(&self, limit: usize) -> (Vec<T>, usize) {
        let mut held = self.0.held.lock();
        let (items, bytes) = held.take(limit);
        held.in_hand += bytes;
        (items, bytes)
    }

    /// Says that other bytes are in hand than were before.
    #[cfg(feature = "otlp")]
    pub(crate) fn in_hand(&self, before: usize, now: usize) {
        let mut held = self.0.held.lock();
        held.in_hand = held.in_hand.saturating_sub(before) + now;
    }

    /// Returns how many items are in it.
    pub fn len(&self) -> usize {
        self.0.held.lock().items.len()
    }

    /// Returns whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns about how many bytes its items take, and those that are on their way.
    pub fn bytes(&self) -> usize {
        let held = self.0.held.lock();
        held.bytes + held.in_hand
    }

    /// Returns how many items were dropped because it was full.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until something was put in.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn filled(&self) {
        self.0.filled.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Bag(usize);

    impl Parcel for Bag {
        const SIGNAL: Signal = Signal::Traces;

        fn bytes(&self) -> usize {
            self.0
        }
    }

    #[tokio::test]
    async fn a_full_buffer_drops_the_newest_and_counts() {
        let buffer = Buffer::new(2);
        let room: Vec<bool> = (0..4).map(|bytes| buffer.put(Bag(bytes))).collect();
        assert_eq!(room, [true, true, false, false]);
        assert_eq!((buffer.len(), buffer.dropped()), (2, 2));
        buffer.filled().await;
        assert_eq!(buffer.take(9), [Bag(0), Bag(1)]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn bytes_bound_it_as_well_and_come_back_when_items_are_taken() {
        let buffer = Buffer::within(99, 10);
        let room = [4, 4, 3, 2, 1].map(|bytes| buffer.put(Bag(bytes)));
        assert_eq!(room, [true, true, false, true, false]);
        assert_eq!((buffer.bytes(), buffer.dropped()), (10, 2));
        assert_eq!(buffer.take(2), [Bag(4), Bag(4)]);
        assert_eq!(buffer.bytes(), 2);
        assert!(!buffer.put(Bag(11)), "it never fits");
    }
}
