//! Checks of what a service stands on: disk, memory, processor, loop, servers, stores.

mod host;
mod net;
mod port;
mod runtime;

pub use host::{Cpu, Disk, Memory, Space};
pub use net::{Http, Tcp};
pub use port::{Bus, CacheTier, Documents, Events};
pub use runtime::LoopLag;

use infra_core::health::{Finding, HealthCheck};

/// A check made of a function.
///
/// ```
/// use infra_core::health::{Finding, HealthCheck, Status};
/// use infra_observability::health::check::from_fn;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let check = from_fn("mailboxes", async || Finding::degraded("two are full"));
/// assert_eq!(check.check().await.status, Status::Degraded);
/// # });
/// ```
pub fn from_fn<F, R>(name: &'static str, look: F) -> impl HealthCheck
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Finding> + Send + 'static,
{
    FromFn { name, look }
}

struct FromFn<F> {
    name: &'static str,
    look: F,
}

impl<F> std::fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FromFn").field(&self.name).finish()
    }
}

#[async_trait::async_trait]
impl<F, R> HealthCheck for FromFn<F>
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Finding> + Send + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    async fn check(&self) -> Finding {
        (self.look)().await
    }
}
