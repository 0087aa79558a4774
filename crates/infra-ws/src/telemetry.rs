//! The metrics of connections.

use infra_core::metric::{Counter, Declaration, Gauge, Label, LabelSet};

use crate::connection::Ended;

/// Why a message was not delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Dropped,
    Discarded,
}

impl Label for Fate {
    const SET: LabelSet = LabelSet { name: "fate", values: &["dropped", "discarded"] };

    fn value(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Discarded => "discarded",
        }
    }
}

/// Why a handshake was refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refusal {
    Malformed,
    Origin,
    Limit,
    Draining,
}

impl Label for Refusal {
    const SET: LabelSet =
        LabelSet { name: "reason", values: &["malformed", "origin", "limit", "draining"] };

    fn value(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Origin => "origin",
            Self::Limit => "limit",
            Self::Draining => "draining",
        }
    }
}

pub(crate) const OPEN: Gauge =
    Gauge::new("infra_ws_connections", "", "Connections that are open or in their handshake.");
pub(crate) const REFUSED: Counter<Refusal> =
    Counter::labelled("infra_ws_refused_total", "Handshakes that were refused.");
pub(crate) const CLOSED: Counter<Ending> =
    Counter::labelled("infra_ws_closed_total", "Connections that ended, by who ended them.");
pub(crate) const RECEIVED: Counter =
    Counter::new("infra_ws_received_total", "Messages that were received.");
pub(crate) const ENQUEUED: Counter =
    Counter::new("infra_ws_enqueued_total", "Messages that were given to clients' queues.");
pub(crate) const DELIVERED: Counter =
    Counter::new("infra_ws_sent_total", "Messages that were written to sockets.");
pub(crate) const UNDELIVERED: Counter<Fate> =
    Counter::labelled("infra_ws_undelivered_total", "Messages that were not delivered.");
pub(crate) const SHED: Counter<Direction> = Counter::labelled(
    "infra_ws_shed_total",
    "Connections that were closed because the process held too much.",
);

pub(crate) const MIDDLEWARE: Counter<Middleware> = Counter::labelled(
    "infra_ws_rejected_messages_total",
    "Messages that a layer of middleware did not pass on.",
);
pub(crate) const RESUMED: Counter<Outcome> =
    Counter::labelled("infra_ws_resumes_total", "Clients that came back, by what they were given.");
pub(crate) const ROOMS: Gauge = Gauge::new("infra_ws_rooms", "", "Rooms with somebody in them.");
pub(crate) const PUBLISHED: Counter =
    Counter::new("infra_ws_published_total", "Events that were published to rooms.");
pub(crate) const HANDLERS: Counter =
    Counter::new("infra_ws_handler_panics_total", "Panics of handlers of the local event bus.");

/// Why a layer did not pass a message on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Middleware {
    Invalid,
    Limited,
}

impl Label for Middleware {
    const SET: LabelSet = LabelSet { name: "reason", values: &["invalid", "limited"] };

    fn value(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Limited => "limited",
        }
    }
}

/// What a client that came back was given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Recovered,
    NotRecovered,
}

impl Label for Outcome {
    const SET: LabelSet = LabelSet { name: "outcome", values: &["recovered", "not_recovered"] };

    fn value(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::NotRecovered => "not_recovered",
        }
    }
}

/// Which budget was exceeded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    In,
    Out,
}

impl Label for Direction {
    const SET: LabelSet = LabelSet { name: "direction", values: &["in", "out"] };

    fn value(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Client,
    Server,
    Lost,
}

impl Ending {
    pub(crate) const fn of(ended: &Ended) -> Self {
        match ended {
            Ended::Client(_) => Self::Client,
            Ended::Lost => Self::Lost,
            Ended::Server(_) => Self::Server,
        }
    }
}

impl Label for Ending {
    const SET: LabelSet = LabelSet { name: "by", values: &["client", "server", "lost"] };

    fn value(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Lost => "lost",
        }
    }
}

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[
    OPEN.declaration(),
    REFUSED.declaration(),
    CLOSED.declaration(),
    RECEIVED.declaration(),
    ENQUEUED.declaration(),
    DELIVERED.declaration(),
    UNDELIVERED.declaration(),
    SHED.declaration(),
    MIDDLEWARE.declaration(),
    RESUMED.declaration(),
    ROOMS.declaration(),
    PUBLISHED.declaration(),
    HANDLERS.declaration(),
];
