//! How the hand-over to the archive fares, for whoever watches the process.

use async_trait::async_trait;
use infra_core::health::{Finding, HealthCheck};

use super::store::Hybrid;
use crate::repository::Entity;

/// Degraded while hand-overs have failed and wait for another try, were given up, or fill the queue;
/// down if the store does not answer. Nothing is lost in either case: the entities are in the store.
#[async_trait]
impl<E: Entity> HealthCheck for Hybrid<E> {
    fn name(&self) -> &'static str {
        "archive"
    }

    async fn check(&self) -> Finding {
        let inner = &self.0;
        let dead = match inner.documents().count(&inner.dead, b"").await {
            Ok(dead) => dead,
            Err(error) => return Finding::down(error.to_string()),
        };
        let (waiting, longest, failed) = {
            let schedule = inner.schedule.lock();
            (schedule.len(), schedule.longest(), schedule.failed())
        };
        judge(dead, (waiting, longest), failed, inner.options.queue)
    }
}

/// `longest` is how many wait of one priority, and `room` how many of one may.
fn judge(dead: u64, (waiting, longest): (usize, usize), failed: usize, room: usize) -> Finding {
    if 0 < dead {
        return Finding::degraded(format!("{dead} hand-overs were given up; see the dead letters"));
    }
    if 0 < failed {
        return Finding::degraded(format!("{failed} of {waiting} hand-overs failed before"));
    }
    if room <= longest {
        return Finding::degraded(format!(
            "{longest} hand-overs of one priority wait, which is all that may"
        ));
    }
    Finding::up()
}

#[cfg(test)]
mod tests {
    use infra_core::health::Status;

    use super::*;

    #[test]
    fn the_worst_is_told_first() {
        let told = |dead, waiting, failed| judge(dead, (waiting, waiting), failed, 10);
        assert_eq!(told(0, 9, 0), Finding::up());
        assert!(told(2, 10, 3).detail.contains("2 hand-overs were given up"));
        assert!(told(0, 10, 3).detail.contains("3 of 10"));
        assert!(told(0, 10, 0).detail.contains("10 hand-overs of one priority wait"));
        assert_eq!(told(0, 10, 0).status, Status::Degraded);
        assert_eq!(judge(0, (12, 9), 0, 10), Finding::up(), "each priority has room of its own");
    }
}
