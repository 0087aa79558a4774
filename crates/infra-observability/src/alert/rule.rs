//! What a rule says.

use std::time::Duration;

use serde::Serialize;

/// How bad an alert is. The order is from harmless to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To know.
    Info,
    /// To look at in working hours.
    Warning,
    /// To look at today.
    Error,
    /// To look at now.
    Critical,
}

/// The side on which a value is bad; the bound itself is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Bad above.
    Above(f64),
    /// Bad below.
    Below(f64),
}

impl Bound {
    /// Returns whether a value is bad; what is no number is not.
    pub fn is_breached(self, value: f64) -> bool {
        match self {
            Self::Above(bound) => bound < value,
            Self::Below(bound) => value < bound,
        }
    }
}

/// When to raise an alert.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    pub(super) bound: Bound,
    pub(super) lasting: Duration,
    pub(super) consecutive: u32,
    pub(super) cooldown: Duration,
    pub(super) message: fn(f64) -> String,
}

impl Rule {
    /// Creates a rule that fires at once; `message` is told with the value.
    pub const fn new(
        name: &'static str,
        severity: Severity,
        bound: Bound,
        message: fn(f64) -> String,
    ) -> Self {
        Self {
            name,
            severity,
            bound,
            lasting: Duration::ZERO,
            consecutive: 1,
            cooldown: Duration::from_mins(5),
            message,
        }
    }

    /// Sets how long the value must be bad without a break; not at all by default.
    #[must_use]
    pub const fn lasting(mut self, lasting: Duration) -> Self {
        self.lasting = lasting;
        self
    }

    /// Sets how many values in a row must be bad; one by default.
    #[must_use]
    pub const fn consecutive(mut self, count: u32) -> Self {
        self.consecutive = count;
        self
    }

    /// Sets how long after an alert the rule does not raise another; 5 minutes by default. An
    /// alert may resolve within that time.
    #[must_use]
    pub const fn cooldown(mut self, cooldown: Duration) -> Self {
        self.cooldown = cooldown;
        self
    }

    /// Returns the rule's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}
