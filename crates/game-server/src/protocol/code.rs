//! The codes of refusals and errors: stable, for programs; the texts beside them are for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::Refusal;

/// Why the server, rather than the game, refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setback {
    /// The player, the room or the address asks too often; for the time being.
    RateLimited,
    /// The room or the server has too much to do; for the time being.
    Overloaded,
    /// What was asked cannot be stored, or it is not known whether it was; for the time being.
    StorageUnavailable,
    /// The server is about to restart; for the time being.
    Draining,
    /// The connection is in a room already.
    AlreadyInRoom,
}

impl Setback {
    /// Every setback.
    pub const ALL: [Self; 5] = [
        Self::RateLimited,
        Self::Overloaded,
        Self::StorageUnavailable,
        Self::Draining,
        Self::AlreadyInRoom,
    ];

    /// Returns whether the same request can succeed later.
    pub const fn is_temporary(self) -> bool {
        match self {
            Self::RateLimited | Self::Overloaded | Self::StorageUnavailable | Self::Draining => {
                true
            }
            Self::AlreadyInRoom => false,
        }
    }

    /// Returns the stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::StorageUnavailable => "storage_unavailable",
            Self::Draining => "draining",
            Self::AlreadyInRoom => "already_in_room",
        }
    }
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RateLimited => "too many requests",
            Self::Overloaded => "too much to do at present",
            Self::StorageUnavailable => "storage does not answer; ask again with the same number",
            Self::Draining => "the server is about to restart",
            Self::AlreadyInRoom => "leave the present room first",
        })
    }
}

/// The code of a refusal: the game's or the server's.
///
/// ```
/// use game_server::{domain::Refusal, protocol::{Code, Setback}};
///
/// assert_eq!(Code::from(Refusal::NotYourTurn).code(), "not_your_turn");
/// assert_eq!(serde_json::to_string(&Code::from(Setback::Draining)).unwrap(), "\"draining\"");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Code {
    /// The rules or the state of the room forbid it.
    Game(Refusal),
    /// The server cannot do it.
    Server(Setback),
}

impl Code {
    /// Returns the stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Game(refusal) => refusal.code(),
            Self::Server(setback) => setback.code(),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Game(refusal) => refusal.fmt(f),
            Self::Server(setback) => setback.fmt(f),
        }
    }
}

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Self {
        Self::Game(refusal)
    }
}

impl From<Setback> for Code {
    fn from(setback: Setback) -> Self {
        Self::Server(setback)
    }
}

/// What is wrong with a message itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// It is longer than the limit.
    TooLarge,
    /// Its objects and lists are nested too deep.
    TooDeep,
    /// It is no JSON.
    BadJson,
    /// It is JSON, but no object.
    NotAnObject,
    /// An object names a field twice.
    DuplicateField,
    /// There is no message of this type.
    UnknownType,
    /// The message has no such field.
    UnknownField,
    /// A field is missing.
    MissingField,
    /// A field's value is not what it may be.
    InvalidValue,
    /// The first message must be `hello`.
    HelloExpected,
    /// Only the first message may be `hello`.
    UnexpectedHello,
    /// The first message did not come in time.
    HelloTooLate,
    /// The token was not made by this server.
    TokenForged,
    /// The token is too old, or a later one has been used.
    TokenExpired,
    /// Too many messages were malformed.
    TooManyBadMessages,
    /// Too many messages for too long.
    TooManyMessages,
    /// Something in the server failed.
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 17] = [
        Self::TooLarge,
        Self::TooDeep,
        Self::BadJson,
        Self::NotAnObject,
        Self::DuplicateField,
        Self::UnknownType,
        Self::UnknownField,
        Self::MissingField,
        Self::InvalidValue,
        Self::HelloExpected,
        Self::UnexpectedHello,
        Self::HelloTooLate,
        Self::TokenForged,
        Self::TokenExpired,
        Self::TooManyBadMessages,
        Self::TooManyMessages,
        Self::Internal,
    ];
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_code_of_the_server_is_one_of_the_game() {
        let all: Vec<Code> = Refusal::ALL
            .iter()
            .map(|refusal| Code::from(*refusal))
            .chain(Setback::ALL.map(Code::from))
            .collect();
        let texts: HashSet<_> = all.iter().map(|code| code.code()).collect();
        assert_eq!(texts.len(), all.len());
        for code in all {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{}\"", code.code()));
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), code);
            assert!(!code.to_string().is_empty());
        }
    }

    #[test]
    fn only_being_in_a_room_does_not_pass_with_time() {
        let lasting: Vec<_> = Setback::ALL.into_iter().filter(|s| !s.is_temporary()).collect();
        assert_eq!(lasting, [Setback::AlreadyInRoom]);
    }
}
