//! The port that engines implement.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

use super::{Cause, DeadLetter, Delivery, Message};
use crate::{
    clock::Timestamp,
    durability::Durability,
    error::Result,
    id::{MessageId, QueueName},
};

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

    /// Removes every message that nobody has in hand, delayed ones too, and returns how many it
    /// were. Dead letters and dedup ids stay.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it done or not.
    async fn clear(&self) -> Result<u64>;

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
