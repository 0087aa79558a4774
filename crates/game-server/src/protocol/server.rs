//! What the server says.

use serde::{Deserialize, Serialize};

use super::{
    code::{Code, ErrorCode},
    emoji::Emoji,
    limits::Limits,
    position::Epoch,
    room_code::RoomCode,
    token::TokenText,
};
use crate::domain::{ActionNumber, BySeat, Name, PlayerId, RoomView, Seat, Status, Viewed};

/// A message of the server.
///
/// ```
/// use game_server::{domain::{Seat, Viewed}, protocol::ServerMessage};
///
/// let event = Viewed::TurnWon { winner: Seat::Third, piles: 2 };
/// assert_eq!(
///     ServerMessage::Event { offset: 41, event }.encode(),
///     r#"{"type":"event","offset":41,"event":{"type":"turn_won","winner":2,"piles":2}}"#,
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ServerMessage {
    /// Answers `hello`.
    Welcome(Welcome),
    /// Lists the rooms of the lobby; a later list replaces an earlier one.
    Rooms {
        /// Rooms that can be joined first, then those that can be watched.
        rooms: Vec<RoomSummary>,
        /// How many there are in all.
        total: u32,
    },
    /// The connection is in a room now; the whole state replaces what the client knew.
    Joined(Box<Joined>),
    /// The connection is in its room again; exactly the missed events follow.
    Resumed(Resumed),
    /// The room of the token cannot be entered any more; the connection is in the lobby.
    NotResumed {
        /// Why.
        reason: NotResumedReason,
    },
    /// Something happened in the room.
    Event {
        /// Its offset: one more than that of the event before.
        offset: u64,
        /// What happened, as this viewer may see it.
        event: Viewed,
    },
    /// A numbered action was done.
    Ack(Ack),
    /// A request or numbered action was not done.
    Refused(Refused),
    /// A message was not understood.
    Error(Fault),
    /// Who is connected.
    Presence(Presence),
    /// A player made a gesture.
    Emoji {
        /// The player's seat.
        seat: Seat,
        /// Which gesture.
        emoji: Emoji,
    },
    /// The connection is in no room any more.
    Left {
        /// The room it was in.
        room: RoomCode,
        /// Why.
        reason: LeftReason,
    },
    /// Answers `ping`.
    Pong {
        /// The number of the `ping`.
        nonce: u64,
    },
    /// The server is about to close this connection with code 1012.
    Draining {
        /// When to connect again, in milliseconds; each client is given another time.
        come_back_in_ms: u32,
        /// The token to come back with; none outside of a seat.
        token: Option<Token>,
    },
    /// The client is near the limit of its connection; said once until it has slowed down.
    SlowDown {},
}

/// The answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// The player's id; the same after a resume.
    pub player: PlayerId,
    /// The protocol that is spoken.
    pub protocol: String,
    /// The server's name and version.
    pub server: String,
    /// How long either side may be silent, in milliseconds.
    pub heartbeat_ms: u32,
    /// What is allowed.
    pub limits: Limits,
    /// The id under which the server's logs, traces and stored events tell of this connection.
    pub correlation: String,
}

/// A room in the lobby's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomSummary {
    /// The room.
    pub room: RoomCode,
    /// What it is doing.
    pub status: Status,
    /// The name of its host, if it has one.
    pub host: Option<Name>,
    /// How many people sit at it.
    pub people: u8,
    /// How many bots sit at it.
    pub bots: u8,
    /// The round that is played, from 1; 0 before the game.
    pub round: u8,
}

/// A secret with which its player comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The token.
    pub token: TokenText,
    /// For how long it is good, in milliseconds.
    pub expires_in_ms: u64,
}

/// Why the whole state is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The client entered the room, or did not say what it had seen.
    Entered,
    /// The events after the client's offset are not at hand, or too many.
    TooOld,
    /// The room's stream is another one than the client knew.
    EpochChanged,
    /// The client named an offset that the room has not reached.
    OffsetAhead,
}

/// The whole state of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    /// The room.
    pub room: RoomCode,
    /// The epoch of its events.
    pub epoch: Epoch,
    /// Why the whole state is sent.
    pub why: Why,
    /// The state, at the offset that it names.
    pub state: RoomView,
    /// The token to come back with; none for a spectator.
    pub token: Option<Token>,
}

/// The missed events follow, from the offset after the client's up to `offset`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// The room.
    pub room: RoomCode,
    /// The epoch of its events.
    pub epoch: Epoch,
    /// The offset of the last missed event.
    pub offset: u64,
    /// How many missed events follow.
    pub missed: u64,
    /// The player's last numbered action that was answered.
    pub last_action: Option<ActionNumber>,
    /// The token to come back with; none for a spectator.
    pub token: Option<Token>,
}

/// Why a room cannot be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotResumedReason {
    /// The room is no more.
    RoomGone,
    /// The player has left it.
    NotInRoom,
}

/// A numbered action was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// The action's number.
    pub action: ActionNumber,
    /// The offset of the event that it made.
    pub offset: u64,
}

/// A request or numbered action was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The type of the message that is refused.
    pub request: String,
    /// The action's number, if it had one.
    pub action: Option<ActionNumber>,
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub message: String,
    /// The offset of the refusal, if it was recorded: then it is final.
    pub offset: Option<u64>,
    /// When to send the same message again, in milliseconds, if that can help.
    pub retry_after_ms: Option<u32>,
}

