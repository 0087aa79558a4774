//! A message in the hands of a consumer, and what becomes of it.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

use super::Message;
use crate::{clock::Timestamp, error::Result};

/// How often a message was handed out and how that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attempts {
    /// Times it was delivered, this one included.
    pub deliveries: u32,
    /// Times a handler said that it failed.
    pub failures: u32,
    /// Times its lease ended without a word.
    pub crashes: u32,
    /// Times it was given back unharmed.
    pub releases: u32,
    /// Times it came back from the dead letters; the other counts began anew each time.
    pub replays: u32,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Done; it is gone.
    Ack,
    /// Failed; deliver it again after this pause, until the limit of failures.
    Nack {
        /// The pause.
        delay: Duration,
        /// Why it failed, for the dead letter.
        reason: String,
    },
    /// Not worked on; deliver it again at once. It counts as no attempt.
    Release,
    /// Its handler broke down, as by a panic; deliver it again at once, until the limit of crashes.
    Crash {
        /// What is known of it.
        reason: String,
    },
    /// Failed for good.
    DeadLetter {
        /// Why.
        reason: String,
    },
}

/// The engine's side of a delivery. Engines implement it; callers hold a [`Delivery`].
#[async_trait]
pub trait Lease: Send + Sync + Debug {
    /// Carries out a verdict.
    async fn settle(&self, settlement: Settlement) -> Result<()>;

    /// Moves the end of the lease to `lease` from now.
    async fn extend(&self, lease: Duration) -> Result<()>;

    /// Releases the message without waiting; called when the delivery is dropped.
    fn abandon(&self);
}

/// A message in the hands of one consumer, until its lease ends.
///
/// It is consumed by its verdict. Dropping it without one releases the message. A verdict that
/// comes after the lease's end is [`LeaseLost`](crate::error::ErrorKind::LeaseLost).
#[derive(Debug)]
pub struct Delivery {
    message: Message,
    attempts: Attempts,
    published: Timestamp,
    lease: Option<Box<dyn Lease>>,
}

impl Delivery {
    /// Creates a delivery; engines call it.
    pub fn new(
        message: Message,
        attempts: Attempts,
        published: Timestamp,
        lease: Box<dyn Lease>,
    ) -> Self {
        Self { message, attempts, published, lease: Some(lease) }
    }

    /// Returns the message.
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// Returns how often it was handed out.
    pub const fn attempts(&self) -> Attempts {
        self.attempts
    }

    /// Returns when it was published, by the engine's clock.
    pub const fn published(&self) -> Timestamp {
        self.published
    }

    /// Says that it is done.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](crate::error::ErrorKind::LeaseLost) if the lease has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it acknowledged or leased; then it is delivered again.
    pub async fn ack(self) -> Result<()> {
        self.settle(Settlement::Ack).await
    }

    /// Says that it failed and may be tried again after `delay`.
    ///
    /// # Errors
    ///
    /// As for [`Delivery::ack`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it returned or leased; either way it is delivered again.
    pub async fn nack(self, delay: Duration, reason: impl Into<String>) -> Result<()> {
        self.settle(Settlement::Nack { delay, reason: reason.into() }).await
    }

    /// Gives it back unharmed.
    ///
    /// # Errors
    ///
    /// As for [`Delivery::ack`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Delivery::nack`].
    pub async fn release(self) -> Result<()> {
        self.settle(Settlement::Release).await
    }

    /// Says that its handler broke down.
    ///
    /// # Errors
    ///
    /// As for [`Delivery::ack`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Delivery::nack`].
    pub async fn crashed(self, reason: impl Into<String>) -> Result<()> {
        self.settle(Settlement::Crash { reason: reason.into() }).await
    }

    /// Says that it failed for good.
    ///
    /// # Errors
    ///
    /// As for [`Delivery::ack`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Delivery::ack`].
    pub async fn dead_letter(self, reason: impl Into<String>) -> Result<()> {
        self.settle(Settlement::DeadLetter { reason: reason.into() }).await
    }

    /// Moves the end of the lease to `lease` from now.
    ///
    /// # Errors
    ///
    /// As for [`Delivery::ack`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the lease extended or not.
    pub async fn extend(&self, lease: Duration) -> Result<()> {
        match &self.lease {
            Some(held) => held.extend(lease).await,
            None => Ok(()),
        }
    }

    async fn settle(mut self, settlement: Settlement) -> Result<()> {
        match self.lease.take() {
            Some(lease) => lease.settle(settlement).await,
            None => Ok(()),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{codec::Payload, id::MessageId, random::Random};

    #[derive(Debug, Clone, Default)]
    struct Recorded(Arc<Mutex<Vec<String>>>);

    #[async_trait]
    impl Lease for Recorded {
        async fn settle(&self, settlement: Settlement) -> Result<()> {
            self.0.lock().unwrap().push(format!("{settlement:?}"));
            Ok(())
        }

        async fn extend(&self, lease: Duration) -> Result<()> {
            self.0.lock().unwrap().push(format!("extend {lease:?}"));
            Ok(())
        }

        fn abandon(&self) {
            self.0.lock().unwrap().push("abandon".to_owned());
        }
    }

    fn delivery(lease: &Recorded) -> Delivery {
        let id = MessageId::generate(Timestamp::EPOCH, &Random::seeded(1));
        let message = Message::new(id, Payload::raw("x")).key("room-1").dedup("once");
        Delivery::new(message, Attempts::default(), Timestamp::EPOCH, Box::new(lease.clone()))
    }

    #[test]
    fn a_delivery_is_settled_once_or_abandoned_when_dropped() {
        let seen = Recorded::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            delivery(&seen).extend(Duration::from_secs(1)).await.unwrap();
            delivery(&seen).ack().await.unwrap();
            delivery(&seen).release().await.unwrap();
            delivery(&seen).nack(Duration::ZERO, "late").await.unwrap();
            delivery(&seen).dead_letter("bad").await.unwrap();
            delivery(&seen).crashed("panic").await.unwrap();
        });
        let wanted = [
            "extend 1s",
            "abandon",
            "Ack",
            "Release",
            "Nack { delay: 0ns, reason: \"late\" }",
            "DeadLetter { reason: \"bad\" }",
            "Crash { reason: \"panic\" }",
        ];
        assert_eq!(*seen.0.lock().unwrap(), wanted);
    }
}
