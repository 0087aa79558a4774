//! The metrics of the event store.

use std::sync::atomic::{AtomicU32, Ordering};

use infra_core::{
    ErrorKind, Result,
    event::Appended,
    metric::{Counter, Declaration, Gauge, Histogram, Label, LabelSet},
};

/// How an append ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Written,
    Duplicate,
    Refused,
    Failed,
}

impl Label for Outcome {
    const SET: LabelSet =
        LabelSet { name: "outcome", values: &["written", "duplicate", "refused", "failed"] };

    fn value(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Tells how an append ended.
pub(crate) fn outcome(result: &Result<Appended>) -> Outcome {
    match result {
        Ok(appended) if appended.is_duplicate => Outcome::Duplicate,
        Ok(_) => Outcome::Written,
        Err(error) => {
            let is_failure = matches!(
                error.kind(),
                ErrorKind::Indeterminate | ErrorKind::Poisoned | ErrorKind::Unavailable
            );
            if is_failure { Outcome::Failed } else { Outcome::Refused }
        }
    }
}

pub(crate) const APPENDS: Counter<Outcome> =
    Counter::labelled("infra_events_appends_total", "Appends, by how they ended.");
pub(crate) const APPENDED: Counter =
    Counter::new("infra_events_events_total", "Events that were committed.");
pub(crate) const COMMIT: Histogram = Histogram::latency(
    "infra_events_commit_seconds",
    "Time from taking a group of appends to its sync.",
);
pub(crate) const GROUP: Histogram = Histogram::new(
    "infra_events_group_size",
    "",
    "Appends that shared one sync.",
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0],
);
pub(crate) const HEAD: Gauge =
    Gauge::new("infra_events_head_position", "", "Position of the last committed event.");
pub(crate) const POISONED: Gauge = Gauge::new(
    "infra_events_poisoned",
    "",
    "1 after a failed write or sync, until the store is reopened.",
);
pub(crate) const PARKED: Gauge = Gauge::new(
    "infra_events_parked_keys",
    "",
    "Keys that are held back after a failure, over all projections as they were looked at last.",
);
pub(crate) const ARCHIVED: Counter =
    Counter::new("infra_events_archived_total", "Events that were moved to the archive.");

/// What one projection adds to [`PARKED`], until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct ParkedShare(AtomicU32);

impl ParkedShare {
    /// Says how many of its keys are held back now.
    pub(crate) fn set(&self, keys: usize) {
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        let before = self.0.swap(keys, Ordering::Relaxed);
        PARKED.add(f64::from(keys) - f64::from(before));
    }
}

impl Drop for ParkedShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[
    APPENDS.declaration(),
    APPENDED.declaration(),
    COMMIT.declaration(),
    GROUP.declaration(),
    HEAD.declaration(),
    POISONED.declaration(),
    PARKED.declaration(),
    ARCHIVED.declaration(),
];
