//! Whether the workers of the runtime come to their tasks in time.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock,
    health::{Finding, HealthCheck},
};

/// How long the look waits.
const PAUSE: Duration = Duration::from_millis(10);

/// How much later than asked a task wakes: above `warn` it is degraded, above `critical` down.
///
/// A worker that is blocked by work that never yields makes everything late.
#[derive(Debug, Clone)]
pub struct LoopLag {
    clock: Arc<dyn Clock>,
    warn: Duration,
    critical: Duration,
}

impl LoopLag {
    /// Watches the runtime that the check runs on.
    pub const fn new(clock: Arc<dyn Clock>, warn: Duration, critical: Duration) -> Self {
        Self { clock, warn, critical }
    }

    fn judge(&self, lag: Duration) -> Finding {
        let detail = format!("tasks wake {} ms late", lag.as_millis());
        if self.critical < lag {
            return Finding::down(detail);
        }
        if self.warn < lag { Finding::degraded(detail) } else { Finding::up() }
    }
}

#[async_trait]
impl HealthCheck for LoopLag {
    fn name(&self) -> &'static str {
        "loop_lag"
    }

    async fn check(&self) -> Finding {
        let begun = self.clock.now();
        tokio::time::sleep(PAUSE).await;
        self.judge(self.clock.now().since(begun).saturating_sub(PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use infra_core::{SystemClock, health::Status};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lag_is_judged_at_its_edges_and_on_a_quiet_runtime_there_is_none() {
        let millis = Duration::from_millis;
        let check = LoopLag::new(SystemClock::shared(), millis(50), millis(200));
        let edges = [(50, Status::Up), (51, Status::Degraded), (200, Status::Degraded)];
        for (lag, wanted) in edges.into_iter().chain([(201, Status::Down)]) {
            assert_eq!(check.judge(millis(lag)).status, wanted, "{lag}");
        }
        assert_eq!(check.check().await, Finding::up());
    }
}
