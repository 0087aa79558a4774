//! The metrics of the game.

use infra_core::metric::{Counter, Declaration, Gauge, Histogram, Label, LabelSet};

use crate::protocol::ServerMessage;

/// A store, or the bus, that has a circuit of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Store {
    Events,
    Documents,
    Archive,
    Bus,
}

impl Label for Store {
    const SET: LabelSet =
        LabelSet { name: "store", values: &["events", "documents", "archive", "bus"] };

    fn value(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Documents => "documents",
            Self::Archive => "archive",
            Self::Bus => "bus",
        }
    }
}

/// How an action was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Done,
    Refused,
}

impl Outcome {
    pub(crate) const fn of(answer: &ServerMessage) -> Self {
        if matches!(answer, ServerMessage::Ack(_)) { Self::Done } else { Self::Refused }
    }
}

impl Label for Outcome {
    const SET: LabelSet = LabelSet { name: "outcome", values: &["done", "refused"] };

    fn value(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

pub(crate) const ACTIONS: Counter<Outcome> =
    Counter::labelled("infra_game_actions_total", "Numbered actions, by how they were answered.");
pub(crate) const APPEND: Histogram = Histogram::latency(
    "infra_game_append_seconds",
    "Time from the decision of a room to the durable append of its events.",
);
pub(crate) const BROADCAST: Histogram = Histogram::latency(
    "infra_game_broadcast_seconds",
    "Time to fold stored events in and put their frames into all queues of a room.",
);
pub(crate) const RESUMED: Counter =
    Counter::new("infra_game_resumed_total", "Players who came back with a token.");
pub(crate) const MALFORMED: Counter =
    Counter::new("infra_game_malformed_total", "Messages that were not understood.");
pub(crate) const THROTTLED: Counter =
    Counter::new("infra_game_throttled_total", "Requests that the rate limiter refused.");
pub(crate) const LATE: Counter = Counter::new(
    "infra_game_late_total",
    "Numbered actions that were not begun, since their time was over when their turn came.",
);
pub(crate) const PANICS: Counter = Counter::new(
    "infra_game_panics_total",
    "Handlers of HTTP that panicked; each was answered 500.",
);
pub(crate) const STORE_BREAKER: Gauge<Store> = Gauge::labelled(
    "infra_game_store_breaker",
    "",
    "State of the breaker of each store, and of the bus: 0 closed, 1 half open, 2 open.",
);
pub(crate) const ARCHIVED: Counter =
    Counter::new("infra_game_archived_total", "Finished games that were put into the archive.");
pub(crate) const ARCHIVED_BYTES: Counter = Counter::new(
    "infra_game_archived_bytes_total",
    "Bytes of the games that were put into the archive, as JSON.",
);
pub(crate) const ROOMS: Gauge = Gauge::new("infra_game_rooms", "", "Rooms in memory.");

/// The metrics of the game.
pub(crate) const METRICS: &[Declaration] = &[
    ACTIONS.declaration(),
    APPEND.declaration(),
    BROADCAST.declaration(),
    RESUMED.declaration(),
    MALFORMED.declaration(),
    THROTTLED.declaration(),
    LATE.declaration(),
    PANICS.declaration(),
    STORE_BREAKER.declaration(),
    ARCHIVED.declaration(),
    ARCHIVED_BYTES.declaration(),
    ROOMS.declaration(),
];
