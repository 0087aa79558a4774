//! What clients say.

use infra_core::trace::TraceContext;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::history::Place;

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
