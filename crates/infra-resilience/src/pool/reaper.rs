//! Closes what is old or idle, and opens what the minimum asks for.

use std::time::Duration;

use deadpool::managed::Timeouts;
use infra_core::{Result, lifecycle::Stop};

use super::{Connect, Pool};
use crate::telemetry::{POOL, Pooled};

impl<C: Connect> Pool<C> {
    /// Closes idle connections that are too old, or idle for too long and above the minimum; then
    /// opens what is missing of the minimum. A closed pool is left alone.
    ///
    /// # Errors
    ///
    /// That of [`Connect::connect`]; the pool goes on with what it has.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes a connection that was being opened; nothing else is lost.
    pub async fn reap(&self) -> Result<()> {
        if self.slots.is_closed() {
            return Ok(());
        }
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
        let _closed = self.slots.retain(|connection, _| {
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
    }

    /// Opens connections aside, then moves them into slots, until the minimum is there: idle ones that
    /// are found dead meanwhile are missing of it too. Nothing is held while one is opened.
    async fn fill(&self) -> Result<()> {
        let manager = self.slots.manager();
        loop {
            while self.slots.status().size + manager.n_ready() < self.options.min {
                let opened = manager.open().await?;
                manager.put_ready(opened);
            }
            if manager.n_ready() == 0 || !self.place_ready().await {
                return Ok(());
            }
        }
    }

    /// Moves what is ready into slots; false if all are taken, when whoever asks next gets it. deadpool
    /// takes none from outside, but it asks for one when none is idle: so all idle ones are taken for a
    /// moment, without a wait.
    async fn place_ready(&self) -> bool {
        let at_once = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };
        let mut taken = Vec::new();
        while 0 < self.slots.manager().n_ready() {
            match self.slots.timeout_get(&at_once).await {
                Ok(object) => taken.push(object),
                Err(_) => return false,
            }
        }
        true
    }
}
