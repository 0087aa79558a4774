//! The metrics of resilience.

use infra_core::metric::{Counter, Declaration, Gauge, Label, LabelSet};

use crate::{breaker::State, refused::Reason};

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
    Final,
    Hint,
}

impl Label for GaveUp {
    const SET: LabelSet =
        LabelSet { name: "reason", values: &["attempts", "budget", "deadline", "final", "hint"] };

    fn value(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::Final => "final",
            Self::Hint => "hint",
        }
    }
}

/// What became of a second attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hedged {
    Begun,
    Won,
}

impl Label for Hedged {
    const SET: LabelSet = LabelSet { name: "stage", values: &["begun", "won"] };

    fn value(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Won => "won",
        }
    }
}

/// What became of a pooled connection.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "pool"), expect(dead_code, reason = "declared with or without pools"))]
pub(crate) enum Pooled {
    Opened,
    Invalid,
    Idle,
    Aged,
    Overflow,
}

impl Label for Pooled {
    const SET: LabelSet =
        LabelSet { name: "event", values: &["opened", "invalid", "idle", "aged", "overflow"] };

    fn value(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Invalid => "invalid",
            Self::Idle => "idle",
            Self::Aged => "aged",
            Self::Overflow => "overflow",
        }
    }
}

pub(crate) const TIMEOUTS: Counter =
    Counter::new("infra_resilience_timeouts_total", "Calls that were given up for their deadline.");
pub(crate) const RETRIES: Counter =
    Counter::new("infra_resilience_retries_total", "Attempts after the first one of a call.");
pub(crate) const GIVEN_UP: Counter<GaveUp> = Counter::labelled(
    "infra_resilience_given_up_total",
    "Failures that were not tried again, by the bound that was met.",
);
pub(crate) const TRANSITIONS: Counter<State> = Counter::labelled(
    "infra_resilience_breaker_transitions_total",
    "Changes of circuit breakers, by the state they came into.",
);
pub(crate) const BREAKERS: Gauge<State> = Gauge::labelled(
    "infra_resilience_breakers",
    "",
    "Circuit breakers by their state, as of their last call or change.",
);
pub(crate) const REFUSED: Counter<Reason> = Counter::labelled(
    "infra_resilience_refused_total",
    "Calls that were not begun, by the bound that was met.",
);
pub(crate) const SAVED: Gauge = Gauge::new(
    "infra_resilience_retry_budget",
    "",
    "Extra attempts that are left in a shared budget, of the one that was asked for one last.",
);
pub(crate) const HEDGES: Counter<Hedged> = Counter::labelled(
    "infra_resilience_hedges_total",
    "Second attempts beside a slow one: begun, and first with an answer.",
);
pub(crate) const FALLBACKS: Counter = Counter::new(
    "infra_resilience_fallbacks_total",
    "Failures that were answered with something else.",
);
pub(crate) const LIMIT: Gauge = Gauge::new(
    "infra_resilience_limit",
    "",
    "Calls that the adaptive limit lets run at the same time, of the limiter that moved last.",
);
pub(crate) const POOL: Counter<Pooled> = Counter::labelled(
    "infra_resilience_pool_connections_total",
    "Pooled connections that were opened, and that were closed, by why.",
);

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[
    TIMEOUTS.declaration(),
    RETRIES.declaration(),
    GIVEN_UP.declaration(),
    TRANSITIONS.declaration(),
    BREAKERS.declaration(),
    REFUSED.declaration(),
    SAVED.declaration(),
    HEDGES.declaration(),
    FALLBACKS.declaration(),
    LIMIT.declaration(),
    POOL.declaration(),
];
