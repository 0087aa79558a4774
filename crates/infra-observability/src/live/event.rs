//! One event of the live stream.

use infra_core::{clock::Timestamp, context::Context, id::CorrelationId};
use serde::Serialize;
use serde_json::Value;

use crate::log::{REDACTED, is_secret};

/// The longest name of a game, room or player that is kept, in characters.
const MAX_NAME: usize = 64;

/// How deep data may be nested; what lies deeper is left out.
const MAX_DEPTH: usize = 6;

/// An event that is about to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    pub(super) kind: &'static str,
    pub(super) game: Option<String>,
    pub(super) room: Option<String>,
    pub(super) player: Option<String>,
    pub(super) data: Value,
}

impl Draft {
    /// Creates an event of a kind, such as `game.started`.
    pub const fn new(kind: &'static str) -> Self {
        Self { kind, game: None, room: None, player: None, data: Value::Null }
    }

    /// Names its game.
    #[must_use]
    pub fn game(mut self, game: &str) -> Self {
        self.game = Some(short(game));
        self
    }

    /// Names its room.
    #[must_use]
    pub fn room(mut self, room: &str) -> Self {
        self.room = Some(short(room));
        self
    }

    /// Names its player.
    #[must_use]
    pub fn player(mut self, player: &str) -> Self {
        self.player = Some(short(player));
        self
    }

    /// Adds more about it. The values under names of secrets are taken out.
    #[must_use]
    pub fn data(mut self, data: Value) -> Self {
        self.data = clean(data, MAX_DEPTH);
        self
    }
}

fn short(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

/// Takes secrets out, whatever they are nested in.
fn clean(value: Value, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let value =
                    if is_secret(&name) { REDACTED.into() } else { clean(value, depth - 1) };
                (name, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(|item| clean(item, depth - 1)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// An event that was published.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Its number; the first is 1, and there are no holes.
    pub sequence: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at: Timestamp,
    /// What kind it is of, such as `game.started`.
    pub kind: &'static str,
    /// Its game.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub game: Option<String>,
    /// Its room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// Its player.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub player: Option<String>,
    /// The correlation id of the context that it was published in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<CorrelationId>,
    /// More about it.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

impl Event {
    pub(super) fn of(draft: Draft, sequence: u64, at: Timestamp) -> Self {
        let Draft { kind, game, room, player, data } = draft;
        let correlation = Context::current().correlation_id();
        Self { sequence, at, kind, game, room, player, correlation, data }
    }

    /// Writes the event as one of the server-sent events of HTML: its number, its kind, its JSON.
    ///
    /// JSON escapes line feeds, so the data is one line.
    pub fn to_sse(&self) -> String {
        let data = serde_json::to_string(self).unwrap_or_default();
        format!("id: {}\nevent: {}\ndata: {data}\n\n", self.sequence, self.kind)
    }
}
