//! Who is behind a name: the players that came into rooms under it.

use std::fmt;

use infra_core::{
    Result,
    event::{EventStore, Filter},
    id::EventType,
    version::Position,
};
use infra_observability::log::rfc3339;
use serde::Serialize;

use crate::{
    domain::{Event, Name, PlayerId},
    protocol::RoomCode,
    rooms::{STREAM_PREFIX, decode_event, room_of},
};

/// How many events are read in one go.
const PAGE: usize = 1_000;

/// A player that came into a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sighting {
    /// The player.
    pub player: PlayerId,
    /// The room.
    pub room: RoomCode,
    /// Its name there.
    pub name: String,
    /// When it came, in milliseconds since 1970.
    pub at_ms: u64,
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { player, room, name, at_ms } = self;
        let at = rfc3339(infra_core::clock::Timestamp::from_millis(*at_ms));
        write!(f, "{player} {room} {at} {name}")
    }
}

/// Finds the players that are or were called so, in the order in which they came; capitals do not
/// matter. All rooms that the log has are looked through.
pub(super) async fn find(events: &dyn EventStore, wanted: &Name) -> Result<Vec<Sighting>> {
    let types = ["room_created", "player_joined"];
    let event_types = types.into_iter().map(EventType::new).collect::<Result<_>>()?;
    let stream_prefix = Some(STREAM_PREFIX.to_owned());
    let filter = Filter { stream_prefix, event_types, ..Filter::default() };
    let (mut found, mut after) = (Vec::new(), Position::ZERO);
    loop {
        let page = events.read_all(after, &filter, PAGE).await?;
        for recorded in &page.events {
            let (Event::RoomCreated { host: player, name, .. }
            | Event::PlayerJoined { player, name, .. }) = decode_event(recorded)?
            else {
                continue;
            };
            let Some(room) = room_of(&recorded.stream) else { continue };
            if name.reads_like(wanted) {
                let at_ms = recorded.recorded.as_millis();
                found.push(Sighting { player, room, name: name.to_string(), at_ms });
            }
        }
        after = page.read_to;
        if page.is_end {
            return Ok(found);
        }
    }
}
