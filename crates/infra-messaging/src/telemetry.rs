//! The metrics of messaging.

use infra_core::{
    metric::{Counter, Declaration, Histogram, Label, LabelSet},
    queue::{Cause, Priority, Settlement},
};

pub(crate) const PUBLISHED: Counter =
    Counter::new("infra_messaging_published_total", "Messages that were published.");
pub(crate) const DELIVERED: Counter = Counter::new(
    "infra_messaging_delivered_total",
    "Messages that were put into subscribers' mailboxes.",
);
pub(crate) const MISSED: Counter = Counter::new(
    "infra_messaging_missed_total",
    "Messages that subscribers missed because their mailboxes were full.",
);

pub(crate) const QUEUED: Counter<Urgency> =
    Counter::labelled("infra_messaging_queued_total", "Messages that queues took.");
pub(crate) const REFUSED: Counter = Counter::new(
    "infra_messaging_refused_total",
    "Publishes that were refused because a queue was full.",
);
pub(crate) const HANDED_OUT: Counter = Counter::new(
    "infra_messaging_handed_out_total",
    "Messages that queues put into consumers' hands.",
);
pub(crate) const SETTLED: Counter<Outcome> = Counter::labelled(
    "infra_messaging_settled_total",
    "Deliveries whose consumers said how they ended.",
);
pub(crate) const DEAD: Counter<Death> =
    Counter::labelled("infra_messaging_dead_total", "Messages that became dead letters.");
pub(crate) const FORGOTTEN: Counter = Counter::new(
    "infra_messaging_forgotten_total",
    "Dead letters that were dropped because there were too many.",
);
pub(crate) const UNROUTABLE: Counter =
    Counter::new("infra_messaging_unroutable_total", "Messages that no route was for.");
pub(crate) const HANDLED: Histogram = Histogram::latency(
    "infra_messaging_handling_seconds",
    "How long handlers took for a message or batch.",
);

/// The priority of a message, as a label.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Urgency(pub(crate) Priority);

impl Label for Urgency {
    const SET: LabelSet =
        LabelSet { name: "priority", values: &["low", "normal", "high", "critical"] };

    fn value(self) -> &'static str {
        match self.0 {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
            Priority::Critical => "critical",
        }
    }
}

/// How a delivery ended, as a label.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Acknowledged,
    Failed,
    Released,
    Crashed,
    Refused,
}

impl Outcome {
    pub(crate) const fn of(settlement: &Settlement) -> Self {
        match settlement {
            Settlement::Ack => Self::Acknowledged,
            Settlement::Nack { .. } => Self::Failed,
            Settlement::Release => Self::Released,
            Settlement::Crash { .. } => Self::Crashed,
            Settlement::DeadLetter { .. } => Self::Refused,
        }
    }
}

impl Label for Outcome {
    const SET: LabelSet = LabelSet {
        name: "outcome",
        values: &["acknowledged", "failed", "released", "crashed", "refused"],
    };

    fn value(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Crashed => "crashed",
            Self::Refused => "refused",
        }
    }
}

/// Why a message is dead, as a label.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death(pub(crate) Cause);

impl Label for Death {
    const SET: LabelSet = LabelSet {
        name: "cause",
        values: &["failed", "refused", "crashed", "expired", "displaced", "exhausted"],
    };

    fn value(self) -> &'static str {
        self.0.name()
    }
}

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[
    PUBLISHED.declaration(),
    DELIVERED.declaration(),
    MISSED.declaration(),
    QUEUED.declaration(),
    REFUSED.declaration(),
    HANDED_OUT.declaration(),
    SETTLED.declaration(),
    DEAD.declaration(),
    FORGOTTEN.declaration(),
    UNROUTABLE.declaration(),
    HANDLED.declaration(),
];
