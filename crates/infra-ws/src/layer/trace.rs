//! A trace context around each message.

use async_trait::async_trait;
use infra_core::{context::Context, random::Random, trace::TraceContext};
use tracing::Instrument;

use super::{Layer, Next};
use crate::{app::Inbound, close::Close, connection::Connection};

/// Handles each message in a span of its own, below the trace of the handshake.
///
/// The context reaches the ports by [`Context`]. A client without a trace begins one that is not
/// sampled, which costs two random numbers.
#[derive(Debug)]
pub struct Traced(Random);

impl Traced {
    /// Takes span ids from the operating system's randomness.
    pub fn new() -> Self {
        Self(Random::from_system())
    }

    /// Takes span ids from a stream that a test can repeat.
    pub const fn with_random(random: Random) -> Self {
        Self(random)
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
        let handshake = connection.facts().trace();
        let trace = handshake
            .map_or_else(|| TraceContext::root(&self.0, false), |trace| trace.child(&self.0));
        let span = tracing::debug_span!(
            "websocket message",
            connection = %connection.id(),
            bytes = message.len(),
            traceparent = %trace,
        );
        let handled = next.run(connection, message).instrument(span);
        Context::current().trace(trace).scope(handled).await
    }
}
