//! The health of a queue.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    health::{Finding, HealthCheck},
    queue::Queue,
};

/// Watches a queue: how much waits, since when, and how many dead letters there are.
#[derive(Debug)]
pub struct QueueHealth {
    queue: Arc<dyn Queue>,
    name: &'static str,
    max_depth: u64,
    max_age: Duration,
    max_dead: u64,
}

impl QueueHealth {
    /// Creates a check of a name that finds a queue degraded above 10,000 waiting messages, when one has
    /// waited for a minute, or when there is a dead letter.
    pub const fn new(name: &'static str, queue: Arc<dyn Queue>) -> Self {
        let max_age = Duration::from_mins(1);
        Self { queue, name, max_depth: 10_000, max_age, max_dead: 0 }
    }

    /// Sets how many messages may wait.
    #[must_use]
    pub const fn max_depth(mut self, messages: u64) -> Self {
        self.max_depth = messages;
        self
    }

    /// Sets for how long a message may wait.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Sets how many dead letters there may be.
    #[must_use]
    pub const fn max_dead(mut self, letters: u64) -> Self {
        self.max_dead = letters;
        self
    }
}

#[async_trait]
impl HealthCheck for QueueHealth {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn check(&self) -> Finding {
        let stats = match self.queue.stats().await {
            Ok(stats) => stats,
            Err(error) => return Finding::down(error.to_string()),
        };
        let mut complaints = Vec::new();
        if self.max_depth < stats.ready {
            complaints.push(format!("{} messages wait", stats.ready));
        }
        if self.max_age < stats.oldest {
            complaints.push(format!("one has waited for {:?}", stats.oldest));
        }
        if self.max_dead < stats.dead {
            complaints.push(format!("{} dead letters", stats.dead));
        }
        if complaints.is_empty() { Finding::up() } else { Finding::degraded(complaints.join(", ")) }
    }
}
