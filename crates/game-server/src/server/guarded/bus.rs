//! A bus behind policies.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Result,
    pubsub::{Pattern, PubSub, Subject, Subscription},
};
use infra_resilience::{at_most_once, idempotent};

use super::Guard;

#[derive(Debug)]
pub(super) struct GuardedBus {
    bus: Arc<dyn PubSub>,
    guard: Guard,
}

impl GuardedBus {
    pub(super) const fn new(bus: Arc<dyn PubSub>, guard: Guard) -> Self {
        Self { bus, guard }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl PubSub for GuardedBus {
    /// Made once: a subscriber sees a message once or not at all.
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<()> {
        let call = at_most_once(|| self.bus.publish(subject, payload));
        self.guard.once("publish message", call).await
    }

    /// Only the beginning is guarded, and made again if it fails: one that was given up is ended.
    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription> {
        let call = idempotent(|| self.bus.subscribe(pattern));
        self.guard.read("subscribe to messages", call).await
    }
}
