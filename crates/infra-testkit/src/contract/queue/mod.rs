//! The contract of [`infra_core::queue::Queue`].
//!
//! Clauses take a queue on the system's clock with room for [`CAPACITY`] messages, that gives a
//! message up after [`LIMIT`] failures or as many crashes, and knows dedup ids for [`WINDOW`].

mod clauses;
mod timed;
pub mod wrong;

use std::{sync::Arc, time::Duration};

use infra_core::{
    Result,
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    id::MessageId,
    queue::{Delivery, Message, Queue},
    random::Random,
};

pub use self::{clauses::*, timed::*};
use super::{Breach, paced};

/// What a clause takes: an empty queue.
pub type Store = Arc<dyn Queue>;

/// How many messages the queue of a clause has room for.
pub const CAPACITY: usize = 100;

/// How many failures, or crashes, make a message a dead letter.
pub const LIMIT: u32 = 3;

/// How long a dedup id is known.
pub const WINDOW: Duration = Duration::from_mins(1);

/// The same on real time.
pub const LIVE_WINDOW: Duration = Duration::from_secs(4);

/// Returns how long a message is leased.
fn lease() -> Duration {
    paced(Duration::from_secs(30), Duration::from_secs(2))
}

/// Returns how long a dedup id is known.
fn window() -> Duration {
    paced(WINDOW, LIVE_WINDOW)
}

/// How long it is waited for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns how long it is waited for what must not come.
fn moment() -> Duration {
    paced(Duration::from_millis(20), Duration::from_millis(500))
}

/// Stamps out one test per clause for a queue; the expression makes an empty one.
///
/// `live` before it runs them on real time, for a queue whose window is [`LIVE_WINDOW`]. `planted`
/// before it stamps out the test of the suite itself; then the expression takes a bug.
#[macro_export]
macro_rules! queue_contract {
    (planted $make:expr) => {
        $crate::queue_contract!(@ planted $make);
    };
    (live $make:expr) => {
        $crate::queue_contract!(@ stamp_live $make);
    };
    (@ $then:ident $make:expr) => {
        $crate::$then!(
            $crate::contract::queue,
            [
                one_at_a_time,
                prioritised,
                dropped_is_released,
                bounded,
                all_or_nothing,
                replayed_whole,
                paused,
                purged,
                cleared,
                peeked,
                accounted,
            ],
            timed [
                acknowledged_or_again,
                order_per_key,
                failures_and_crashes_counted_apart,
                late_verdict,
                once_within_the_window,
                in_time,
            ],
            $make
        );
    };
    ($make:expr) => {
        $crate::queue_contract!(@ stamp $make);
    };
}

/// Creates a message that says `word`.
fn message(word: &str) -> Result<Message> {
    let id = MessageId::generate(Timestamp::from_millis(1), &Random::from_system());
    Ok(Message::new(id, Payload::json(1, word)?))
}

fn word(delivery: &Delivery) -> Result<String, Breach> {
    Ok(delivery.message().payload.decode()?)
}

async fn publish(queue: &Store, messages: Vec<Message>) -> Result<Vec<bool>> {
    queue.publish(messages, Durability::Applied).await
}

/// Publishes one message.
async fn say(queue: &Store, message: Message) -> Result<(), Breach> {
    publish(queue, vec![message]).await?;
    Ok(())
}

/// Receives up to so many messages, or none if none comes.
async fn receive(queue: &Store, limit: usize, patience: Duration) -> Result<Vec<Delivery>, Breach> {
    match tokio::time::timeout(patience, queue.receive(limit, lease())).await {
        Ok(received) => Ok(received?),
        Err(_) => Ok(Vec::new()),
    }
}

/// Receives one message, which must come.
async fn take(queue: &Store) -> Result<Delivery, Breach> {
    let mut received = receive(queue, 1, PATIENCE).await?;
    received.pop().ok_or_else(|| Breach::new("no message is delivered"))
}

/// Receives whatever is ready and returns what it says.
async fn ready(queue: &Store) -> Result<Vec<String>, Breach> {
    receive(queue, CAPACITY, moment()).await?.iter().map(word).collect()
}
