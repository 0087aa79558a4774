//! The metrics of messaging.

use infra_core::metric::{Counter, Declaration};

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

pub(crate) const QUEUED: Counter =
    Counter::new("infra_messaging_queued_total", "Messages that queues took.");
pub(crate) const REFUSED: Counter = Counter::new(
    "infra_messaging_refused_total",
    "Publishes that were refused because a queue was full.",
);
pub(crate) const HANDED_OUT: Counter = Counter::new(
    "infra_messaging_handed_out_total",
    "Messages that queues put into consumers' hands.",
);
pub(crate) const ACKNOWLEDGED: Counter =
    Counter::new("infra_messaging_acknowledged_total", "Messages that are done.");
pub(crate) const RETURNED: Counter = Counter::new(
    "infra_messaging_returned_total",
    "Messages that consumers gave back or up: failed, released or dead-lettered.",
);
pub(crate) const DEAD: Counter =
    Counter::new("infra_messaging_dead_total", "Messages that became dead letters.");
pub(crate) const FORGOTTEN: Counter = Counter::new(
    "infra_messaging_forgotten_total",
    "Dead letters that were dropped because there were too many.",
);

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[
    PUBLISHED.declaration(),
    DELIVERED.declaration(),
    MISSED.declaration(),
    QUEUED.declaration(),
    REFUSED.declaration(),
    HANDED_OUT.declaration(),
    ACKNOWLEDGED.declaration(),
    RETURNED.declaration(),
    DEAD.declaration(),
    FORGOTTEN.declaration(),
];
