//! How connections end: the close codes and what a client does about each.

/// What a client does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Connects again, after a pause that grows, and resumes.
    Resume,
    /// Connects again without its token.
    StartAnew,
    /// Does not connect again by itself.
    Stay,
}

/// Why the server closes a connection.
///
/// ```
/// use game_server::protocol::{Advice, Close};
///
/// assert_eq!(Close::Replaced.code(), 4004);
/// assert_eq!(Close::Replaced.advice(), Advice::Stay);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Close {
    /// All is said.
    Normal,
    /// A frame or message broke RFC 6455.
    ProtocolError,
    /// A binary message; only text is spoken here.
    Binary,
    /// A text message that is not UTF-8.
    NotUtf8,
    /// The connection was closed by the operator or a policy.
    Policy,
    /// A message above the limit.
    TooLarge,
    /// Something in the server failed.
    Internal,
    /// The server restarts.
    Restart,
    /// The server has too much to do.
    Overloaded,
    /// The first message was not a good `hello`.
    BadFirstMessage,
    /// The first message did not come in time.
    FirstMessageDeadline,
    /// The token was not made by this server.
    TokenForged,
    /// The token is too old, or a later one has been used.
    TokenExpired,
    /// The same player connected anew.
    Replaced,
    /// Nothing was heard from the client for too long.
    Silent,
    /// A message was begun and not finished in time.
    UnfinishedMessage,
    /// The client reads too slowly for what it is sent.
    SlowConsumer,
    /// Too many malformed messages.
    TooManyBadMessages,
    /// Too many messages for too long.
    TooManyMessages,
}

impl Close {
    /// Every reason.
    pub const ALL: [Self; 19] = [
        Self::Normal,
        Self::ProtocolError,
        Self::Binary,
        Self::NotUtf8,
        Self::Policy,
        Self::TooLarge,
        Self::Internal,
        Self::Restart,
        Self::Overloaded,
        Self::BadFirstMessage,
        Self::FirstMessageDeadline,
        Self::TokenForged,
        Self::TokenExpired,
        Self::Replaced,
        Self::Silent,
        Self::UnfinishedMessage,
        Self::SlowConsumer,
        Self::TooManyBadMessages,
        Self::TooManyMessages,
    ];

    /// Returns the code of the close frame.
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::ProtocolError => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::Policy => 1008,
            Self::TooLarge => 1009,
            Self::Internal => 1011,
            Self::Restart => 1012,
            Self::Overloaded => 1013,
            Self::BadFirstMessage => 4000,
            Self::FirstMessageDeadline => 4001,
            Self::TokenForged => 4002,
            Self::TokenExpired => 4003,
            Self::Replaced => 4004,
            Self::Silent => 4006,
            Self::UnfinishedMessage => 4007,
            Self::SlowConsumer => 4008,
            Self::TooManyBadMessages => 4029,
            Self::TooManyMessages => 4030,
        }
    }

    /// Returns the reason that the close frame gives.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "goodbye",
            Self::ProtocolError => "protocol error",
            Self::Binary => "only text is accepted",
            Self::NotUtf8 => "text is not UTF-8",
            Self::Policy => "closed by policy",
            Self::TooLarge => "message too large",
            Self::Internal => "internal error",
            Self::Restart => "server restarts",
            Self::Overloaded => "overloaded",
            Self::BadFirstMessage => "bad first message",
            Self::FirstMessageDeadline => "first message did not come in time",
            Self::TokenForged => "token not genuine",
            Self::TokenExpired => "token expired",
            Self::Replaced => "replaced by a newer connection",
            Self::Silent => "nothing heard for too long",
            Self::UnfinishedMessage => "message not finished in time",
            Self::SlowConsumer => "reads too slowly",
            Self::TooManyBadMessages => "too many malformed messages",
            Self::TooManyMessages => "too many messages",
        }
    }

    /// Returns what the client does about it.
    pub const fn advice(self) -> Advice {
        match self {
            Self::Internal
            | Self::Restart
            | Self::Overloaded
            | Self::FirstMessageDeadline
            | Self::Silent
            | Self::UnfinishedMessage
            | Self::SlowConsumer => Advice::Resume,
            Self::TokenForged | Self::TokenExpired => Advice::StartAnew,
            Self::Normal
            | Self::ProtocolError
            | Self::Binary
            | Self::NotUtf8
            | Self::Policy
            | Self::TooLarge
            | Self::BadFirstMessage
            | Self::Replaced
            | Self::TooManyBadMessages
            | Self::TooManyMessages => Advice::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own_and_fits_in_a_close_frame() {
        let codes: HashSet<_> = Close::ALL.iter().map(|close| close.code()).collect();
        assert_eq!(codes.len(), Close::ALL.len());
        for close in Close::ALL {
            assert!(close.reason().len() <= 123);
            assert!(matches!(close.code(), 1000..=1013 | 4000..=4999));
        }
    }

    #[test]
    fn a_client_that_was_replaced_or_spoke_badly_does_not_come_back_by_itself() {
        assert_eq!(Close::Replaced.advice(), Advice::Stay);
        assert_eq!(Close::TooManyBadMessages.advice(), Advice::Stay);
        assert_eq!(Close::Restart.advice(), Advice::Resume);
        assert_eq!(Close::TokenExpired.advice(), Advice::StartAnew);
    }
}
