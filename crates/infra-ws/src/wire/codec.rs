//! How messages are encoded.

use std::{cell::OnceCell, fmt};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::server::ServerMessage;
use crate::{app::Inbound, frame::Frame, layer::depth};

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
