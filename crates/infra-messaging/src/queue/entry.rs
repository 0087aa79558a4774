//! A message in a queue.

use std::cmp::Reverse;

use infra_core::{
    clock::{Instant, Timestamp},
    queue::{Attempts, Message, Priority},
};

/// The number of an entry: it grows with the order of publishing.
pub(crate) type Number = u64;

/// The place of a ready entry: the most urgent first, then the oldest.
pub(crate) type Place = (Reverse<Priority>, Number);

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// In the queue, not to be delivered before this.
    Waiting(Instant),
    /// In the hands of the consumer that knows this number, until then.
    Leased { lease: u64, until: Instant },
}

/// A message with what the queue knows of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    pub(crate) attempts: Attempts,
    pub(crate) published: Timestamp,
    /// When its time to live is over.
    pub(crate) end: Option<Instant>,
    pub(crate) at: Whereabouts,
    /// When something happens to it by itself, as the queue noted it.
    pub(crate) timer: Option<Instant>,
}

impl Entry {
    pub(crate) fn new(message: Message, now: Instant, published: Timestamp) -> Self {
        let end = message.ttl.map(|ttl| now + ttl);
        let at = Whereabouts::Waiting(now + message.delay);
        Self { message, attempts: Attempts::default(), published, end, at, timer: None }
    }

    pub(crate) const fn place(&self, number: Number) -> Place {
        (Reverse(self.message.priority), number)
    }

    pub(crate) const fn is_leased(&self) -> bool {
        matches!(self.at, Whereabouts::Leased { .. })
    }

    /// Returns when something happens to it by itself.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        match self.at {
            Whereabouts::Leased { until, .. } => Some(until),
            Whereabouts::Waiting(from) if now < from => {
                Some(self.end.map_or(from, |end| end.min(from)))
            }
            Whereabouts::Waiting(_) => self.end,
        }
    }
}
