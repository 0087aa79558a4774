//! What the server says.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{history::Place, resume::Reason, sync::Update};

/// One event of a room's stream as one viewer sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Its number.
    pub offset: u64,
    /// What happened; `null` if this viewer may not see it.
    pub data: Value,
}

/// Somebody in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Present {
    /// Who.
    pub user: String,
    /// On which seat; none for a spectator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seat: Option<u32>,
    /// How many connections the user has here; zero while it is expected back.
    pub connections: usize,
}

/// What a client that says what it saw is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Recovered {
    /// It was not here before, or did not say.
    Fresh,
    /// Everything that it missed follows, in order.
    Recovered {
        /// How many events follow at once.
        count: u64,
    },
    /// It cannot be given what it missed; the state, if the room has one, is whole.
    NotRecovered {
        /// Why.
        reason: Cause,
    },
}

/// Why a client cannot be given what it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The stream of that name began anew.
    EpochChanged,
    /// What it missed is no longer kept, or is more than is sent again.
    TooOld,
    /// It claims to have seen what does not exist.
    Ahead,
    /// More came while it was caught up than the server holds back for one client.
    Overrun,
}

impl From<Reason> for Cause {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::EpochChanged => Self::EpochChanged,
            Reason::TooOld => Self::TooOld,
            Reason::Ahead => Self::Ahead,
        }
    }
}

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The message is not of the protocol.
    InvalidMessage,
    /// Nobody has said who this is.
    Unauthenticated,
    /// This user may not.
    Denied,
    /// The connection is not in that room.
    NotInRoom,
    /// The room takes nobody any more.
    Locked,
    /// The seat, or every seat, is taken.
    NoSeat,
    /// The resume token is not good.
    BadToken,
    /// There is no such thing.
    NotFound,
    /// A limit of this connection is reached.
    TooMany,
    /// The message came too soon.
    RateLimited,
    /// It does not work now; try again.
    Unavailable,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ServerMessage {
    /// The client is known now.
    Connected {
        /// The connection's number.
        connection: u64,
        /// Who the client is.
        user: String,
        /// When its identification ends, in Unix milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
        /// How often the server pings.
        heartbeat_ms: u64,
    },
    /// The fresh token is taken.
    Refreshed {
        /// The question.
        id: u64,
        /// When the identification ends now, in Unix milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
    },
    /// The client is in the room; what it missed follows, then what happens.
    Joined {
        /// The question.
        id: u64,
        /// The room.
        room: String,
        /// Who it is there; a client that resumed learns it here.
        user: String,
        /// Its seat; none for a spectator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seat: Option<u32>,
        /// The place behind which the events begin that follow.
        from: Place,
        /// What became of what it missed.
        recovered: Recovered,
        /// The whole state at `from`, unless it was recovered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<Value>,
        /// Who is there.
        present: Vec<Present>,
        /// For coming back.
        token: String,
    },
    /// Events of a room's stream, without a hole.
    Events {
        /// The room.
        room: String,
        /// The stream's incarnation.
        epoch: String,
        /// The events, in order.
        events: Vec<Event>,
    },
    /// Something that has no place in the stream.
    Message {
        /// The room, if it was said to one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<String>,
        /// What.
        data: Value,
    },
    /// It is done; events are in the stream at this place.
    Ack {
        /// The question.
        id: u64,
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
    },
    /// The application's answer.
    Reply {
        /// The question.
        id: u64,
        /// What.
        data: Value,
    },
    /// It is not done.
    Error {
        /// The question, if it was readable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        message: String,
        /// When to try again, if that helps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
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
    /// How far the stream is; who saw less has lost something and resumes.
    Position {
        /// The room.
        room: String,
        /// How far.
        place: Place,
    },
    /// The client is no longer told of the room: join again.
    Lost {
        /// The room.
        room: String,
        /// Why.
        reason: Cause,
    },
    /// A fresh resume token.
    Token {
        /// The room.
        room: String,
        /// For coming back.
        token: String,
    },
    /// The state of a room; `part` is `shared` or `own`.
    State {
        /// The room.
        room: String,
        /// Which part.
        part: Part,
        /// What changed.
        update: Update,
    },
    /// The server is about to close; come back, but not before this time.
    Goodbye {
        /// When.
        retry_after_ms: u64,
    },
    /// Somebody is there.
    Pong,
}

/// A part of a room's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What everybody sees.
    Shared,
    /// What this user alone sees.
    Own,
}
