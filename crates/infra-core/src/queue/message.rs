//! What is put into a queue.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Timestamp,
    codec::Payload,
    id::{CorrelationId, MessageId},
    trace::TraceContext,
};

/// How urgent a message is; urgent ones are delivered first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// When nothing else waits.
    Low,
    /// The ordinary case.
    #[default]
    Normal,
    /// Before ordinary ones.
    High,
    /// Before all others.
    Critical,
}

/// A message for a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// What is to be done.
    pub payload: Payload,
    /// How urgent it is.
    pub priority: Priority,
    /// Messages of one key are delivered in order, one at a time.
    pub key: Option<String>,
    /// It is delivered no earlier than this long after it was published.
    pub delay: Duration,
    /// It is dead this long after it was published, unless it was acknowledged.
    pub ttl: Option<Duration>,
    /// A second message with the same one within the queue's window is not published.
    pub dedup: Option<String>,
    /// Facts beside the payload.
    pub headers: BTreeMap<String, String>,
    /// The correlation id of the context that made it.
    pub correlation: Option<CorrelationId>,
    /// The trace of the context that made it.
    pub trace: Option<TraceContext>,
}

impl Message {
    /// Creates an ordinary message without key, delay or end.
    pub const fn new(id: MessageId, payload: Payload) -> Self {
        Self {
            id,
            payload,
            priority: Priority::Normal,
            key: None,
            delay: Duration::ZERO,
            ttl: None,
            dedup: None,
            headers: BTreeMap::new(),
            correlation: None,
            trace: None,
        }
    }

    /// Sets the priority.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the key that orders it.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the delay.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets the time to live.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the id against doubles.
    #[must_use]
    pub fn dedup(mut self, dedup: impl Into<String>) -> Self {
        self.dedup = Some(dedup.into());
        self
    }

    /// Adds a fact beside the payload.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Returns whether its time to live is over at `now`, if it was published at `published`; the
    /// instant of its end belongs to what is over.
    pub fn is_expired(&self, published: Timestamp, now: Timestamp) -> bool {
        self.ttl.is_some_and(|ttl| published.plus(ttl) <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_message_is_over_from_the_instant_of_its_end_on() {
        let id = MessageId::generate(Timestamp::EPOCH, &Random::seeded(1));
        let message = Message::new(id, Payload::raw("x")).ttl(Duration::from_millis(100));
        let (published, end) = (Timestamp::from_millis(7), 107);
        for now in [0, 7, end - 1, end, end + 1, u64::MAX] {
            let is_over = message.is_expired(published, Timestamp::from_millis(now));
            assert_eq!(is_over, end <= now, "at {now}");
        }
        let endless = Message { ttl: None, ..message };
        assert!(!endless.is_expired(published, Timestamp::from_millis(u64::MAX)));
    }
}
