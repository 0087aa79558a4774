//! How a connection ends.

use std::{borrow::Cow, fmt};

/// A close code with its reason, as RFC 6455 section 7.4 defines them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Close {
    /// 1000 to 4999.
    pub code: u16,
    /// At most 123 bytes; the rest is cut.
    pub reason: Cow<'static, str>,
}

impl Close {
    /// Everything is well.
    pub const NORMAL: Self = Self::new(1000, "goodbye");
    /// The client broke the WebSocket protocol.
    pub const PROTOCOL: Self = Self::new(1002, "protocol error");
    /// The server stops.
    pub const GOING_AWAY: Self = Self::new(1001, "server stops");
    /// Text was not UTF-8.
    pub const NOT_UTF8: Self = Self::new(1007, "text is not UTF-8");
    /// The client did what it may not.
    pub const POLICY: Self = Self::new(1008, "policy violation");
    /// The message is beyond the limit.
    pub const TOO_LARGE: Self = Self::new(1009, "message too large");
    /// Something broke here.
    pub const INTERNAL: Self = Self::new(1011, "internal error");
    /// The server restarts; come back.
    pub const RESTART: Self = Self::new(1012, "server restarts");

    /// The process holds too much, and most of it for this client; come back later.
    pub const OVERLOADED: Self = Self::new(1013, "server is overloaded");
    /// The client was not identified in time.
    pub const UNIDENTIFIED: Self = Self::new(4003, "not identified in time");
    /// What identified the client has expired.
    pub const EXPIRED: Self = Self::new(4009, "identification expired");

    /// Authentication was refused, or too many tokens were.
    pub const DENIED: Self = Self::new(4010, "not admitted");
    /// The same session came back on another socket.
    pub const REPLACED: Self = Self::new(4011, "replaced by a newer connection");
    /// The user or the session may no longer be here.
    pub const REVOKED: Self = Self::new(4012, "access was revoked");

    /// Creates a close.
    pub const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// Returns the reason, cut to what fits in a close frame.
    pub(crate) fn short_reason(&self) -> &str {
        let mut end = self.reason.len().min(123);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        self.reason.get(..end).unwrap_or_default()
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let close = Close { code: 4000, reason: Cow::Owned("é".repeat(100)) };
        assert_eq!(close.short_reason().len(), 122);
        assert_eq!(Close::NORMAL.to_string(), "1000 goodbye");
    }
}
