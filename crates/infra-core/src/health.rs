//! Health: what a part of the service says of itself, and how old that word is.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use serde::{Serialize, Serializer};

/// How well something works. The order is from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It works.
    Up,
    /// It works, but not as it should.
    Degraded,
    /// It does not work.
    Down,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How well it works.
    pub status: Status,
    /// Why, in words for an operator; empty if it works.
    pub detail: String,
}

impl Finding {
    /// Creates the finding that all is well.
    pub const fn up() -> Self {
        Self { status: Status::Up, detail: String::new() }
    }

    /// Creates the finding that it works, but not as it should.
    pub fn degraded(detail: impl Into<String>) -> Self {
        Self { status: Status::Degraded, detail: detail.into() }
    }

    /// Creates the finding that it does not work.
    pub fn down(detail: impl Into<String>) -> Self {
        Self { status: Status::Down, detail: detail.into() }
    }
}

/// What is known of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The check's name.
    pub name: String,
    /// What it found.
    #[serde(flatten)]
    pub finding: Finding,
    /// How long ago it was found; written in milliseconds, as `age_ms`.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
    /// How long the check took; written in milliseconds, as `duration_ms`.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
    /// How many failures there were in a row, now.
    pub failures: u32,
    /// The last changes of its status, newest first.
    pub changes: Vec<Change>,
}

/// A change of a check's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it changed to.
    #[serde(flatten)]
    pub finding: Finding,
    /// How long ago; written in milliseconds, as `age_ms`.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
}

/// What is known of everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// The worst status of all checks; up if there is none.
    pub status: Status,
    /// Each check.
    pub checks: Vec<CheckReport>,
}

impl HealthReport {
    /// Creates the report of these checks.
    pub fn of(checks: Vec<CheckReport>) -> Self {
        let worst = checks.iter().map(|check| check.finding.status).max();
        Self { status: worst.unwrap_or(Status::Up), checks }
    }
}

/// Writes a time as milliseconds.
fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64() * 1_000.0)
}

/// Looks at one part of the service.
///
/// # Contract
///
/// 1. **Says why:** a finding that is not `Up` has a detail.
/// 2. **Harmless:** a check changes nothing that users can see, and may run at any time.
/// 3. **Cancel safe:** its future may be dropped after any time-out.
///
/// ```
/// use infra_core::health::{CheckReport, Finding, HealthReport, Status};
///
/// let disk = CheckReport {
///     name: "disk".to_owned(),
///     finding: Finding::degraded("4 % free"),
///     age: Default::default(),
///     duration: Default::default(),
///     failures: 0,
///     changes: Vec::new(),
/// };
/// assert_eq!(HealthReport::of(vec![disk]).status, Status::Degraded);
/// ```
#[async_trait]
pub trait HealthCheck: Send + Sync + Debug {
    /// Returns the check's name, such as `events`.
    fn name(&self) -> &'static str;

    /// Looks.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn check(&self) -> Finding;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_as_bad_as_its_worst_check() {
        let check = |finding| CheckReport {
            name: "disk".to_owned(),
            finding,
            age: Duration::ZERO,
            duration: Duration::ZERO,
            failures: 0,
            changes: Vec::new(),
        };
        let checks = [Finding::up(), Finding::degraded("4 % free"), Finding::down("gone")];
        let reports = (0..=3).map(|count| {
            HealthReport::of(checks.iter().take(count).cloned().map(check).collect()).status
        });
        let worst = [Status::Up, Status::Up, Status::Degraded, Status::Down];
        assert_eq!(reports.collect::<Vec<_>>(), worst);
    }
}
