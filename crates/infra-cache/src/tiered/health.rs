//! Whether the memory of a tiered cache is read.

use async_trait::async_trait;
use infra_core::health::{Finding, HealthCheck};

use super::Tiered;

#[async_trait]
impl<V, C> HealthCheck for Tiered<V, C>
where
    V: Clone + Send + Sync + 'static,
    C: 'static,
{
    fn name(&self) -> &'static str {
        "cache_backplane"
    }

    /// Finds it degraded while nothing is heard over the backplane; the second tier has a check of its own.
    async fn check(&self) -> Finding {
        if self.shared.is_trusted() {
            return Finding::up();
        }
        Finding::degraded("nothing is heard over the backplane, so memory is not read")
    }
}
