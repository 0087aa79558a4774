//! Whether the service takes new work, as a pure function of what is known.

use std::time::Duration;

use infra_core::health::{HealthReport, Status};

/// Whether the service takes new work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, for this reason.
    Unready(String),
}

impl Readiness {
    /// Judges a report.
    ///
    /// Ready is who has started, is not draining, and has no check that is down or whose word is
    /// older than `patience`: a check that hangs must not keep its last good word for ever.
    pub fn judge(report: &HealthReport, is_draining: bool, patience: Duration) -> Self {
        if is_draining {
            return Self::Unready("draining".to_owned());
        }
        for check in &report.checks {
            if check.finding.status == Status::Down {
                return Self::Unready(format!("{}: {}", check.name, check.finding.detail));
            }
            if patience < check.age {
                let age = check.age.as_millis();
                return Self::Unready(format!("{}: no word for {age} ms", check.name));
            }
        }
        Self::Ready
    }

    /// Returns whether it takes new work.
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }
}

#[cfg(test)]
mod tests {
    use infra_core::health::{CheckReport, Finding};

    use super::*;

    fn judged(finding: Finding, age: u64, is_draining: bool) -> Readiness {
        let check = CheckReport {
            name: "events".to_owned(),
            finding,
            age: Duration::from_secs(age),
            duration: Duration::ZERO,
            failures: 0,
            changes: Vec::new(),
        };
        Readiness::judge(&HealthReport::of(vec![check]), is_draining, Duration::from_secs(10))
    }

    #[test]
    fn down_silent_and_draining_are_unready_and_say_why() {
        let unready = |why: &str| Readiness::Unready(why.to_owned());
        assert!(judged(Finding::up(), 10, false).is_ready());
        assert!(judged(Finding::degraded("slow"), 0, false).is_ready());
        assert_eq!(judged(Finding::down("full"), 0, false), unready("events: full"));
        assert_eq!(judged(Finding::up(), 11, false), unready("events: no word for 11000 ms"));
        assert_eq!(judged(Finding::up(), 0, true), unready("draining"));
    }
}
