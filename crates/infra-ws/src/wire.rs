//! The protocol of rooms: what clients and the [`RoomServer`](crate::room::RoomServer) say.
//!
//! A message is one object, as JSON in a text message or as MessagePack in a binary one; the
//! subprotocol says which. See `docs/protocol-rooms.md` for the conversation.

use std::{cell::OnceCell, fmt};

use bytes::Bytes;
use infra_core::trace::TraceContext;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    app::Inbound, frame::Frame, history::Place, layer::depth, resume::Reason, sync::Update,
};

/// The subprotocol whose messages are JSON.
pub const JSON: &str = "rooms.v1.json";

/// The subprotocol whose messages are MessagePack.
pub const MSGPACK: &str = "rooms.v1.msgpack";

/// The deepest nesting of a message.
const MAX_DEPTH: usize = 32;

/// How messages are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// JSON, in text messages.
    #[default]
    Json,
    /// MessagePack, in binary messages.
    MsgPack,
}

/// A message that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("message is not of the protocol")
    }
}

impl std::error::Error for Unreadable {}

impl Codec {
    /// Returns the codec of an agreed subprotocol; JSON if none was agreed.
    pub fn of_protocol(protocol: Option<&str>) -> Self {
        if protocol == Some(MSGPACK) { Self::MsgPack } else { Self::Json }
    }

    /// Encodes a message.
    pub fn encode<T: Serialize>(self, message: &T) -> Frame {
        match self {
            // Messages are text, numbers and lists of them, which always have either form.
            Self::Json => Frame::text(serde_json::to_string(message).unwrap_or_default()),
            Self::MsgPack => {
                Frame::binary(rmp_serde::to_vec_named(message).map(Bytes::from).unwrap_or_default())
            }
        }
    }

    /// Decodes a message of at most 32 levels.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] for the other kind of message, and for what is not of the protocol.
    pub fn decode<T: DeserializeOwned>(self, message: &Inbound) -> Result<T, Unreadable> {
        match (self, message) {
            (Self::Json, Inbound::Text(text)) if depth(text) <= MAX_DEPTH => {
                serde_json::from_str(text).map_err(|_| Unreadable)
            }
            (Self::MsgPack, Inbound::Binary(bytes)) => {
                let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
                // Each level of ours is up to three of the decoder's.
                decoder.set_max_depth(3 * MAX_DEPTH);
                T::deserialize(&mut decoder).map_err(|_| Unreadable)
            }
            (Self::Json, Inbound::Text(_) | Inbound::Binary(_))
            | (Self::MsgPack, Inbound::Text(_)) => Err(Unreadable),
        }
    }
}

/// A message that is encoded once per codec, however many get it.
#[derive(Debug)]
pub(crate) struct Encoded {
    message: ServerMessage,
    json: OnceCell<Frame>,
    msgpack: OnceCell<Frame>,
}

impl Encoded {
    pub(crate) const fn new(message: ServerMessage) -> Self {
        Self { message, json: OnceCell::new(), msgpack: OnceCell::new() }
    }

    pub(crate) fn frame(&self, codec: Codec) -> Frame {
        let cell = match codec {
            Codec::Json => &self.json,
            Codec::MsgPack => &self.msgpack,
        };
        cell.get_or_init(|| codec.encode(&self.message)).clone()
    }
}

