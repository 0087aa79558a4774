//! Rules on a message itself: its headers, its content, its priority.

use infra_core::{
    codec::CodecTag,
    queue::{Message, Priority},
};

/// A condition on a message; plain data, so that it may come from a configuration.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// A header has this value.
    Header {
        /// The header's name.
        name: String,
        /// Its value.
        value: String,
    },
    /// The payload is JSON and has this value at this pointer (RFC 6901).
    Content {
        /// The pointer, such as `/room/id`.
        pointer: String,
        /// The value.
        value: serde_json::Value,
    },
    /// It is at least so urgent.
    AtLeast(Priority),
    /// All of these hold.
    All(Vec<Self>),
    /// One of these holds.
    Any(Vec<Self>),
    /// This does not hold.
    Not(Box<Self>),
}

impl Rule {
    /// Creates the rule that a header has a value.
    pub fn header(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Header { name: name.into(), value: value.into() }
    }

    /// Creates the rule that a JSON payload has a value at a pointer.
    pub fn content(pointer: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        Self::Content { pointer: pointer.into(), value: value.into() }
    }

    /// Returns whether a message keeps the rule.
    pub fn admits(&self, message: &Message) -> bool {
        match self {
            Self::Header { name, value } => message.headers.get(name) == Some(value),
            Self::Content { pointer, value } => {
                content(message).is_some_and(|content| content.pointer(pointer) == Some(value))
            }
            Self::AtLeast(priority) => *priority <= message.priority,
            Self::All(rules) => rules.iter().all(|rule| rule.admits(message)),
            Self::Any(rules) => rules.iter().any(|rule| rule.admits(message)),
            Self::Not(rule) => !rule.admits(message),
        }
    }
}

fn content(message: &Message) -> Option<serde_json::Value> {
    (message.payload.codec == CodecTag::Json).then(|| message.payload.decode().ok()).flatten()
}
