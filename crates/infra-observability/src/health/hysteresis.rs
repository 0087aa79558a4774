//! When a check's word becomes its status: not at the first failure, not at the first success.

use infra_core::health::{Finding, Status};

/// How many findings in a row change a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    failures: u32,
    successes: u32,
}

impl Default for Thresholds {
    /// One finding is enough, either way.
    fn default() -> Self {
        Self { failures: 1, successes: 1 }
    }
}

impl Thresholds {
    /// Sets the failures in a row after which something that worked is down; until then it is
    /// degraded. One by default.
    #[must_use]
    pub const fn failures(mut self, count: u32) -> Self {
        self.failures = count;
        self
    }

    /// Sets the findings in a row without failure after which something that was down works again.
    /// One by default.
    #[must_use]
    pub const fn successes(mut self, count: u32) -> Self {
        self.successes = count;
        self
    }
}

/// The status of one check, from its findings in order.
///
/// ```
/// use infra_core::health::{Finding, Status};
/// use infra_observability::health::{Hysteresis, Thresholds};
///
/// let mut disk = Hysteresis::new(Thresholds::default().failures(3).successes(2));
/// assert_eq!(disk.judge(&Finding::up()).status, Status::Up);
/// assert_eq!(disk.judge(&Finding::down("full")).status, Status::Degraded);
/// assert_eq!(disk.judge(&Finding::down("full")).status, Status::Degraded);
/// assert_eq!(disk.judge(&Finding::down("full")).status, Status::Down);
/// assert_eq!(disk.judge(&Finding::up()).status, Status::Down);
/// assert_eq!(disk.judge(&Finding::up()).status, Status::Up);
/// ```
#[derive(Debug, Clone)]
pub struct Hysteresis {
    thresholds: Thresholds,
    is_down: Option<bool>,
    failures: u32,
    successes: u32,
}

impl Hysteresis {
    /// Creates the state of a check that has said nothing.
    pub const fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, is_down: None, failures: 0, successes: 0 }
    }

    /// Takes the next finding and returns the one to publish.
    ///
    /// The first finding counts at once: nothing is known that it could contradict.
    pub fn judge(&mut self, finding: &Finding) -> Finding {
        let failed = finding.status == Status::Down;
        if failed {
            self.failures = self.failures.saturating_add(1);
            self.successes = 0;
        } else {
            self.successes = self.successes.saturating_add(1);
            self.failures = 0;
        }
        let was_down = self.is_down.unwrap_or(failed);
        let is_down = if was_down {
            failed || self.successes < self.thresholds.successes && self.is_down.is_some()
        } else {
            failed && self.thresholds.failures <= self.failures
        };
        self.is_down = Some(is_down);
        match (is_down, failed) {
            (true, true) | (false, false) => finding.clone(),
            (false, true) => Finding::degraded(finding.detail.clone()),
            (true, false) => Finding::down("works again, not long enough to be trusted"),
        }
    }

    /// Returns the failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}
