//! A bound on the time of a call.

use std::{collections::HashMap, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use infra_core::{Clock, Error, ErrorKind, Result, budget::Deadline, context::Context};

use crate::{
    call::{Call, Safety},
    pipeline::Policy,
    refused::{Reason, Refused},
    telemetry::TIMEOUTS,
};

/// Gives a call up after a time, or at the deadline of the current context if that is earlier.
///
/// The call runs in a context whose deadline is the earlier of the two, so what it calls in turn
/// knows how much time is left. Operations can have times of their own.
///
/// ```
/// use std::time::Duration;
/// use infra_core::{ErrorKind, Result, SystemClock};
/// use infra_resilience::{Policy as _, Timeout, idempotent};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
/// # .block_on(async {
/// let timeout = Timeout::new(Duration::from_secs(30), SystemClock::shared())
///     .operation("load room", Duration::from_millis(200));
/// let never = idempotent(|| std::future::pending::<Result<()>>());
/// let error = timeout.run("load room", never).await.unwrap_err();
/// assert_eq!(*error.kind(), ErrorKind::Timeout);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Timeout {
    patience: Duration,
    clock: Arc<dyn Clock>,
    is_write: bool,
    operations: Option<Arc<HashMap<&'static str, Duration>>>,
}

impl Timeout {
    /// Creates a timeout that is the same for all operations.
    pub fn new(patience: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { patience, clock, is_write: false, operations: None }
    }

    /// Sets the time of one operation; the others keep that of [`Self::new`].
    #[must_use]
    pub fn operation(mut self, operation: &'static str, patience: Duration) -> Self {
        Arc::make_mut(self.operations.get_or_insert_default()).insert(operation, patience);
        self
    }

    /// Says that also idempotent calls are writes: one that is given up may have happened, and is
    /// [`ErrorKind::Indeterminate`].
    #[must_use]
    pub const fn of_writes(mut self) -> Self {
        self.is_write = true;
        self
    }

    #[inline]
    fn patience(&self, operation: &str) -> Duration {
        let own = self.operations.as_ref().and_then(|operations| operations.get(operation));
        own.copied().unwrap_or(self.patience)
    }

    #[cold]
    fn given_up<S: Safety>(&self, operation: &'static str, left: Duration) -> Error {
        TIMEOUTS.add(1);
        let error = |kind| Error::new(kind, operation).detail(format!("given up after {left:?}"));
        match (S::MAY_REPEAT, self.is_write) {
            (true, false) => error(ErrorKind::Timeout),
            (true, true) => error(ErrorKind::Indeterminate).idempotent(),
            (false, _) => error(ErrorKind::Indeterminate),
        }
    }
}

impl<S: Safety, T: Send> Policy<S, T> for Timeout {
    /// Runs a call; a deadline that has passed already means that it is not begun.
    ///
    /// # Errors
    ///
    /// The call's own; [`ErrorKind::Timeout`] if it was not begun (its source is a [`Refused`] then,
    /// so that no breaker takes it for a failure of the service), or is idempotent and not finished in
    /// time; [`ErrorKind::Indeterminate`] of one that may not be repeated.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call, as the deadline does.
    async fn run<C: Call<Safety = S, Output = T>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> Result<T> {
        let (now, patience) = (self.clock.now(), self.patience(operation));
        let context = Context::current().deadline(Deadline::after(now, patience));
        let left = context.deadline_of().map_or(patience, |deadline| deadline.left(now));
        if left.is_zero() {
            TIMEOUTS.add(1);
            return Err(Refused::error(Reason::DeadlinePassed, None, operation));
        }
        let mut running = pin!(context.scope(call.attempt()));
        // What is ready at once needs no timer.
        let first = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await;
        if let Poll::Ready(result) = first {
            return result;
        }
        match tokio::time::timeout(left, running).await {
            Ok(result) => result,
            Err(_) => Err(self.given_up::<S>(operation, left)),
        }
    }
}
