//! The contract of [`infra_core::event::EventStore`].
//!
//! Durability and honesty about unknown fates need a disk that fails and a process that is killed:
//! they are shown by each engine's own fault and crash tests.

mod clauses;
mod live;
pub mod wrong;

use std::{sync::Arc, time::Duration};

use infra_core::{
    clock::Timestamp,
    codec::Payload,
    event::{Append, Appended, Direction, EventStore, NewEvent, RecordedEvent},
    id::{EventId, EventType, StreamName},
    random::Random,
    version::{Expected, Position, Version},
};

pub use self::{clauses::*, live::*};
use super::Breach;

/// What a clause takes: an empty store.
pub type Store = Arc<dyn EventStore>;

/// Stamps out one test per clause for an event store; the expression makes an empty store.
///
/// `planted` before it stamps out the test of the suite itself; then the expression takes a bug.
#[macro_export]
macro_rules! event_store_contract {
    (planted $make:expr) => {
        $crate::event_store_contract!(@ planted $make);
    };
    (@ $then:ident $make:expr) => {
        $crate::$then!(
            $crate::contract::event,
            [
                all_or_nothing,
                gapless,
                ordered,
                expected,
                one_winner,
                idempotent,
                fenced,
                read_your_writes,
                bounded_reads,
                backward,
                ranged,
                filtered,
                truncated,
                tombstoned,
                live_without_gap,
                waits_for_a_position,
                checks_alone,
                kept_whole,
                pages_never_skip,
                resumed,
                slow_reader_loses_nothing,
            ],
            timed [],
            $make
        );
    };
    ($make:expr) => {
        $crate::event_store_contract!(@ stamp $make);
    };
}

/// Returns a stream's name.
///
/// # Panics
///
/// If the text cannot be one.
fn stream(name: &str) -> Result<StreamName, Breach> {
    Ok(StreamName::new(name)?)
}

/// Returns a new event that says `word`.
fn event(word: &str) -> Result<NewEvent, Breach> {
    let id = EventId::generate(Timestamp::from_millis(1), &Random::from_system());
    Ok(NewEvent::new(id, EventType::new("said")?, Payload::json(1, word)?))
}

/// Appends one event to a stream of any version.
async fn say(store: &Store, name: &str, word: &str) -> Result<Appended, Breach> {
    let append = Append::to(stream(name)?, Expected::Any, vec![event(word)?]);
    Ok(store.append(append).await?)
}

/// Waits until what was appended to these streams can be read everywhere, and returns the head.
async fn settled(store: &Store, names: &[&str]) -> Result<Position, Breach> {
    for name in names {
        let last = store.read_stream(&stream(name)?, Version::MAX, Direction::Backward, 1).await?;
        for recorded in last {
            store.wait_for(recorded.position, Duration::from_secs(20)).await?;
        }
    }
    Ok(store.stable_head().await?)
}

/// Reads a whole stream.
async fn whole(store: &Store, name: &str) -> Result<Vec<RecordedEvent>, Breach> {
    let (name, from) = (stream(name)?, Version::new(1));
    Ok(store.read_stream(&name, from, Direction::Forward, 10_000).await?)
}

/// Returns what the events of a stream say.
async fn words(store: &Store, name: &str) -> Result<Vec<String>, Breach> {
    let events = whole(store, name).await?;
    events.iter().map(|recorded| Ok(recorded.event.payload.decode()?)).collect()
}
