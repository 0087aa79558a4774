//! A bounded buffer between the work and whoever exports: full is counted, never waited for.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use infra_core::metric::{Counter, Declaration, Label, LabelSet};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What became of a span or of a shipped log record.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
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

pub(super) const EXPORTED: Counter<Fate> = Counter::labelled(
    "infra_observability_exported_total",
    "Spans and log records for the collector: sent, dropped because the buffer was full, or failed.",
);

pub(super) const METRICS: &[Declaration] = &[EXPORTED.declaration()];

#[derive(Debug)]
struct Shared<T> {
    capacity: usize,
    items: Mutex<VecDeque<T>>,
    dropped: AtomicU64,
    filled: Notify,
}

/// A bounded buffer of spans or log records. Cheap to clone; clones share it.
///
/// When it is full, the newest are dropped and counted.
#[derive(Debug)]
pub struct Buffer<T>(Arc<Shared<T>>);

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Buffer<T> {
    /// Creates a buffer of at most `capacity` items.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Shared {
            capacity,
            items: Mutex::default(),
            dropped: AtomicU64::new(0),
            filled: Notify::new(),
        }))
    }

    /// Puts an item in; returns whether there was room.
    pub fn put(&self, item: T) -> bool {
        let mut items = self.0.items.lock();
        if self.0.capacity <= items.len() {
            drop(items);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            EXPORTED.add_for(Fate::Dropped, 1);
            return false;
        }
        items.push_back(item);
        drop(items);
        self.0.filled.notify_one();
        true
    }

    /// Takes up to `limit` items, oldest first.
    pub fn take(&self, limit: usize) -> Vec<T> {
        let mut items = self.0.items.lock();
        let count = limit.min(items.len());
        items.drain(..count).collect()
    }

    /// Returns how many items are in it.
    pub fn len(&self) -> usize {
        self.0.items.lock().len()
    }

    /// Returns whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    #[tokio::test]
    async fn a_full_buffer_drops_the_newest_and_counts() {
        let buffer = Buffer::new(2);
        let room: Vec<bool> = (0..4).map(|n| buffer.put(n)).collect();
        assert_eq!(room, [true, true, false, false]);
        assert_eq!((buffer.len(), buffer.dropped()), (2, 2));
        buffer.filled().await;
        assert_eq!(buffer.clone().take(9), [0, 1]);
        assert!(buffer.is_empty());
    }
}
