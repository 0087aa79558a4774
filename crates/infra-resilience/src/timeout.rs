//! A bound on the time of a call.

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, Error, ErrorKind, Result, budget::Deadline, context::Context};

use crate::telemetry::TIMEOUTS;

/// Gives a call up after a time, or at the deadline of the current context if that is earlier.
///
/// The call runs in a context whose deadline is the earlier of the two, so what it calls in turn
/// knows how much time is left.
#[derive(Debug, Clone)]
pub struct Timeout {
    patience: Duration,
    clock: Arc<dyn Clock>,
    is_write: bool,
}

impl Timeout {
    /// Creates a timeout of calls that change nothing: one that is given up is
    /// [`ErrorKind::Timeout`].
    pub fn new(patience: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { patience, clock, is_write: false }
    }

    /// Says that the calls are writes: one that is given up may still have happened, and is
    /// [`ErrorKind::Indeterminate`].
    #[must_use]
    pub const fn of_writes(mut self) -> Self {
        self.is_write = true;
        self
    }

    /// Runs a call; a deadline that has passed already means that it is not begun.
    ///
    /// # Errors
    ///
    /// The call's own; [`ErrorKind::Timeout`] if it was not begun or, of a call that changes
    /// nothing, not finished in time; [`ErrorKind::Indeterminate`] of a write.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call, as the deadline does.
    pub async fn run<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let now = self.clock.now();
        let context = Context::current().deadline(Deadline::after(now, self.patience));
        let left = context.deadline_of().map_or(self.patience, |deadline| deadline.left(now));
        if left.is_zero() {
            TIMEOUTS.add(1);
            return Err(Error::new(ErrorKind::Timeout, operation).detail("not begun"));
        }
        if let Ok(result) = tokio::time::timeout(left, context.scope(call)).await {
            return result;
        }
        TIMEOUTS.add(1);
        let kind = if self.is_write { ErrorKind::Indeterminate } else { ErrorKind::Timeout };
        Err(Error::new(kind, operation).detail(format!("given up after {left:?}")))
    }
}
