//! How long an operation took, as a line of the log: each time, or only when it was slow.

use std::{fmt::Display, sync::Arc, time::Duration};

use infra_core::{Clock, metric::Counter};

pub(super) const SLOW: Counter = Counter::new(
    "infra_observability_slow_operations_total",
    "Operations that took longer than their threshold.",
);

/// Runs an operation and logs its end once: `NAME completed` with `duration_seconds` and `status`
/// `success`, or `NAME failed` with `status` `error` and the error. The result is passed on.
///
/// # Errors
///
/// That of the operation.
///
/// # Cancel safety
///
/// Dropping the future drops the operation; nothing is logged.
pub async fn timed<T, E: Display>(
    name: &str,
    clock: &dyn Clock,
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let begun = clock.now();
    let result = operation.await;
    let duration_seconds = clock.now().since(begun).as_secs_f64();
    match &result {
        Ok(_) => tracing::info!(duration_seconds, status = "success", "{name} completed"),
        Err(error) => {
            tracing::error!(duration_seconds, status = "error", error = %error, "{name} failed");
        }
    }
    result
}

/// Logs operations that take longer than a threshold.
#[derive(Debug, Clone)]
pub struct Slow {
    threshold: Duration,
    clock: Arc<dyn Clock>,
}

impl Slow {
    /// Creates the log of what takes longer than `threshold`.
    pub fn new(threshold: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { threshold, clock }
    }

    /// Runs an operation, and warns with its duration if it was slow.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the operation; nothing is logged.
    pub async fn watch<T>(&self, name: &str, operation: impl Future<Output = T>) -> T {
        let begun = self.clock.now();
        let output = operation.await;
        let took = self.clock.now().since(begun);
        if self.threshold < took {
            SLOW.add(1);
            let (duration_seconds, threshold_seconds) =
                (took.as_secs_f64(), self.threshold.as_secs_f64());
            tracing::warn!(operation = name, duration_seconds, threshold_seconds, "slow operation");
        }
        output
    }
}
