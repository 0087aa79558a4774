//! The metrics of durable machines.

use infra_core::{
    ErrorKind, Result,
    metric::{Counter, Histogram, Label, LabelSet},
};

use super::{policy::Reason, recovery::Recovered};

/// How a command ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Accepted,
    Refused,
    Failed,
}

impl Label for Fate {
    const SET: LabelSet = LabelSet { name: "fate", values: &["accepted", "refused", "failed"] };

    fn value(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Label for Reason {
    const SET: LabelSet = LabelSet {
        name: "reason",
        values: &[
            "count",
            "bytes",
            "age",
            "phase_change",
            "predicate",
            "error",
            "shutdown",
            "manual",
        ],
    };

    fn value(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::PhaseChange => "phase_change",
            Self::Predicate => "predicate",
            Self::Error => "error",
            Self::Shutdown => "shutdown",
            Self::Manual => "manual",
        }
    }
}

/// What a recovery came to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    Whole,
    FellBack,
    Refused,
    Failed,
}

impl Label for Found {
    const SET: LabelSet =
        LabelSet { name: "outcome", values: &["whole", "fell_back", "refused", "failed"] };

    fn value(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::FellBack => "fell_back",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

pub(crate) const COMMANDS: Counter<Fate> =
    Counter::labelled("infra_persistence_machine_commands_total", "Commands, by how they ended.");
pub(crate) const SAVE: Histogram = Histogram::latency(
    "infra_persistence_machine_save_seconds",
    "Time from a command's decision to the acknowledgement of its store.",
);
pub(crate) const SNAPSHOTS: Counter<Reason> = Counter::labelled(
    "infra_persistence_machine_snapshots_total",
    "Snapshots, by why they were taken.",
);
pub(crate) const SNAPSHOTS_FAILED: Counter = Counter::new(
    "infra_persistence_machine_snapshots_failed_total",
    "Snapshots that could not be stored; the events are the truth, so nothing is lost.",
);
pub(crate) const SNAPSHOT_BYTES: Counter = Counter::new(
    "infra_persistence_machine_snapshot_bytes_total",
    "Bytes of snapshots, compressed.",
);
pub(crate) const RECOVERIES: Counter<Found> = Counter::labelled(
    "infra_persistence_machine_recoveries_total",
    "Recoveries, by what they came to.",
);
pub(crate) const RECOVERY: Histogram =
    Histogram::latency("infra_persistence_machine_recovery_seconds", "Time of a recovery.");
pub(crate) const REPLAYED: Counter =
    Counter::new("infra_persistence_machine_replayed_total", "Events that recoveries replayed.");
pub(crate) const RESIDENT_HITS: Counter = Counter::new(
    "infra_persistence_machine_hits_total",
    "Machines that were asked for and were in memory.",
);
pub(crate) const RESIDENT_MISSES: Counter = Counter::new(
    "infra_persistence_machine_misses_total",
    "Machines that were asked for and had to be recovered.",
);
pub(crate) const FINDINGS: Counter = Counter::new(
    "infra_persistence_machine_findings_total",
    "Snapshots that a replay from the beginning did not come to.",
);

/// Counts a recovery.
pub(super) fn recovery<M>(recovered: &Result<Recovered<M>>) {
    let found = match recovered {
        Ok(recovered) => {
            RECOVERY.record(recovered.report.took.as_secs_f64());
            REPLAYED.add(recovered.report.replayed);
            if recovered.report.skipped.is_empty() { Found::Whole } else { Found::FellBack }
        }
        Err(error) if error.kind() == &ErrorKind::Unsupported => Found::Refused,
        Err(_) => Found::Failed,
    };
    RECOVERIES.add_for(found, 1);
}