/// What a client says. `id` is the client's number for a question; the answer carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// The first message: who it is. Without a token if the handshake had one, or if it resumes.
    Connect {
        /// What the application's authentication takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
    },
    /// A fresh token, before the one it came with expires.
    Refresh {
        /// The question.
        id: u64,
        /// What the application's authentication takes.
        token: String,
    },
    /// Enters a room.
    Join {
        /// The question.
        id: u64,
        /// The room.
        room: String,
        /// The seat that it would like.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seat: Option<u32>,
        /// What it saw of the room, if it was there before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Place>,
    },
    /// Comes back to a room, and says by the resume token who it is.
    Resume {
        /// The question.
        id: u64,
        /// The newest resume token of the room.
        token: String,
        /// What it saw of the room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Place>,
    },
    /// Leaves a room for good.
    Leave {
        /// The question.
        id: u64,
        /// The room.
        room: String,
    },
    /// Says something to a room.
    Publish {
        /// The question.
        id: u64,
        /// The room.
        room: String,
        /// What.
        data: Value,
        /// The trace that it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<TraceContext>,
    },
    /// Asks the application something.
    Request {
        /// The question.
        id: u64,
        /// The room that it is about, if it is about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<String>,
        /// What is asked.
        method: String,
        /// With what.
        #[serde(default)]
        data: Value,
        /// The trace that it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<TraceContext>,
    },
    /// Follows the state of a room, or says which version it has.
    Sync {
        /// The room.
        room: String,
        /// The version of the shared part that it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
    },
    /// Asks whether anybody is there.
    Ping,
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::sync::hash;

    fn message() -> ServerMessage {
        let events = vec![
            Event { offset: 7, data: json!({"n": [1, -2, 2.5, true, "x"]}) },
            Event { offset: 8, data: Value::Null },
        ];
        ServerMessage::Events { room: "a".to_owned(), epoch: "e".to_owned(), events }
    }

    fn inbound(frame: Frame) -> Inbound {
        match frame {
            Frame::Text(text) => Inbound::Text(text),
            Frame::Binary(bytes) => Inbound::Binary(bytes),
        }
    }

    #[test]
    fn both_codecs_carry_every_message_and_neither_takes_the_others() {
        let state = json!({"a": 1});
        let update = Update::Full { version: 1, hash: hash(&state), state };
        let all = [
            message(),
            ServerMessage::Pong,
            ServerMessage::State { room: "a".to_owned(), part: Part::Own, update },
            ServerMessage::Lost { room: "a".to_owned(), reason: Cause::TooOld },
        ];
        for codec in [Codec::Json, Codec::MsgPack] {
            for message in &all {
                let frame = inbound(codec.encode(message));
                assert_eq!(codec.decode::<ServerMessage>(&frame).as_ref(), Ok(message));
                let other = if codec == Codec::Json { Codec::MsgPack } else { Codec::Json };
                assert_eq!(other.decode::<ServerMessage>(&frame), Err(Unreadable));
            }
        }
        let encoded = Encoded::new(message());
        let (Frame::Text(one), Frame::Text(two)) =
            (encoded.frame(Codec::Json), encoded.frame(Codec::Json))
        else {
            panic!("text");
        };
        assert_eq!(one.as_str().as_ptr(), two.as_str().as_ptr(), "encoded once, shared");
        let binary = encoded.frame(Codec::MsgPack);
        assert!(binary.len() < one.len(), "{} {}", binary.len(), one.len());
        assert_eq!(Codec::of_protocol(Some(MSGPACK)), Codec::MsgPack);
        assert_eq!(Codec::of_protocol(None), Codec::Json);
    }

    #[test]
    fn unknown_types_fields_and_too_deep_messages_are_refused() {
        let refused =
            |text: &str| Codec::Json.decode::<ClientMessage>(&Inbound::Text(text.into())).is_err();
        assert!(!refused(r#"{"type":"publish","id":1,"room":"a","data":[[]]}"#));
        assert!(refused(r#"{"type":"shout","id":1}"#));
        assert!(refused(r#"{"type":"leave","id":1,"room":"a","why":2}"#));
        assert!(refused(r#"{"type":"leave","id":-1,"room":"a"}"#));
        let deep = format!(
            r#"{{"type":"publish","id":1,"room":"a","data":{}1{}}}"#,
            "[".repeat(40),
            "]".repeat(40)
        );
        assert!(refused(&deep));
        let mut value = json!(1);
        for _ in 0..200 {
            value = json!([value]);
        }
        let message =
            ClientMessage::Publish { id: 1, room: "a".to_owned(), data: value, trace: None };
        let frame = inbound(Codec::MsgPack.encode(&message));
        assert_eq!(Codec::MsgPack.decode::<ClientMessage>(&frame), Err(Unreadable));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::suite_cases(512)))]
        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let binary = Inbound::Binary(bytes.clone().into());
            let _read = Codec::MsgPack.decode::<ClientMessage>(&binary).is_ok();
            if let Ok(text) = String::from_utf8(bytes) {
                let text = Inbound::Text(text.as_str().into());
                let _read = Codec::Json.decode::<ClientMessage>(&text).is_ok();
            }
        }

        #[test]
        fn a_spoilt_message_is_decoded_or_refused(at: prop::sample::Index, byte: u8) {
            let message = ClientMessage::Join {
                id: 9, room: "room".to_owned(), seat: Some(1), from: Some(Place::default()),
            };
            let Frame::Binary(bytes) = Codec::MsgPack.encode(&message) else { panic!("binary") };
            let mut bytes = bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _read = Codec::MsgPack.decode::<ClientMessage>(&Inbound::Binary(bytes.into()));
        }
    }
}
