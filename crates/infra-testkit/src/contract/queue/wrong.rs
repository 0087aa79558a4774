//! Queues that are wrong on purpose: each has one bug that a clause must catch.

#![expect(clippy::wildcard_enum_match_arm, reason = "each bug is about a few cases")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    ErrorKind, Result,
    clock::Timestamp,
    durability::Durability,
    id::{MessageId, QueueName},
    queue::{
        Cause, DeadLetter, Delivery, Features, Lease, Message, Priority, Queue, Settlement, Stats,
    },
};
use parking_lot::Mutex;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A message whose consumer dies is gone.
    ForgetsCrashed,
    /// A message stays ready while it is leased.
    TwoHands,
    /// Keys are not looked at.
    Unordered,
    /// Priorities are not looked at.
    Unprioritised,
    /// A failure counts as nothing.
    FailuresForever,
    /// A release counts as a failure.
    ReleaseIsFailure,
    /// A verdict on a lost lease is taken.
    AcceptsLate,
    /// A dropped delivery stays leased.
    KeepsDropped,
    /// Dedup ids are not looked at.
    WritesTwice,
    /// What is above the capacity is thrown away.
    DropsExcess,
    /// A delay is none.
    Early,
    /// A time to live is not looked at.
    Immortal,
    /// The messages of a batch are published one by one.
    OneByOne,
    /// A replayed message has lost its key and priority.
    ReplaysBare,
    /// A pause does nothing.
    NeverPaused,
    /// A purge removes everything.
    PurgesAll,
    /// A purge does not look at the cause.
    PurgesCauses,
    /// What is delayed is not cleared.
    ClearsReady,
    /// The history of a dead letter is gone.
    Forgetful,
    /// A panic of a handler counts as nothing.
    CrashIsRelease,
    /// What is peeked at is taken.
    PeekTakes,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 21] = [
        (Self::ForgetsCrashed, "acknowledged_or_again"),
        (Self::TwoHands, "one_at_a_time"),
        (Self::Unordered, "order_per_key"),
        (Self::Unprioritised, "prioritised"),
        (Self::FailuresForever, "failures_and_crashes_counted_apart"),
        (Self::ReleaseIsFailure, "dropped_is_released"),
        (Self::AcceptsLate, "late_verdict"),
        (Self::KeepsDropped, "dropped_is_released"),
        (Self::WritesTwice, "once_within_the_window"),
        (Self::DropsExcess, "bounded"),
        (Self::Early, "in_time"),
        (Self::Immortal, "in_time"),
        (Self::OneByOne, "all_or_nothing"),
        (Self::ReplaysBare, "replayed_whole"),
        (Self::NeverPaused, "paused"),
        (Self::PurgesAll, "purged"),
        (Self::PurgesCauses, "purged"),
        (Self::ClearsReady, "cleared"),
        (Self::Forgetful, "accounted"),
        (Self::CrashIsRelease, "accounted"),
        (Self::PeekTakes, "peeked"),
    ];
}

/// A right queue with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn Queue>,
    bug: Bug,
    kept: Kept,
}

/// Deliveries that are held for ever.
type Kept = Arc<Mutex<Vec<Delivery>>>;

impl Wrong {
    /// Plants a bug into a right queue.
    pub fn plant(right: Arc<dyn Queue>, bug: Bug) -> Arc<dyn Queue> {
        Arc::new(Self { right, bug, kept: Kept::default() })
    }

    fn bend(&self, mut message: Message) -> Message {
        match self.bug {
            Bug::Unordered => message.key = None,
            Bug::Unprioritised => message.priority = Priority::Normal,
            Bug::WritesTwice => message.dedup = None,
            Bug::Early => message.delay = Duration::ZERO,
            Bug::Immortal => message.ttl = None,
            _ => {}
        }
        message
    }

    /// Puts a delivery into hands that do something wrong.
    async fn hand(&self, right: Delivery) -> Result<Delivery> {
        let (message, attempts) = (right.message().clone(), right.attempts());
        let published = right.published();
        let held = match self.bug {
            Bug::ForgetsCrashed => {
                right.ack().await?;
                None
            }
            Bug::TwoHands => {
                right.release().await?;
                None
            }
            _ => Some(right),
        };
        let lease = Hands { right: Mutex::new(held), bug: self.bug, kept: Arc::clone(&self.kept) };
        Ok(Delivery::new(message, attempts, published, Box::new(lease)))
    }
}

/// A lease that does something wrong.
#[derive(Debug)]
struct Hands {
    right: Mutex<Option<Delivery>>,
    bug: Bug,
    kept: Kept,
}