impl Refused {
    /// Creates the refusal of a message of type `request`.
    pub fn new(request: &str, code: impl Into<Code>) -> Self {
        let code = code.into();
        Self {
            request: request.to_owned(),
            action: None,
            code,
            message: code.to_string(),
            offset: None,
            retry_after_ms: None,
        }
    }

    /// Names the action that is refused.
    #[must_use]
    pub const fn action(mut self, action: ActionNumber) -> Self {
        self.action = Some(action);
        self
    }

    /// Says that the refusal is recorded, hence final.
    #[must_use]
    pub const fn recorded(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Says when to ask again.
    #[must_use]
    pub const fn retry_after_ms(mut self, pause: u32) -> Self {
        self.retry_after_ms = Some(pause);
        self
    }
}

/// A message was not understood, or the conversation ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What is wrong, for programs.
    pub code: ErrorCode,
    /// What is wrong, for people.
    pub message: String,
    /// The field that is wrong.
    pub field: Option<String>,
    /// The number of the action in the message, if it could be read.
    pub action: Option<u64>,
    /// Whether the connection is closed now.
    pub fatal: bool,
}

/// Who is connected to a room; a later one replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// Whether the person on each seat is connected; bots are.
    pub connected: BySeat<bool>,
    /// How many spectators watch.
    pub spectators: u32,
}

/// Why a connection is in no room any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftReason {
    /// The client asked for it.
    Asked,
    /// The room was given up or removed.
    RoomGone,
}

impl ServerMessage {
    /// Returns the message's type, as in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Welcome(_) => "welcome",
            Self::Rooms { .. } => "rooms",
            Self::Joined(_) => "joined",
            Self::Resumed(_) => "resumed",
            Self::NotResumed { .. } => "not_resumed",
            Self::Event { .. } => "event",
            Self::Ack(_) => "ack",
            Self::Refused(_) => "refused",
            Self::Error(_) => "error",
            Self::Presence(_) => "presence",
            Self::Emoji { .. } => "emoji",
            Self::Left { .. } => "left",
            Self::Pong { .. } => "pong",
            Self::Draining { .. } => "draining",
            Self::SlowDown {} => "slow_down",
        }
    }

    /// Returns the message as the text of a frame.
    ///
    /// # Panics
    ///
    /// Never: nothing in a message can fail to be written as JSON.
    #[expect(clippy::expect_used, reason = "no type in it has a map or a fallible serializer")]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("encode a message of the server")
    }

    /// Reads a message of the server, as a client does.
    ///
    /// # Errors
    ///
    /// Those of `serde_json`: what is no JSON, of an unknown type, or has an unknown field.
    pub fn decode(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{ChatText, ChatView, Refusal, SeatView, Settings},
        protocol::{SERVER_MESSAGE_BYTES, Setback},
    };

    /// The longest state that a room can have: names and chat of four-byte letters.
    fn longest_state() -> RoomView {
        let name = Name::new("𠀀".repeat(50)).unwrap();
        let text = ChatText::new("𠀀".repeat(1000)).unwrap();
        let said = ChatView {
            offset: u64::MAX,
            seat: Seat::Fourth,
            name: name.clone(),
            text: text.clone(),
        };
        RoomView {
            offset: u64::MAX,
            viewer: Some(Seat::Fourth),
            status: Status::InGame,
            settings: Settings::default(),
            host: Some(Seat::Fourth),
            seats: BySeat::from_fn(|_| SeatView::Person { name: name.clone(), silent: false }),
            game: None,
            result: None,
            chat: vec![said; crate::domain::RECENT_CHAT],
            last_action: Some(ActionNumber::new(u64::MAX)),
        }
    }

    #[test]
    fn the_longest_state_keeps_the_limit_of_the_server() {
        let joined = Joined {
            room: RoomCode::from_number(7),
            epoch: Epoch::new("x".repeat(64)).unwrap(),
            why: Why::TooOld,
            state: longest_state(),
            token: None,
        };
        let text = ServerMessage::Joined(Box::new(joined.clone())).encode();
        // What a game adds is numbers: 32 pieces, four tables, four of each count.
        assert!(text.len() + 4096 < SERVER_MESSAGE_BYTES, "{}", text.len());
        assert_eq!(ServerMessage::decode(&text).unwrap(), ServerMessage::Joined(Box::new(joined)));
    }

    #[test]
    fn a_refusal_says_whether_it_is_final() {
        let action = ActionNumber::new(3);
        let last = Refused::new("play", Refusal::NotYourTurn).action(action).recorded(19);
        assert_eq!((last.offset, last.retry_after_ms), (Some(19), None));
        assert_eq!(last.message, "another seat is to act");
        let later = Refused::new("play", Setback::RateLimited).action(action).retry_after_ms(250);
        assert_eq!((later.offset, later.retry_after_ms), (None, Some(250)));
    }

    #[test]
    fn an_unknown_message_or_field_of_a_server_is_refused() {
        assert!(ServerMessage::decode(r#"{"type":"pong","nonce":1}"#).is_ok());
        assert!(ServerMessage::decode(r#"{"type":"pong","nonce":1,"more":2}"#).is_err());
        assert!(ServerMessage::decode(r#"{"type":"ack","action":1,"offset":2,"more":2}"#).is_err());
        assert!(ServerMessage::decode(r#"{"type":"gossip"}"#).is_err());
    }
}
