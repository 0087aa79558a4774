//! A second attempt beside one that is slow.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use infra_core::{Clock, Error, Result, context::Context};

use crate::{
    call::{Call, Idempotent},
    fate,
    latency::Latency,
    pipeline::Policy,
    purse::{RetryBudget, afford},
    telemetry::{HEDGES, Hedged},
};

/// Begins a second attempt when the first takes longer than most of late, and takes the answer that
/// is there first; the other attempt is dropped.
///
/// The delay is a quantile of the latencies that it sees itself, between two bounds; a slow attempt that
/// is dropped counts with the time it had taken, so about as many calls are hedged as the quantile says. Until
/// 16 latencies are known the upper bound holds. No second attempt is begun with less time left until the
/// deadline than half of the attempts needed of late. The extra attempt is taken from the context's
/// [`CallBudget`](infra_core::budget::CallBudget) and from the shared [`RetryBudget`]; without
/// either one left, the first attempt just goes on. An attempt that fails while the other runs
/// does not end the call. If both fail, the error is that of the one of unknown fate
/// ([`Indeterminate`](infra_core::ErrorKind::Indeterminate)), else that of the last one that was begun: neither
/// attempt knows of the other, so whatever one was answered, the other may have happened.
///
/// After Dean and Barroso, "The Tail at Scale", 2013.
///
/// ```
/// use std::time::Duration;
/// use infra_core::SystemClock;
/// use infra_resilience::{Hedge, Policy as _, idempotent};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bounds = Duration::from_millis(5)..=Duration::from_millis(500);
/// let hedge = Hedge::new(0.95, bounds, SystemClock::shared());
/// assert_eq!(hedge.run("ask", idempotent(|| async { Ok(7) })).await.unwrap(), 7);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Hedge {
    quantile: f64,
    bounds: (Duration, Duration),
    latency: Latency,
    clock: Arc<dyn Clock>,
    budget: Option<(RetryBudget, bool)>,
}

impl Hedge {
    /// Creates a hedge that waits for this quantile of the latencies, within bounds.
    pub fn new(
        quantile: f64,
        bounds: std::ops::RangeInclusive<Duration>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let bounds = bounds.into_inner();
        Self { quantile, bounds, latency: Latency::default(), clock, budget: None }
    }

    /// Uses a histogram that others read or write too; one of its own by default.
    #[must_use]
    pub fn latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// Takes extra attempts from a budget that all callers share, and pays each call in.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some((budget, true));
        self
    }

    /// Takes extra attempts from a budget into which a retry around this hedge pays.
    #[must_use]
    pub fn budget_of_retry(mut self, budget: RetryBudget) -> Self {
        self.budget = Some((budget, false));
        self
    }

    /// Returns how long the first attempt is waited for now.
    pub fn delay(&self) -> Duration {
        let (least, most) = self.bounds;
        self.latency.quantile(self.quantile).unwrap_or(most).min(most).max(least)
    }

    fn may_begin(&self) -> bool {
        self.can_end_in_time() && afford(self.budget.as_ref().map(|(budget, _)| budget))
    }

    /// Returns whether the deadline leaves as much time as half of the attempts needed of late.
    fn can_end_in_time(&self) -> bool {
        let takes = self.latency.quantile(0.5).unwrap_or_default();
        let deadline = Context::current().deadline_of();
        deadline.is_none_or(|deadline| takes < deadline.left(self.clock.now()))
    }

    async fn timed<T, C: Call<Safety = Idempotent, Output = T>>(&self, call: &C) -> Result<T> {
        let begun = self.clock.now();
        let result = call.attempt().await;
        if result.is_ok() {
            self.latency.record(self.clock.now().since(begun));
        }
        result
    }
}

impl<T: Send> Policy<Idempotent, T> for Hedge {
    /// Runs a call, twice if it is slow.
    ///
    /// # Errors
    ///
    /// The call's own; of two attempts that fail, that of the one of unknown fate, else that of the last one
    /// that was begun.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops both attempts.
    async fn run<C: Call<Safety = Idempotent, Output = T>>(
        &self,
        _: &'static str,
        call: C,
    ) -> Result<T> {
        if let Some((budget, true)) = &self.budget {
            budget.deposit();
        }
        let (mut first, delay) = (pin!(self.timed(&call)), self.delay());
        match tokio::time::timeout(delay, &mut first).await {
            Ok(result) => return result,
            Err(_) if !self.may_begin() => return first.await,
            Err(_) => HEDGES.add_for(Hedged::Begun, 1),
        }
        let begun = self.clock.now();
        let second = pin!(self.timed(&call));
        let (result, is_second) = race(first, second).await;
        if is_second && result.is_ok() {
            HEDGES.add_for(Hedged::Won, 1);
            // The first would have taken longer: left out, the slow would be forgotten and the delay sink.
            self.latency.record(delay + self.clock.now().since(begun));
        }
        result
    }
}

/// Returns the first success, or what is known after two failures; and whether it is the second's.
async fn race<T>(
    mut first: Pin<&mut impl Future<Output = Result<T>>>,
    mut second: Pin<&mut impl Future<Output = Result<T>>>,
) -> (Result<T>, bool) {
    let (mut first_ended, mut second_ended, mut failure) = (false, false, None);
    poll_fn(|cx| {
        if !first_ended && let Poll::Ready(result) = first.as_mut().poll(cx) {
            first_ended = true;
            if let Some(end) = end(result, &mut failure) {
                return Poll::Ready((end, false));
            }
        }
        if !second_ended && let Poll::Ready(result) = second.as_mut().poll(cx) {
            second_ended = true;
            if let Some(end) = end(result, &mut failure) {
                return Poll::Ready((end, true));
            }
        }
        Poll::Pending
    })
    .await
}

/// Returns how the call ends with an attempt; `None` if the other attempt may still succeed.
fn end<T>(result: Result<T>, failure: &mut Option<Error>) -> Option<Result<T>> {
    match (result, failure.take()) {
        (Ok(value), _) => Some(Ok(value)),
        (Err(later), Some(earlier)) => Some(Err(fate::of_both(earlier, later))),
        (Err(error), None) => {
            *failure = Some(error);
            None
        }
    }
}
