//! The limits of the protocol, and those of a server that it tells its clients.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The name of the protocol, also as a WebSocket subprotocol.
pub const PROTOCOL: &str = "liap.v1";

/// The most bytes of one message of a client.
pub const MESSAGE_BYTES: usize = 64 * 1024;

/// The most bytes of one message of the server.
pub const SERVER_MESSAGE_BYTES: usize = 128 * 1024;

/// When to ask again after storage has failed, in milliseconds: a store is left alone for no longer.
pub(crate) const STORAGE_PAUSE: u32 = 500;

/// How deep objects and lists may be nested in a message of a client; the message itself is 1.
pub const DEPTH: usize = 8;

/// The greatest number that a message may hold: what every JSON reader keeps exactly.
pub const GREATEST_NUMBER: u64 = (1 << 53) - 1;

/// The most rooms that the lobby's list shows.
pub const LISTED_ROOMS: usize = 100;

/// How many malformed messages within [`BAD_MESSAGES_WINDOW`] end a connection.
pub const BAD_MESSAGES: u32 = 10;

/// The time in which malformed messages are counted.
pub const BAD_MESSAGES_WINDOW: Duration = Duration::from_mins(1);

/// What a server allows, as it says in its welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The most bytes of one message of a client.
    pub message_bytes: u32,
    /// How deep a message may be nested.
    pub depth: u32,
    /// The most characters of a name.
    pub name_chars: u32,
    /// The most characters of a chat message.
    pub chat_chars: u32,
    /// The most events that a resume brings; after more of them comes the full state.
    pub resume_events: u32,
    /// How many malformed messages within a minute end the connection.
    pub bad_messages: u32,
}

impl Limits {
    /// Returns the limits of this version of the protocol, with the server's own for a resume.
    pub const fn with_resume_events(resume_events: u32) -> Self {
        Self {
            message_bytes: 65_536,
            depth: 8,
            name_chars: 50,
            chat_chars: 1_000,
            resume_events,
            bad_messages: BAD_MESSAGES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ChatText, Name};

    #[test]
    fn the_limits_that_are_told_are_those_that_hold() {
        let told = Limits::with_resume_events(5);
        assert_eq!(usize::try_from(told.message_bytes).unwrap(), MESSAGE_BYTES);
        assert_eq!(usize::try_from(told.depth).unwrap(), DEPTH);
        let letters = |count: u32| "x".repeat(usize::try_from(count).unwrap());
        assert!(Name::new(letters(told.name_chars)).is_ok());
        assert!(Name::new(letters(told.name_chars + 1)).is_err());
        assert!(ChatText::new(letters(told.chat_chars)).is_ok());
        assert!(ChatText::new(letters(told.chat_chars + 1)).is_err());
    }
}
