//! What the benchmarks are made of.

use infra_core::{
    clock::Timestamp,
    codec::Payload,
    event::NewEvent,
    id::{EventId, EventType},
    random::Random,
};

/// Creates an event with a body of `bytes` bytes.
///
/// # Panics
///
/// Never: the name of its type is a good one.
#[expect(clippy::expect_used, reason = "a benchmark has nobody to tell")]
pub fn event(random: &Random, bytes: usize) -> NewEvent {
    let id = EventId::generate(Timestamp::from_millis(1), random);
    let name = EventType::new("played").expect("a good name");
    NewEvent::new(id, name, Payload::raw(vec![7; bytes]))
}
