//! Rate limits through the port; the server sets the price of a message, never the client.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::limit::{Charge, Decision, RateLimiter, Verdict};

use super::{Layer, Next};
use crate::{
    app::Inbound,
    close::Close,
    connection::Connection,
    frame::{Class, Frame},
    telemetry::{MIDDLEWARE, Middleware},
};

/// What a message costs, against which keys of which limits; nothing means it is free.
pub type Price = dyn Fn(&Connection, &Inbound) -> Vec<Charge> + Send + Sync;

/// What to do with messages while the limiter cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnOutage {
    /// Refuse them.
    #[default]
    Refuse,
    /// Let them pass, uncounted.
    Admit,
}

/// Lets messages pass as a limiter says; each one is priced, also those that mean nothing.
///
/// A refused message is answered with `{"type":"error","code":"rate_limited","message":...,
/// "retry_after_ms":...}`; the time is the limiter's own.
pub struct RateLimit {
    limiter: Arc<dyn RateLimiter>,
    price: Box<Price>,
    on_outage: OnOutage,
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("on_outage", &self.on_outage).finish_non_exhaustive()
    }
}

impl RateLimit {
    /// Charges `price` of each message to `limiter`; during an outage messages are refused.
    pub fn new(
        limiter: Arc<dyn RateLimiter>,
        price: impl Fn(&Connection, &Inbound) -> Vec<Charge> + Send + Sync + 'static,
    ) -> Self {
        Self { limiter, price: Box::new(price), on_outage: OnOutage::default() }
    }

    /// Sets what happens while the limiter cannot be asked.
    #[must_use]
    pub const fn on_outage(mut self, policy: OnOutage) -> Self {
        self.on_outage = policy;
        self
    }

    /// Returns `None` if the message may pass, else when it may be tried again.
    async fn judge(&self, charges: &[Charge]) -> Option<Refusal> {
        match self.limiter.acquire(charges).await {
            Ok(Decision { verdict: Verdict::Admitted, .. }) => None,
            Ok(Decision { verdict: Verdict::RetryAfter(pause), .. }) => Some(Refusal::After(pause)),
            Ok(Decision { verdict: Verdict::Never, .. }) => Some(Refusal::Never),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "limiter failed");
                (self.on_outage == OnOutage::Refuse).then_some(Refusal::Never)
            }
        }
    }
}

#[derive(Debug)]
enum Refusal {
    After(Duration),
    Never,
}

#[async_trait]
impl Layer for RateLimit {
    async fn inbound(
        &self,
        connection: &Connection,
        message: Inbound,
        next: Next<'_>,
    ) -> Result<(), Close> {
        let charges = (self.price)(connection, &message);
        if charges.is_empty() {
            return next.run(connection, message).await;
        }
        let Some(refusal) = self.judge(&charges).await else {
            return next.run(connection, message).await;
        };
        MIDDLEWARE.add_for(Middleware::Limited, 1);
        let mut frame = serde_json::json!({
            "type": "error", "code": "rate_limited", "message": "too many messages",
        });
        if let (Refusal::After(pause), Some(fields)) = (refusal, frame.as_object_mut()) {
            // Rounded up, so that whoever waits as long is admitted.
            let millis = u64::try_from(pause.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            fields.insert("retry_after_ms".to_owned(), millis.into());
        }
        connection.send(Frame::text(frame.to_string()), Class::Ephemeral);
        Ok(())
    }
}
