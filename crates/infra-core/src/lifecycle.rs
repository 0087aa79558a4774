//! The end of a service: every spawned task is owned, told to stop, and joined.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

use crate::context::Context;

/// Tells a task when to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits until the service is asked to stop.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        // An error means that the sender is gone, and with it the service.
        let _ended = receiver.wait_for(|stopped| *stopped).await.is_ok();
    }

    /// Returns whether the service was asked to stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

/// What became of the tasks at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// Tasks that came to their end by themselves.
    pub finished: usize,
    /// Tasks that panicked.
    pub panicked: usize,
    /// Tasks that were aborted because the grace was over.
    pub aborted: usize,
}

/// Owns the tasks of a service. Cheap to clone; the last clone aborts what still runs.
///
/// ```
/// use std::time::Duration;
/// use infra_core::lifecycle::Shutdown;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let shutdown = Shutdown::new();
/// let stop = shutdown.stop();
/// shutdown.spawn(async move { stop.requested().await });
/// let ended = shutdown.close(Duration::from_secs(1)).await;
/// assert_eq!(ended.finished, 1);
/// # });
/// ```
#[derive(Clone)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Shutdown {
    /// Creates the owner of no task yet.
    pub fn new() -> Self {
        Self { sender: Arc::new(watch::channel(false).0), tasks: Arc::default() }
    }

    /// Returns what a task waits on.
    pub fn stop(&self) -> Stop {
        Stop(self.sender.subscribe())
    }

    /// Spawns a task that this value owns; it keeps the current context.
    ///
    /// After the shutdown began the task is not started.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.with_tasks(|tasks| {
            // Those that ended are taken out, so that the set holds only what runs.
            while tasks.try_join_next().is_some() {}
            if !*self.sender.borrow() {
                tasks.spawn(Context::carry(task));
            }
        });
    }

    /// Asks all tasks to stop, without waiting.
    pub fn begin(&self) {
        self.sender.send_replace(true);
    }

    /// Asks all tasks to stop, waits up to `grace`, then aborts what still runs.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the tasks that it waits for.
    pub async fn close(&self, grace: Duration) -> Ended {
        self.begin();
        let mut tasks = self.with_tasks(std::mem::take);
        let mut ended = Ended::default();
        let all = async {
            while let Some(result) = tasks.join_next().await {
                ended.count(&result);
            }
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            tasks.abort_all();
            while let Some(result) = tasks.join_next().await {
                ended.count(&result);
            }
        }
        ended
    }

    fn with_tasks<T>(&self, work: impl FnOnce(&mut JoinSet<()>) -> T) -> T {
        work(&mut self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.with_tasks(|tasks| tasks.len());
        f.debug_struct("Shutdown").field("tasks", &running).finish_non_exhaustive()
    }
}

impl Ended {
    fn count(&mut self, result: &Result<(), JoinError>) {
        match result {
            Ok(()) => self.finished += 1,
            Err(error) if error.is_panic() => self.panicked += 1,
            Err(_) => self.aborted += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_are_joined_counted_and_the_stubborn_ones_aborted() {
        let shutdown = Shutdown::new();
        let stop = shutdown.stop();
        shutdown.spawn(async move { stop.requested().await });
        shutdown.spawn(std::future::pending());
        shutdown.spawn(async { panic!("as planned") });
        let ended = shutdown.close(Duration::from_secs(5)).await;
        assert_eq!(ended, Ended { finished: 1, panicked: 1, aborted: 1 });
    }

    #[tokio::test]
    async fn after_the_shutdown_nothing_is_started() {
        let shutdown = Shutdown::new();
        shutdown.begin();
        shutdown.spawn(async { unreachable!("the service is closing") });
        assert!(shutdown.stop().is_requested());
        assert_eq!(shutdown.close(Duration::ZERO).await, Ended::default());
    }

    #[tokio::test]
    async fn the_set_does_not_grow_with_tasks_that_ended() {
        let shutdown = Shutdown::new();
        for _ in 0..100 {
            shutdown.spawn(async {});
            tokio::task::yield_now().await;
        }
        assert!(shutdown.with_tasks(|tasks| tasks.len()) <= 2, "{shutdown:?}");
    }
}
