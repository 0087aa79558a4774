//! The metrics of documents and repositories.

use infra_core::{
    ErrorKind, Result,
    metric::{Counter, Declaration, Gauge, Histogram, Label, LabelSet},
};

use crate::state::telemetry as machine;

/// How a commit ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Done,
    Refused,
    Failed,
}

impl Outcome {
    /// Tells a refusal from a failure.
    pub(crate) fn of<T>(result: &Result<T>) -> Self {
        let Err(error) = result else { return Self::Done };
        let is_failure = matches!(
            error.kind(),
            ErrorKind::Indeterminate
                | ErrorKind::Poisoned
                | ErrorKind::Unavailable
                | ErrorKind::Timeout
                | ErrorKind::Overloaded
        );
        if is_failure { Self::Failed } else { Self::Refused }
    }
}

impl Label for Outcome {
    const SET: LabelSet = LabelSet { name: "outcome", values: &["done", "refused", "failed"] };

    fn value(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

pub(crate) const COMMITS: Counter<Outcome> =
    Counter::labelled("infra_persistence_commits_total", "Batches, by how they ended.");
pub(crate) const COMMIT: Histogram = Histogram::latency(
    "infra_persistence_commit_seconds",
    "Time from taking a group of batches to its sync.",
);
pub(crate) const POISONED: Gauge = Gauge::new(
    "infra_persistence_poisoned",
    "",
    "1 after a failed write or sync, until the store is reopened.",
);

pub(crate) const HITS: Counter = Counter::new(
    "infra_persistence_memory_hits_total",
    "Entities that a repository found in memory.",
);
pub(crate) const MISSES: Counter = Counter::new(
    "infra_persistence_memory_misses_total",
    "Entities that a repository looked for in its store.",
);

pub(crate) const EVICTED: Counter = Counter::new(
    "infra_persistence_memory_evicted_total",
    "Entities that left a repository's memory for others; they are stored.",
);
pub(crate) const REFUSED: Counter = Counter::new(
    "infra_persistence_memory_refused_total",
    "Saves that found memory full of active entities.",
);

/// How the hand-over of an entity to the archive ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HandOver {
    Archived,
    Superseded,
    Retried,
    Dead,
}

impl Label for HandOver {
    const SET: LabelSet =
        LabelSet { name: "outcome", values: &["archived", "superseded", "retried", "dead"] };

    fn value(self) -> &'static str {
        match self {
            Self::Archived => "archived",
            Self::Superseded => "superseded",
            Self::Retried => "retried",
            Self::Dead => "dead",
        }
    }
}

pub(crate) const HAND_OVERS: Counter<HandOver> = Counter::labelled(
    "infra_persistence_hand_overs_total",
    "Hand-overs of entities to the archive, by how they ended.",
);
pub(crate) const WAITING: Gauge =
    Gauge::new("infra_persistence_hand_overs_waiting", "", "Entities that wait for the archive.");
pub(crate) const ARCHIVED_BYTES: Counter = Counter::new(
    "infra_persistence_archived_bytes_total",
    "Bytes of archived objects, as they were stored.",
);

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[
    COMMITS.declaration(),
    COMMIT.declaration(),
    POISONED.declaration(),
    HITS.declaration(),
    MISSES.declaration(),
    EVICTED.declaration(),
    REFUSED.declaration(),
    HAND_OVERS.declaration(),
    WAITING.declaration(),
    ARCHIVED_BYTES.declaration(),
    machine::COMMANDS.declaration(),
    machine::SAVE.declaration(),
    machine::SNAPSHOTS.declaration(),
    machine::SNAPSHOTS_FAILED.declaration(),
    machine::SNAPSHOT_BYTES.declaration(),
    machine::RECOVERIES.declaration(),
    machine::RECOVERY.declaration(),
    machine::REPLAYED.declaration(),
    machine::RESIDENT_HITS.declaration(),
    machine::RESIDENT_MISSES.declaration(),
    machine::FINDINGS.declaration(),
];
