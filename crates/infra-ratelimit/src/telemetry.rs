//! The metrics of rate limits. Their labels are closed sets: never a key, never a limit's name.

use infra_core::{
    limit::{Decision, Verdict},
    metric::{Counter, Declaration, Gauge, Label, LabelSet},
};

use crate::watch::Sign;

/// How a decision ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Admitted,
    Refused,
    Never,
}

impl Outcome {
    pub(crate) const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Admitted => Self::Admitted,
            Verdict::RetryAfter(_) => Self::Refused,
            Verdict::Never => Self::Never,
        }
    }
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

impl Sign {
    /// Returns whether it holds under the decision over all charges.
    pub(crate) const fn is_true_of(self, decision: &Decision) -> bool {
        match self {
            Self::Near => decision.is_admitted(),
            Self::Refused | Self::Shadowed => true,
        }
    }
}

impl Label for Sign {
    const SET: LabelSet = LabelSet { name: "sign", values: &["near", "refused", "shadowed"] };

    fn value(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Refused => "refused",
            Self::Shadowed => "shadowed",
        }
    }
}

const DECISIONS: Counter<Outcome> =
    Counter::labelled("infra_ratelimit_decisions_total", "Decisions, by how they ended.");
pub(crate) const SIGNS: Counter<Sign> = Counter::labelled(
    "infra_ratelimit_signs_total",
    "Charges that came near their limit, met it, or would have met one on trial.",
);
pub(crate) const SHARED: Counter = Counter::new(
    "infra_ratelimit_shared_total",
    "Charges that were counted together with their neighbours because no more keys could be kept.",
);
pub(crate) const KEYS: Gauge =
    Gauge::new("infra_ratelimit_keys", "", "Keys that are kept because they are not full.");
pub(crate) const BYTES: Gauge =
    Gauge::new("infra_ratelimit_keys_bytes", "bytes", "Bytes that the kept keys take.");
pub(crate) const LOST: Gauge = Gauge::new(
    "infra_ratelimit_store_lost",
    "",
    "One while the shared store is lost and the declared policy decides.",
);
pub(crate) const OUTAGES: Counter =
    Counter::new("infra_ratelimit_store_outages_total", "Times that the shared store was lost.");
pub(crate) const UNSETTLED: Counter = Counter::new(
    "infra_ratelimit_unsettled_total",
    "Refunds and merges that did not reach the shared store; time gives them back.",
);

/// Counts a decision; each request pays for it, so its keys are made by the compiler.
pub(crate) fn count_decision(outcome: Outcome) {
    macro_rules! series {
        ($outcome:literal) => {
            metrics::counter!("infra_ratelimit_decisions_total", "outcome" => $outcome)
        };
    }
    let series = match outcome {
        Outcome::Admitted => series!("admitted"),
        Outcome::Refused => series!("refused"),
        Outcome::Never => series!("never"),
    };
    series.increment(1);
}

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[
    DECISIONS.declaration(),
    SIGNS.declaration(),
    SHARED.declaration(),
    KEYS.declaration(),
    BYTES.declaration(),
    LOST.declaration(),
    OUTAGES.declaration(),
    UNSETTLED.declaration(),
];
