//! Closes what is old or idle, and opens what the minimum asks for.

use std::time::Duration;

use deadpool::managed::Timeouts;
use infra_core::{Result, lifecycle::Stop};

use super::{Connect, Pool};
use crate::telemetry::{POOL, Pooled};

impl<C: Connect> Pool<C> {
    /// Closes idle connections that are too old, or idle for too long and above the minimum; then
    /// opens what is missing of the minimum.
    ///
    /// # Errors
    ///
    /// That of [`Connect::connect`]; the pool goes on with what it has.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes a connection that was being opened; nothing else is lost.
    pub async fn reap(&self) -> Result<()> {
        self.close_old();
        self.fill().await
    }

    /// Reaps again and again, until it is asked to stop.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it.
    pub async fn run(self, every: Duration, stop: Stop) {
        loop {
            // A service that is away is tried again the next time.
            let _failed = self.reap().await;
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    fn close_old(&self) {
        let (manager, now) = (self.slots.manager(), self.slots.manager().now());
        let mut above = self.slots.status().size.saturating_sub(self.options.min);
        // The longest idle come first: deadpool hands out the last.
        let closed = self.slots.retain(|connection, _| {
            let why = if manager.is_aged(connection, now) {
                Some(Pooled::Aged)
            } else if 0 < above && manager.is_idle_too_long(connection, now) {
                Some(Pooled::Idle)
            } else {
                None
            };
            if let Some(why) = why {
                POOL.add_for(why, 1);
                above = above.saturating_sub(1);
            }
            why.is_none()
        });
        manager.count_closed(closed.removed.len());
    }

    /// Opens connections aside, then moves them into slots. deadpool takes none from outside, but it
    /// asks for one when none is idle: so all idle ones are taken for a moment, without a wait. Those
    /// that are found dead meanwhile are missing of the minimum too.
    async fn fill(&self) -> Result<()> {
        let manager = self.slots.manager();
        let at_once = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };
        let mut taken = Vec::new();
        loop {
            while self.slots.status().size + manager.n_ready() < self.options.min {
                let opened = manager.open().await?;
                manager.put_ready(opened);
            }
            if manager.n_ready() == 0 {
                return Ok(());
            }
            match self.slots.timeout_get(&at_once).await {
                Ok(object) => taken.push(object),
                // All are taken: whoever asks next gets what is ready.
                Err(_) => return Ok(()),
            }
        }
    }
}
