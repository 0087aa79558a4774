//! A message to clients, encoded once and shared by all who get it.

use std::fmt;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

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

    pub(crate) fn message(self) -> Message {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
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
    use super::*;

    #[test]
    fn a_frame_knows_its_bytes_and_shares_them() {
        let bytes = Bytes::from_static(b"abc");
        let frame = Frame::binary(bytes.clone());
        let Frame::Binary(shared) = frame.clone() else { panic!("{frame:?}") };
        assert_eq!(shared.as_ptr(), bytes.as_ptr());
        assert_eq!((frame.len(), Frame::text("").is_empty()), (3, true));
        assert_eq!(frame.message(), Message::Binary(bytes));
        assert_eq!(Frame::text("a").message(), Message::text("a"));
    }

    #[test]
    fn each_reason_has_its_words() {
        let all = [Unsent::Ended, Unsent::Dropped, Unsent::TooSlow, Unsent::NoRoom];
        let words: std::collections::HashSet<String> = all.iter().map(Unsent::to_string).collect();
        assert_eq!(words.len(), all.len());
    }
}
