//! What a client of rooms hears.

use std::time::Duration;

use serde_json::Value;

use crate::{
    close::Close,
    history::Place,
    wire::{Code, Part, Present, Recovered},
};

/// What a client of rooms hears.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Heard {
    /// It is connected, as this user.
    Connected(String),
    /// The connection broke; it comes back after this pause.
    Waiting(Duration),
    /// It was closed for good.
    Stopped(Close),
    /// It entered a room, or came back to it. If it was recovered nothing is missing; else the events
    /// begin anew behind `from`, and the state, if the room has one, is whole.
    Joined {
        /// The room.
        room: String,
        /// The place behind which the events begin that follow.
        from: Place,
        /// What became of what it missed.
        recovered: Recovered,
        /// The whole state at `from`, unless it was recovered.
        state: Option<Value>,
        /// Its seat; none for a spectator.
        seat: Option<u32>,
        /// Who is there.
        present: Vec<Present>,
    },
    /// An event of a room; each comes once, in order.
    Event {
        /// The room.
        room: String,
        /// Where.
        place: Place,
        /// What.
        data: Value,
    },
    /// Something that was said in passing.
    Message {
        /// The room, if it was said to one.
        room: Option<String>,
        /// What.
        data: Value,
    },
    /// Who came to and left a room.
    Presence {
        /// The room.
        room: String,
        /// Who came.
        joined: Vec<Present>,
        /// Who left for good.
        left: Vec<String>,
    },
    /// A part of a room's state, as it is now.
    State {
        /// The room.
        room: String,
        /// Which part.
        part: Part,
        /// The state.
        state: Value,
    },
    /// A room did not let it in; it does not try again.
    Refused {
        /// The room.
        room: String,
        /// Why.
        code: Code,
    },
}
