//! A trace context around each message.

use async_trait::async_trait;
use infra_core::{context::Context, random::Random, trace::TraceContext};
use tracing::Instrument;

use super::{Layer, Next};
use crate::{app::Inbound, close::Close, connection::Connection};

/// Handles each message in a span of its own, below the trace of the handshake.
///
/// The context reaches the ports by [`Context`], with the handshake's trace state. A client without
/// a trace begins one that is not sampled, which costs two random numbers.
#[derive(Debug)]
pub struct Traced {
    random: Random,
    takes_baggage: bool,
}

impl Traced {
    /// Takes span ids from the operating system's randomness.
    pub fn new() -> Self {
        Self::with_random(Random::from_system())
    }

    /// Takes span ids from a stream that a test can repeat.
    pub const fn with_random(random: Random) -> Self {
        Self { random, takes_baggage: false }
    }

    /// Takes the handshake's baggage along as well; by default it is left behind, since a client
    /// wrote it, and what its messages cause is logged and stored with it.
    #[must_use]
    pub const fn with_baggage(mut self) -> Self {
        self.takes_baggage = true;
        self
    }
}

impl Default for Traced {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Layer for Traced {
    async fn inbound(
        &self,
        connection: &Connection,
        message: Inbound,
        next: Next<'_>,
    ) -> Result<(), Close> {
        let handshake = connection.facts().context();
        let trace = handshake.trace_context().map_or_else(
            || TraceContext::root(&self.random, false),
            |trace| trace.child(&self.random),
        );
        let span = tracing::debug_span!(
            "websocket message",
            connection = %connection.id(),
            bytes = message.len(),
            traceparent = %trace,
        );
        let handled = next.run(connection, message).instrument(span);
        let state = handshake.trace_state_of().clone();
        let mut context = Context::current().trace(trace).trace_state(state);
        if self.takes_baggage {
            context = context.baggage(handshake.baggage_of().clone());
        }
        context.scope(handled).await
    }
}
