//! How a room's events stand in the event store.

use infra_core::{Result, event::RecordedEvent, id::StreamName};

use crate::{
    domain::{Event, Viewer, view},
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
