//! Another attempt after a failure that may pass.

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, Error, Result, backoff::Backoff, context::Context, random::Random};

use crate::telemetry::{GIVEN_UP, GaveUp, RETRIES};

/// Tries a call again after transient failures, with pauses that grow and scatter.
///
/// What is not [`Error::is_transient`] is never tried again: a refusal would be the same, and a write
/// whose fate is unknown could happen twice. A failure that names a time to wait
/// ([`Error::retry_after`]) is waited for at least as long. No pause is begun that would end after
/// the deadline of the current context, and each extra attempt is taken from that context's
/// [`CallBudget`](infra_core::budget::CallBudget), if it has one.
#[derive(Debug, Clone)]
pub struct Retry {
    attempts: u32,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

impl Retry {
    /// Creates a retry of at most `attempts` attempts in all, the first one included.
    pub fn new(attempts: u32, backoff: Backoff, clock: Arc<dyn Clock>) -> Self {
        Self { attempts, backoff, clock, random: Arc::new(Random::from_system()) }
    }

    /// Sets where the scatter of the pauses comes from; the operating system by default.
    #[must_use]
    pub fn random(mut self, random: Arc<Random>) -> Self {
        self.random = random;
        self
    }

    /// Runs a call until it succeeds, fails for good, or a bound is met.
    ///
    /// # Errors
    ///
    /// That of the last attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the attempt that is running, or ends the pause.
    pub async fn run<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempt = 1;
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) if !error.is_transient() => return Err(error),
                Err(error) => error,
            };
            let pause = match self.pause(attempt, &error) {
                Ok(pause) => pause,
                Err(reason) => {
                    GIVEN_UP.add_for(reason, 1);
                    return Err(error);
                }
            };
            RETRIES.add(1);
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// Decides how long to wait before the next attempt, or why there is none.
    fn pause(&self, attempt: u32, error: &Error) -> std::result::Result<Duration, GaveUp> {
        if self.attempts <= attempt {
            return Err(GaveUp::Attempts);
        }
        let pause = self.backoff.jittered(attempt, &self.random);
        let pause = pause.max(error.retry_after().unwrap_or_default());
        let context = Context::current();
        let is_too_late =
            |deadline: infra_core::budget::Deadline| deadline.left(self.clock.now()) <= pause;
        if context.deadline_of().is_some_and(is_too_late) {
            return Err(GaveUp::Deadline);
        }
        if context.budget_of().is_some_and(|budget| !budget.take()) {
            return Err(GaveUp::Budget);
        }
        Ok(pause)
    }
}
