//! A message to clients, encoded once and shared by all who get it.

use std::fmt;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The longest header of a frame that is not masked.
pub(crate) const MAX_HEADER: usize = 10;

const FINAL: u8 = 0x80;
const OPCODE_TEXT: u8 = 1;
const OPCODE_BINARY: u8 = 2;

/// Says that the length follows in 16 or 64 bits.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// An encoded message; cloning it shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Text.
    Text(Utf8Bytes),
    /// Bytes.
    Binary(Bytes),
}

impl Frame {
    /// Creates a text frame.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::Text(text.into())
    }

    /// Creates a binary frame.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Returns the message's length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Returns whether the message is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Returns whether both are the very same bytes in memory.
    pub(crate) fn shares(&self, other: &Self) -> bool {
        let is_same_kind = matches!(self, Self::Text(_)) == matches!(other, Self::Text(_));
        is_same_kind && std::ptr::eq(self.bytes(), other.bytes())
    }

    /// Puts the frame as a server sends it behind others: whole, not masked (RFC 6455 section 5.2).
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let (opcode, payload) = match self {
            Self::Text(text) => (OPCODE_TEXT, text.as_bytes()),
            Self::Binary(bytes) => (OPCODE_BINARY, bytes.as_ref()),
        };
        into.reserve(MAX_HEADER + payload.len());
        into.push(FINAL | opcode);
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length @ 0..LENGTH_16), _) => into.push(length),
            (_, Ok(length)) => {
                into.push(LENGTH_16);
                into.extend_from_slice(&length.to_be_bytes());
            }
            (_, Err(_)) => {
                into.push(LENGTH_64);
                into.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        into.extend_from_slice(payload);
    }
}

/// What to do with a message when the client's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It must arrive: the connection is closed as too slow, and the client resumes.
    Durable,
    /// It may be lost: the oldest waiting ephemeral message makes room, or this one is dropped.
    Ephemeral,
    /// Only the latest of each key matters: a waiting one of the same key is replaced.
    Latest(u64),
    /// It is sent if there is room, and makes nothing else give way (drop newest).
    IfRoom,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unsent {
    /// The connection has ended or is about to.
    Ended,
    /// The queue is full and the message's class lets it be dropped.
    Dropped,
    /// The queue is full and the message had to arrive: the connection is being closed.
    TooSlow,
    /// The patience of a waiting send ran out; the message was not taken, the connection goes on.
    NoRoom,
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "connection has ended",
            Self::Dropped => "message was dropped, the queue is full",
            Self::TooSlow => "client reads too slowly and is closed",
            Self::NoRoom => "queue stayed full",
        })
    }
}

impl std::error::Error for Unsent {}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame as Theirs,
        coding::{Data, OpCode},
    };

    use super::*;

    #[test]
    fn a_frame_knows_its_bytes_and_shares_them() {
        let bytes = Bytes::from_static(b"abc");
        let frame = Frame::binary(bytes.clone());
        let Frame::Binary(shared) = frame.clone() else { panic!("{frame:?}") };
        assert_eq!(shared.as_ptr(), bytes.as_ptr());
        assert_eq!((frame.len(), Frame::text("").is_empty()), (3, true));
    }

    #[test]
    fn a_frame_of_each_length_is_what_the_library_would_write() {
        for length in [0, 1, 125, 126, 127, 255, 256, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; length];
            let text = Frame::text(String::from_utf8(payload.clone()).unwrap());
            for (frame, opcode) in
                [(text, Data::Text), (Frame::binary(payload.clone()), Data::Binary)]
            {
                let (mut ours, mut theirs) = (vec![7], vec![7]);
                frame.encode(&mut ours);
                let message = Theirs::message(payload.clone(), OpCode::Data(opcode), true);
                message.format(&mut theirs).unwrap();
                assert_eq!(ours, theirs, "{length}");
                assert!(ours.len() <= 1 + MAX_HEADER + length);
            }
        }
    }

    #[test]
    fn each_reason_has_its_words() {
        let all = [Unsent::Ended, Unsent::Dropped, Unsent::TooSlow, Unsent::NoRoom];
        let words: std::collections::HashSet<String> = all.iter().map(Unsent::to_string).collect();
        assert_eq!(words.len(), all.len());
    }
}
