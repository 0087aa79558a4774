//! Where limits are counted: in this process, or in a Redis that all servers share.

use std::sync::Arc;
#[cfg(feature = "redis")]
use std::time::Duration;

use infra_core::{Clock, Result, health::HealthCheck, limit::RateLimiter};
use infra_ratelimit::{Limit, Limiter};

use crate::config;

/// How long the places of connections stay taken in Redis after a server was killed: what its players had
/// would be missing when they come back all at once, to who shares an address with many most of all.
#[cfg(feature = "redis")]
const LEASE: Duration = Duration::from_secs(15);

/// A limiter to which everything is declared, and what is to be watched of it.
pub(super) struct Counting {
    pub(super) limiter: Arc<dyn RateLimiter>,
    pub(super) health: Option<Arc<dyn HealthCheck>>,
}

impl Counting {
    /// Declares limits where the settings say that they are counted.
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_async, reason = "a limiter elsewhere is waited for")
    )]
    pub(super) async fn of(
        declared: Vec<(&'static str, Limit)>,
        #[cfg_attr(
            not(feature = "redis"),
            expect(unused_variables, reason = "they name no store that is not built in")
        )]
        limits: &config::Limits,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        #[cfg(feature = "redis")]
        if let config::Backend::Redis(url) = &limits.limiter {
            return in_redis(declared, url, limits.nodes, clock).await;
        }
        let local = Limiter::new(Arc::clone(clock));
        let local =
            declared.into_iter().fold(local, |local, (name, limit)| local.limit(name, limit));
        Ok(Self { limiter: Arc::new(local), health: None })
    }
}

/// Counts in Redis; servers that are to count apart take a database of their own each.
#[cfg(feature = "redis")]
async fn in_redis(
    declared: Vec<(&'static str, Limit)>,
    url: &config::ServerUrl,
    nodes: std::num::NonZeroU32,
    clock: &Arc<dyn Clock>,
) -> Result<Counting> {
    let options = infra_ratelimit::redis::Options::new(url.whole(), "game-server");
    let options = options.nodes(nodes).lease(LEASE);
    let mut shared =
        infra_ratelimit::redis::RedisLimiter::connect(options, Arc::clone(clock)).await?;
    for (name, limit) in declared {
        shared = shared.limit(name, limit)?;
    }
    if shared.is_lost() {
        tracing::warn!(limiter = %url, "limiter not reached: this server enforces its share");
    } else {
        tracing::info!(limiter = %url, "limiter connected");
    }
    let shared = Arc::new(shared);
    Ok(Counting { limiter: Arc::clone(&shared) as _, health: Some(shared) })
}
