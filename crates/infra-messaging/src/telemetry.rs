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

/// The metrics of this crate.
pub const METRICS: &[Declaration] =
    &[PUBLISHED.declaration(), DELIVERED.declaration(), MISSED.declaration()];
