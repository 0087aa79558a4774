//! The contract of the queue port over each queue, and random programs against the model.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::mem_forget,
    clippy::too_many_lines,
    clippy::allow_attributes,
    reason = "a panic is how a test fails; a forgotten delivery is a process that ended"
)]

mod durable;
#[cfg(feature = "nats")]
mod jetstream;
mod memory;
mod parking;
#[cfg(feature = "postgres")]
mod postgres;
mod programs;
#[cfg(any(feature = "nats", feature = "postgres"))]
mod servers;

use std::time::Duration;

use infra_core::{
    clock::Timestamp,
    codec::Payload,
    id::{MessageId, QueueName},
    queue::Message,
    random::Random,
};

const LEASE: Duration = Duration::from_secs(4);

fn name() -> QueueName {
    QueueName::new("work").unwrap()
}

fn message(number: u64) -> Message {
    let id = MessageId::generate(Timestamp::from_millis(number), &Random::seeded(number));
    Message::new(id, Payload::json(1, &number).unwrap())
}
