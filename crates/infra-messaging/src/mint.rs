//! Makes messages: ids that sort by time, and what the present context knows.

use std::sync::Arc;

use infra_core::{
    Clock, clock::Timestamp, codec::Payload, context::Context, id::MessageId, queue::Message,
    random::Random,
};

use crate::carried;

/// Makes messages with ids of a clock and a random source. Clones share both.
///
/// Correlation, trace, trace state and baggage are those of the [`Context`] that runs; the last two
/// stand in the headers `tracestate` and `baggage`, if there are any.
#[derive(Debug, Clone)]
pub struct Mint {
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

impl Mint {
    /// Creates a mint; a seeded source makes the same ids again.
    pub fn new(clock: Arc<dyn Clock>, random: Random) -> Self {
        Self { clock, random: Arc::new(random) }
    }

    /// Makes an ordinary message.
    pub fn message(&self, payload: Payload) -> Message {
        let mut message = Message::new(self.id(), payload);
        carried::mark(&mut message, &Context::current());
        message
    }

    /// Makes an id.
    pub fn id(&self) -> MessageId {
        MessageId::generate(self.clock.wall(), &self.random)
    }
}

/// Returns when a message was made, to the millisecond: its id says so (RFC 9562, version 7).
pub fn made(id: MessageId) -> Timestamp {
    Timestamp::from_millis(u64::try_from(id.as_uuid().as_u128() >> 80).unwrap_or(u64::MAX))
}
