//! What breakers say of a service's health.

use std::{fmt::Debug, hash::Hash};

use async_trait::async_trait;
use infra_core::health::{Finding, HealthCheck};

use crate::{
    breaker::{Breaker, State},
    registry::Keyed,
};

/// Reports breakers that are not closed: the service is degraded, and it says by which.
///
/// ```
/// use infra_core::{SystemClock, health::{HealthCheck as _, Status}};
/// use infra_resilience::{Breaker, BreakerHealth, Mode};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let breaker = Breaker::new(Default::default(), SystemClock::shared());
/// let health = BreakerHealth::new("upstream").breaker("redis", breaker.clone());
/// assert_eq!(health.check().await.status, Status::Up);
/// breaker.force(Mode::ForcedOpen);
/// assert_eq!(health.check().await.detail, "redis: open");
/// # });
/// ```
#[derive(Debug)]
pub struct BreakerHealth {
    name: &'static str,
    breakers: Vec<(&'static str, Breaker)>,
    keyed: Vec<Box<dyn NotClosed>>,
}

/// How many names are told.
const TOLD: usize = 10;

trait NotClosed: Send + Sync + Debug {
    fn not_closed(&self) -> Vec<(String, State)>;
}

impl<K> NotClosed for Keyed<K, Breaker>
where
    K: Eq + Hash + Clone + ToString + Send + Sync,
{
    fn not_closed(&self) -> Vec<(String, State)> {
        let named = |(key, state): (K, State)| (key.to_string(), state);
        Self::not_closed(self).into_iter().map(named).collect()
    }
}

impl BreakerHealth {
    /// Creates a check of no breaker yet.
    pub const fn new(name: &'static str) -> Self {
        Self { name, breakers: Vec::new(), keyed: Vec::new() }
    }

    /// Adds a breaker by its name.
    #[must_use]
    pub fn breaker(mut self, name: &'static str, breaker: Breaker) -> Self {
        self.breakers.push((name, breaker));
        self
    }

    /// Adds all breakers of a registry, by their keys.
    #[must_use]
    pub fn keyed<K>(mut self, breakers: Keyed<K, Breaker>) -> Self
    where
        K: Eq + Hash + Clone + ToString + Send + Sync + 'static,
    {
        self.keyed.push(Box::new(breakers));
        self
    }
}

#[async_trait]
impl HealthCheck for BreakerHealth {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn check(&self) -> Finding {
        let named =
            self.breakers.iter().map(|(name, breaker)| ((*name).to_owned(), breaker.state()));
        let keyed = self.keyed.iter().flat_map(|keyed| keyed.not_closed());
        let words: Vec<_> = named
            .chain(keyed)
            .filter_map(|(name, state)| match state {
                State::Closed => None,
                State::Open => Some(format!("{name}: open")),
                State::HalfOpen => Some(format!("{name}: half open")),
            })
            .collect();
        if words.is_empty() {
            return Finding::up();
        }
        let more = words.len().saturating_sub(TOLD);
        let told = words.into_iter().take(TOLD).collect::<Vec<_>>().join(", ");
        let rest = if more == 0 { String::new() } else { format!(", and {more} more") };
        Finding::degraded(told + &rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use infra_core::health::Status;
    use infra_testkit::clock::ManualClock;

    use super::*;
    use crate::breaker::{Mode, Options};

    #[tokio::test]
    async fn it_names_what_is_not_closed_up_to_a_bound() {
        let clock: Arc<dyn infra_core::Clock> = Arc::new(ManualClock::new());
        let keyed =
            Keyed::new(100, move |_: &u32| Breaker::new(Options::default(), Arc::clone(&clock)));
        let health = BreakerHealth::new("upstream").keyed(keyed.clone());
        assert_eq!((health.name(), health.check().await), ("upstream", Finding::up()));
        (0..12).for_each(|key| keyed.of(&key).unwrap().force(Mode::ForcedOpen));
        let finding = health.check().await;
        assert_eq!(finding.status, Status::Degraded);
        assert!(finding.detail.starts_with("0: open, 1: open"), "{finding:?}");
        assert!(finding.detail.ends_with("9: open, and 2 more"), "{finding:?}");
    }
}
