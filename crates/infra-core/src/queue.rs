//! The queue: work that is done once its delivery was acknowledged.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use async_trait::async_trait;

use crate::{
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    error::Result,
    id::{CorrelationId, MessageId, QueueName},
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

/// What a queue holds, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Ready to be delivered.
    pub ready: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// In the hands of consumers.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// How long the oldest ready message has waited.
    pub oldest: Duration,
}

/// What kind of end made a message a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It failed as often as it may.
    Failed,
    /// A consumer said that it can never be done.
    Refused,
    /// As many consumers as may were lost with it.
    Crashed,
    /// Its time to live was over.
    Expired,
    /// Newer messages needed its place.
    Displaced,
    /// It was delivered or given back as often as it may.
    Exhausted,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 6] = [
        Self::Failed,
        Self::Refused,
        Self::Crashed,
        Self::Expired,
        Self::Displaced,
        Self::Exhausted,
    ];

    /// Returns the cause's name, for stored records, metrics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Crashed => "crashed",
            Self::Expired => "expired",
            Self::Displaced => "displaced",
            Self::Exhausted => "exhausted",
        }
    }
}

/// How one attempt on a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When, by the engine's clock.
    pub at: Timestamp,
    /// What the consumer said, or what is known of its loss.
    pub reason: String,
}

/// How many of the latest failures are kept of a message.
pub const MAX_HISTORY: usize = 16;

/// A message that failed for good, with why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message as it was published.
    pub message: Message,
    /// How often it was tried.
    pub attempts: Attempts,
    /// What kind of end it was.
    pub cause: Cause,
    /// Why it is dead.
    pub reason: String,
    /// The latest [`MAX_HISTORY`] failures and crashes, oldest first, also of earlier lives.
    pub history: Vec<Failure>,
    /// When it died, by the engine's clock.
    pub died: Timestamp,
}

/// What an engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an ability of its own")]
#[non_exhaustive]
pub struct Features {
    /// The highest durability that a publish can ask for.
    pub durability: Durability,
    /// Whether priorities are kept.
    pub has_priorities: bool,
    /// Whether messages of one key are delivered in order, one at a time.
    pub has_key_order: bool,
    /// Whether messages can be delayed.
    pub has_delay: bool,
    /// Whether a batch of several messages is published whole or not at all.
    pub has_batches: bool,
}

impl Features {
    /// Creates the features of an engine that can do everything.
    pub const fn all(durability: Durability) -> Self {
        let (has_priorities, has_key_order, has_delay, has_batches) = (true, true, true, true);
        Self { durability, has_priorities, has_key_order, has_delay, has_batches }
    }
}

/// Hands out work until it is done.
///
/// # Contract
///
/// 1. **Acknowledged or again:** a published message is delivered until it is acknowledged, dead
///    or over its time; a consumer that dies loses none.
/// 2. **One at a time:** a leased message is in nobody else's hands.
/// 3. **Order per key:** messages of one key are delivered in the order of publishing, one in
///    flight at a time, also over retries.
/// 4. **Priority:** of what is ready the most urgent is delivered first, and within one priority
///    the oldest, unless the queue was made to be fair to keys or to bound how long the less urgent
///    wait; a returned message keeps its priority.
/// 5. **Counted apart:** failures and crashes have limits of their own and end in dead letters;
///    a release is no attempt.
/// 6. **Late verdict:** after the lease's end it is [`LeaseLost`](crate::error::ErrorKind::LeaseLost).
/// 7. **Dropped is released:** a delivery that is dropped is delivered again at once.
/// 8. **Once within the window:** a repeated dedup id is not published again and says so.
/// 9. **Bounded:** above capacity a publish is [`Overloaded`](crate::error::ErrorKind::Overloaded) or
///    what the queue's policy says; nothing is lost in silence.
/// 10. **Timed:** nothing is delivered before its delay or after its time to live.
/// 11. **All or nothing:** a batch is published whole or not at all.
/// 12. **Replayed whole:** a replayed dead letter has its payload, key, priority and dedup id, and is
///     the newest of its key; how often it was replayed is known.
/// 13. **Accounted:** a dead letter tells its cause, its counts and its latest failures.
#[async_trait]
pub trait Queue: Send + Sync + Debug {
    /// Returns the queue's name.
    fn name(&self) -> &QueueName;

    /// Returns what the engine can do; what it cannot is refused, not faked.
    fn features(&self) -> Features;

    /// Publishes messages, all or none, and returns for each whether it was new.
    ///
    /// # Errors
    ///
    /// [`Overloaded`](crate::error::ErrorKind::Overloaded),
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported),
    /// [`Indeterminate`](crate::error::ErrorKind::Indeterminate).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves all of them published or none; a dedup id makes a repeat safe.
    async fn publish(&self, messages: Vec<Message>, durability: Durability) -> Result<Vec<bool>>;

    /// Waits for up to `limit` messages, each leased for `lease`; returns at least one.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::error::ErrorKind::Closed) once the queue is shut down and
    /// [`Invalid`](crate::error::ErrorKind::Invalid) for a limit or lease of zero.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no message.
    async fn receive(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>>;

    /// Returns what the queue holds.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn stats(&self) -> Result<Stats>;

    /// Returns up to `limit` dead letters, oldest first.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>>;

    /// Returns up to `limit` living messages, in the order of publishing, without taking them.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn peek(&self, limit: usize) -> Result<Vec<Message>>;

    /// Puts a dead letter back with fresh counts; returns false if there is no such one.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it dead or ready.
    async fn replay(&self, id: MessageId) -> Result<bool>;

    /// Removes dead letters that died before `before`, of one cause or of any, and returns how many
    /// went.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some of them.
    async fn purge_dead(&self, before: Timestamp, cause: Option<Cause>) -> Result<u64>;

    /// Stops (`true`) or resumes (`false`) handing out messages; publishing goes on.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) if the engine cannot.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it done or not.
    async fn set_paused(&self, paused: bool) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::random::Random;

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

    #[test]
    fn every_cause_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Cause::ALL.map(Cause::name).into();
        assert_eq!(names.len(), Cause::ALL.len());
    }
}
