//! What a client says.

use serde::Serialize;

use super::{emoji::Emoji, position::Position, room_code::RoomCode, token::TokenText};
use crate::domain::{Act, ActionNumber, ChatText, Entropy, Name, Pieces, Seat, Settings, Style};

/// A message of a client; [`decode`](super::decode) reads it.
///
/// ```
/// use game_server::protocol::{Ask, ClientMessage, decode};
///
/// let message = decode(br#"{"type":"declare","action":7,"piles":2}"#).unwrap();
/// assert_eq!(message.name(), "declare");
/// let ClientMessage::Action(numbered) = message else { unreachable!() };
/// assert_eq!(numbered.action.get(), 7);
/// assert_eq!(numbered.ask, Ask::Declare { piles: 2 });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ClientMessage {
    /// A message without a number: nothing that it does is kept in a room.
    Request(Request),
    /// A numbered action in the room that the connection is in.
    Action(Numbered),
}

/// A message without a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Begins the conversation; first, and only once.
    Hello {
        /// What an earlier connection got, to go on where it ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        resume: Option<Resume>,
    },
    /// Asks for the list of rooms, and for its changes while the connection is in none.
    ListRooms {},
    /// Creates a room and takes its first seat.
    CreateRoom {
        /// The player's name in this room.
        name: Name,
        /// The room's times; what is left out has the server's default.
        #[serde(skip_serializing_if = "Option::is_none")]
        settings: Option<Settings>,
    },
    /// Takes a seat in a room.
    JoinRoom {
        /// The room.
        room: RoomCode,
        /// The player's name in this room.
        name: Name,
    },
    /// Watches a room.
    Spectate {
        /// The room.
        room: RoomCode,
        /// The last event that was seen, to get only what came after it.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Position>,
    },
    /// Makes a gesture; it is not kept.
    Emoji {
        /// Which.
        emoji: Emoji,
    },
    /// Asks for a `pong`.
    Ping {
        /// Any number, repeated in the answer.
        nonce: u64,
    },
}

/// The proof of who a returning client is, and where it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resume {
    /// The newest token that the client got.
    pub token: TokenText,
    /// The last event that it saw; without it the full state is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Position>,
}

/// A numbered action: the same number again gets the first answer again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Numbered {
    /// The number, above those of all earlier actions of this player in this room.
    pub action: ActionNumber,
    /// What is to be done.
    #[serde(flatten)]
    pub ask: Ask,
}

/// What a numbered action does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Ask {
    /// Leaves the room for good.
    LeaveRoom {},
    /// Puts a bot on the first free seat.
    AddBot {
        /// How it plays.
        style: Style,
    },
    /// Frees the seat of a bot.
    RemoveBot {
        /// The bot's seat.
        seat: Seat,
    },
    /// Starts the game.
    Start {},
    /// Answers whether a weak hand is dealt anew.
    Redeal {
        /// Whether it is.
        accept: bool,
    },
    /// Declares how many piles the player will capture.
    Declare {
        /// 0 to 8.
        piles: u8,
    },
    /// Plays pieces.
    Play {
        /// Their ids.
        pieces: Pieces,
    },
    /// Says something.
    Chat {
        /// What.
        text: ChatText,
    },
    /// Takes the seat back from the bot that plays for a silent player.
    ComeBack {},
}

impl ClientMessage {
    /// Returns the message's type, as in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Request(request) => request.name(),
            Self::Action(numbered) => numbered.ask.name(),
        }
    }
}

impl Request {
    /// Returns the message's type, as in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::ListRooms {} => "list_rooms",
            Self::CreateRoom { .. } => "create_room",
            Self::JoinRoom { .. } => "join_room",
            Self::Spectate { .. } => "spectate",
            Self::Emoji { .. } => "emoji",
            Self::Ping { .. } => "ping",
        }
    }
}

impl Ask {
    /// Returns the message's type, as in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LeaveRoom {} => "leave_room",
            Self::AddBot { .. } => "add_bot",
            Self::RemoveBot { .. } => "remove_bot",
            Self::Start {} => "start",
            Self::Redeal { .. } => "redeal",
            Self::Declare { .. } => "declare",
            Self::Play { .. } => "play",
            Self::Chat { .. } => "chat",
            Self::ComeBack {} => "come_back",
        }
    }

    /// Returns what it asks of the room; `entropy` seeds the deal that may follow.
    pub fn into_act(self, entropy: Entropy) -> Act {
        match self {
            Self::LeaveRoom {} => Act::Leave,
            Self::AddBot { style } => Act::AddBot { style },
            Self::RemoveBot { seat } => Act::RemoveBot { seat },
            Self::Start {} => Act::Start { entropy },
            Self::Redeal { accept: true } => Act::AcceptRedeal { entropy },
            Self::Redeal { accept: false } => Act::DeclineRedeal,
            Self::Declare { piles } => Act::Declare { piles },
            Self::Play { pieces } => Act::Play { pieces },
            Self::Chat { text } => Act::Chat { text },
            Self::ComeBack {} => Act::Return,
        }
    }
}
