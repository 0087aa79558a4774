//! The metrics of resilience.

use infra_core::metric::{Counter, Declaration, Label, LabelSet};

use crate::circuit::State;

impl Label for State {
    const SET: LabelSet = LabelSet { name: "state", values: &["closed", "open", "half_open"] };

    fn value(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Why a call was not tried again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GaveUp {
    Attempts,
    Budget,
    Deadline,
}

impl Label for GaveUp {
    const SET: LabelSet = LabelSet { name: "reason", values: &["attempts", "budget", "deadline"] };

    fn value(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
        }
    }
}

pub(crate) const TIMEOUTS: Counter =
    Counter::new("infra_resilience_timeouts_total", "Calls that were given up for their deadline.");
pub(crate) const RETRIES: Counter =
    Counter::new("infra_resilience_retries_total", "Attempts after the first one of a call.");
pub(crate) const GIVEN_UP: Counter<GaveUp> = Counter::labelled(
    "infra_resilience_given_up_total",
    "Transient failures that were not tried again, by the bound that was met.",
);
pub(crate) const TRANSITIONS: Counter<State> = Counter::labelled(
    "infra_resilience_breaker_transitions_total",
    "Changes of circuit breakers, by the state they came into.",
);
pub(crate) const REJECTED: Counter = Counter::new(
    "infra_resilience_rejected_total",
    "Calls that a circuit breaker did not let through.",
);

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[
    TIMEOUTS.declaration(),
    RETRIES.declaration(),
    GIVEN_UP.declaration(),
    TRANSITIONS.declaration(),
    REJECTED.declaration(),
];