#[async_trait]
impl Lease for Hands {
    async fn settle(&self, settlement: Settlement) -> Result<()> {
        let Some(right) = self.right.lock().take() else { return Ok(()) };
        let said = match settlement {
            Settlement::Ack => right.ack().await,
            Settlement::Nack { .. } if self.bug == Bug::FailuresForever => right.release().await,
            Settlement::Nack { delay, reason } => right.nack(delay, reason).await,
            Settlement::Release => right.release().await,
            Settlement::Crash { .. } if self.bug == Bug::CrashIsRelease => right.release().await,
            Settlement::Crash { reason } => right.crashed(reason).await,
            Settlement::DeadLetter { reason } => right.dead_letter(reason).await,
        };
        match said {
            Err(error) if self.bug == Bug::AcceptsLate && *error.kind() == ErrorKind::LeaseLost => {
                Ok(())
            }
            said => said,
        }
    }

    async fn extend(&self, lease: Duration) -> Result<()> {
        let held = self.right.lock().take();
        let Some(right) = held else { return Ok(()) };
        let said = right.extend(lease).await;
        *self.right.lock() = Some(right);
        said
    }

    fn abandon(&self) {
        let Some(right) = self.right.lock().take() else { return };
        match self.bug {
            Bug::KeepsDropped => self.kept.lock().push(right),
            Bug::ReleaseIsFailure => {
                tokio::spawn(right.nack(Duration::ZERO, "dropped"));
            }
            _ => drop(right),
        }
    }
}

#[async_trait]
impl Queue for Wrong {
    fn name(&self) -> &QueueName {
        self.right.name()
    }

    fn features(&self) -> Features {
        self.right.features()
    }

    async fn publish(&self, messages: Vec<Message>, durability: Durability) -> Result<Vec<bool>> {
        let messages: Vec<Message> =
            messages.into_iter().map(|message| self.bend(message)).collect();
        let count = messages.len();
        if self.bug == Bug::OneByOne {
            let mut new = Vec::new();
            for message in messages {
                new.append(&mut self.right.publish(vec![message], durability).await?);
            }
            return Ok(new);
        }
        match self.right.publish(messages, durability).await {
            Err(error)
                if self.bug == Bug::DropsExcess && *error.kind() == ErrorKind::Overloaded =>
            {
                Ok(vec![true; count])
            }
            said => said,
        }
    }

    async fn receive(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>> {
        let mut handed = Vec::new();
        for right in self.right.receive(limit, lease).await? {
            handed.push(self.hand(right).await?);
        }
        Ok(handed)
    }

    async fn stats(&self) -> Result<Stats> {
        self.right.stats().await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let mut letters = self.right.dead_letters(limit).await?;
        if self.bug == Bug::Forgetful {
            for letter in &mut letters {
                letter.history.clear();
            }
        }
        Ok(letters)
    }

    async fn peek(&self, limit: usize) -> Result<Vec<Message>> {
        let peeked = self.right.peek(limit).await?;
        if self.bug == Bug::PeekTakes {
            for delivery in self.right.receive(limit, Duration::from_mins(1)).await? {
                delivery.ack().await?;
            }
        }
        Ok(peeked)
    }

    async fn replay(&self, id: MessageId) -> Result<bool> {
        if self.bug != Bug::ReplaysBare {
            return self.right.replay(id).await;
        }
        let dead = self.right.dead_letters(usize::MAX).await?;
        let Some(dead) = dead.into_iter().find(|dead| dead.message.id == id) else {
            return Ok(false);
        };
        self.right.purge_dead(Timestamp::from_millis(u64::MAX), None).await?;
        let bare = Message::new(id, dead.message.payload);
        self.right.publish(vec![bare], Durability::Applied).await?;
        Ok(true)
    }

    async fn purge_dead(&self, before: Timestamp, cause: Option<Cause>) -> Result<u64> {
        let all = Timestamp::from_millis(u64::MAX);
        match self.bug {
            Bug::PurgesAll => self.right.purge_dead(all, cause).await,
            Bug::PurgesCauses => self.right.purge_dead(before, None).await,
            _ => self.right.purge_dead(before, cause).await,
        }
    }

    async fn clear(&self) -> Result<u64> {
        if self.bug != Bug::ClearsReady {
            return self.right.clear().await;
        }
        let mut count = 0;
        while 0 < self.right.stats().await?.ready {
            for delivery in self.right.receive(1, Duration::from_mins(1)).await? {
                delivery.ack().await?;
                count += 1;
            }
        }
        Ok(count)
    }

    async fn set_paused(&self, paused: bool) -> Result<()> {
        self.right.set_paused(paused && self.bug != Bug::NeverPaused).await
    }
}
