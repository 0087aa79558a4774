//! The metrics of documents and repositories.

use infra_core::metric::{Counter, Declaration, Gauge, Histogram, Label, LabelSet};

/// How a commit ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Done,
    Refused,
    Failed,
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

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[
    COMMITS.declaration(),
    COMMIT.declaration(),
    POISONED.declaration(),
    HITS.declaration(),
    MISSES.declaration(),
];
