//! A message in a queue.

use infra_core::{
    clock::{Instant, Timestamp},
    queue::{Attempts, Failure, MAX_HISTORY, Message},
};

/// The number of an entry: it grows with the order of publishing.
pub(crate) type Number = u64;

/// How many bytes of a reason are kept.
const MAX_REASON: usize = 2_000;

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// On its way to the disk; then it waits.
    Unwritten(Instant),
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
    pub(crate) history: Vec<Failure>,
    pub(crate) published: Timestamp,
    /// When its time to live is over.
    pub(crate) end: Option<Instant>,
    pub(crate) at: Whereabouts,
    /// When something happens to it by itself, as the queue noted it.
    pub(crate) timer: Option<Instant>,
    /// Whether its time has not come yet, as the queue counted it.
    pub(crate) is_delayed: bool,
    /// Its turn among the ready ones of its priority, if it is one.
    pub(crate) turn: Option<u64>,
}

impl Entry {
    pub(crate) fn new(message: Message, now: Instant, published: Timestamp) -> Self {
        Self {
            end: message.ttl.map(|ttl| now + ttl),
            at: Whereabouts::Waiting(now + message.delay),
            message,
            attempts: Attempts::default(),
            history: Vec::new(),
            published,
            timer: None,
            is_delayed: false,
            turn: None,
        }
    }

    pub(crate) const fn is_leased(&self) -> bool {
        matches!(self.at, Whereabouts::Leased { .. })
    }

    pub(crate) const fn is_free(&self) -> bool {
        matches!(self.at, Whereabouts::Waiting(_))
    }

    /// Notes how an attempt ended.
    pub(crate) fn note(&mut self, at: Timestamp, reason: &str) {
        remember(&mut self.history, Failure { at, reason: shortened(reason) });
    }

    /// Returns when something happens to it by itself.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        match self.at {
            Whereabouts::Unwritten(_) => None,
            Whereabouts::Leased { until, .. } => Some(until),
            Whereabouts::Waiting(from) if now < from => {
                Some(self.end.map_or(from, |end| end.min(from)))
            }
            Whereabouts::Waiting(_) => self.end,
        }
    }
}

/// Adds to a history; the oldest goes when it is too long.
pub(crate) fn remember(history: &mut Vec<Failure>, failure: Failure) {
    history.push(failure);
    let excess = history.len().saturating_sub(MAX_HISTORY);
    history.drain(..excess);
}

/// Returns as much of a reason as is kept.
pub(crate) fn shortened(reason: &str) -> String {
    reason.get(..reason.floor_char_boundary(MAX_REASON)).unwrap_or_default().to_owned()
}
