//! How a room's events stand in the event store.

use infra_core::{
    Clock, Result,
    codec::Payload,
    event::{NewEvent, RecordedEvent},
    id::{EventId, EventType, StreamName},
    machine::StateMachine,
    random::Random,
};

use crate::{
    domain::{Event, Room, Viewer, view},
    protocol::{RoomCode, admin::LiveEvent},
};

/// What the name of every room's stream begins with.
pub(crate) const STREAM_PREFIX: &str = "room-";

/// Returns the stream of a room.
pub(super) fn stream_of(room: RoomCode) -> Result<StreamName> {
    StreamName::new(format!("{STREAM_PREFIX}{room}"))
}

/// Returns the room of a stream.
pub(crate) fn room_of(stream: &StreamName) -> Option<RoomCode> {
    RoomCode::new(stream.as_str().strip_prefix(STREAM_PREFIX)?)
}

/// Encodes an event of a room for the store.
///
/// The number of the action that it answers stands in its metadata, for whoever reads the log.
pub(super) fn encode_event(event: &Event, clock: &dyn Clock, random: &Random) -> Result<NewEvent> {
    let id = EventId::generate(clock.wall(), random);
    let payload = Payload::json(Room::SCHEMA_VERSION, event)?;
    let stored = NewEvent::new(id, EventType::new(event.name())?, payload);
    Ok(match event.cause() {
        Some(cause) => stored.with("action", cause.action.to_string()),
        None => stored,
    })
}

/// Decodes a stored event of a room.
pub(crate) fn decode_event(recorded: &RecordedEvent) -> Result<Event> {
    recorded.event.payload.decode()
}

/// Returns an event as an operator sees it.
pub(crate) fn live_event(room: RoomCode, recorded: &RecordedEvent) -> Result<LiveEvent> {
    let event = view(&decode_event(recorded)?, Viewer::Spectator);
    let (offset, at_ms) = (recorded.version.get(), recorded.recorded.as_millis());
    Ok(LiveEvent { room, offset, at_ms, event })
}
