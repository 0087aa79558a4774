//! The metrics of rate limits.

use infra_core::metric::{Counter, Declaration, Gauge, Label, LabelSet};

/// How a decision ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Admitted,
    Refused,
    Never,
}

impl Label for Outcome {
    const SET: LabelSet = LabelSet { name: "outcome", values: &["admitted", "refused", "never"] };

    fn value(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Never => "never",
        }
    }
}

pub(crate) const DECISIONS: Counter<Outcome> =
    Counter::labelled("infra_ratelimit_decisions_total", "Decisions, by how they ended.");
pub(crate) const SHARED: Counter = Counter::new(
    "infra_ratelimit_shared_total",
    "Charges that were paid from the shared bucket because no more keys could be kept.",
);
pub(crate) const KEYS: Gauge =
    Gauge::new("infra_ratelimit_keys", "", "Keys that are kept because they are not full.");

/// The metrics of this crate.
pub const METRICS: &[Declaration] =
    &[DECISIONS.declaration(), SHARED.declaration(), KEYS.declaration()];
