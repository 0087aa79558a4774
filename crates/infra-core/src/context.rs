//! What travels with a piece of work: deadline, budget, correlation and trace.
//!
//! Ports never take a context. The edge scopes one around a future; engines read
//! `Context::current` where they write stored or wire metadata; a spawned task carries the
//! context of the task that spawned it if it is spawned through `Context::carry`.

use crate::{
    baggage::Baggage,
    budget::{CallBudget, Deadline},
    id::CorrelationId,
    trace::{TraceContext, TraceState},
};

/// The context of a piece of work. Everything in it is optional; the default is empty.
///
/// ```
/// # #[cfg(feature = "tokio")] {
/// use infra_core::{clock::Timestamp, context::Context, id::CorrelationId, random::Random};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let id = CorrelationId::generate(Timestamp::EPOCH, &Random::seeded(1));
/// let seen = Context::default().correlation(id).scope(async { Context::current() }).await;
/// assert_eq!(seen.correlation_id(), Some(id));
/// # }); }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Context {
    deadline: Option<Deadline>,
    budget: Option<CallBudget>,
    correlation: Option<CorrelationId>,
    trace: Option<TraceContext>,
    state: TraceState,
    baggage: Baggage,
}

#[cfg(feature = "tokio")]
tokio::task_local! {
    static CURRENT: Context;
}

impl Context {
    /// Sets the deadline; a deadline that is there already only shrinks.
    #[must_use]
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |outer| outer.tightened(deadline)));
        self
    }

    /// Sets the budget of extra attempts.
    #[must_use]
    pub fn budget(mut self, budget: CallBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets the correlation id.
    #[must_use]
    pub const fn correlation(mut self, correlation: CorrelationId) -> Self {
        self.correlation = Some(correlation);
        self
    }

    /// Sets the trace context.
    #[must_use]
    pub const fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Sets what other systems keep in the trace's `tracestate`.
    #[must_use]
    pub fn trace_state(mut self, state: TraceState) -> Self {
        self.state = state;
        self
    }

    /// Sets the baggage.
    #[must_use]
    pub fn baggage(mut self, baggage: Baggage) -> Self {
        self.baggage = baggage;
        self
    }

    /// Returns the deadline.
    pub const fn deadline_of(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Returns the budget of extra attempts.
    pub const fn budget_of(&self) -> Option<&CallBudget> {
        self.budget.as_ref()
    }

    /// Returns the correlation id.
    pub const fn correlation_id(&self) -> Option<CorrelationId> {
        self.correlation
    }

    /// Returns the trace context.
    pub const fn trace_context(&self) -> Option<TraceContext> {
        self.trace
    }

    /// Returns what other systems keep in the trace's `tracestate`.
    pub const fn trace_state_of(&self) -> &TraceState {
        &self.state
    }

    /// Returns the baggage.
    pub const fn baggage_of(&self) -> &Baggage {
        &self.baggage
    }
}

#[cfg(feature = "tokio")]
impl Context {
    /// Returns the context of the running task; an empty one outside of any scope.
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// Returns the trace of the running task; cheaper than [`Context::current`].
    pub fn current_trace() -> Option<TraceContext> {
        CURRENT.try_with(|context| context.trace).unwrap_or_default()
    }

    /// Runs `future` with this context as the current one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `future`, nothing else.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// Runs `work` with this context as the current one.
    pub fn sync_scope<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    /// Wraps `future` so that it keeps the current context wherever it is spawned.
    pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Self::current(), future)
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::{Instant, Timestamp},
        random::Random,
    };

    fn sample() -> Context {
        let random = Random::seeded(4);
        Context::default()
            .correlation(CorrelationId::generate(Timestamp::EPOCH, &random))
            .trace(TraceContext::root(&random, true))
            .budget(CallBudget::new(2))
    }

    #[tokio::test]
    async fn a_spawned_task_carries_the_context_only_if_asked() {
        let context = sample();
        let id = context.correlation_id();
        let (carried, bare) = context
            .scope(async {
                let carried = tokio::spawn(Context::carry(async { Context::current() }));
                let bare = tokio::spawn(async { Context::current() });
                (carried.await.unwrap(), bare.await.unwrap())
            })
            .await;
        assert_eq!(carried.correlation_id(), id);
        assert!(carried.trace_context().is_some());
        assert_eq!(carried.budget_of().map(CallBudget::left), Some(2));
        assert_eq!(bare.correlation_id(), None);
    }

    #[tokio::test]
    async fn an_inner_deadline_cannot_outlast_the_outer_one() {
        let after = |millis| Deadline::after(Instant::START, Duration::from_millis(millis));
        let outer = Context::default().deadline(after(10));
        let seen =
            outer.scope(async { Context::current().deadline(after(50)).deadline_of() }).await;
        assert_eq!(seen, Some(after(10)));
    }

    #[test]
    fn outside_of_any_scope_the_context_is_empty() {
        assert_eq!(Context::current().correlation_id(), None);
    }
}
