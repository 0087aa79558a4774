//! What travels with a piece of work: deadline, budget, correlation and trace.
//!
//! Ports never take a context. The edge scopes one around a future; engines read
//! `Context::current` where they write stored or wire metadata; a spawned task carries the
//! context of the task that spawned it if it is spawned through `Context::carry`.

use std::{collections::BTreeMap, str::FromStr};

use crate::{
    baggage::Baggage,
    budget::{CallBudget, Deadline},
    id::CorrelationId,
    trace::{TraceContext, TraceState},
};

/// What the W3C calls other systems' part of a trace.
const STATE: &str = "tracestate";

/// What travels along, whether there is a trace or not.
const BAGGAGE: &str = "baggage";

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

    /// Returns what the W3C keeps beside the ids of a trace, as headers: `tracestate` and `baggage`,
    /// each if there is one. A state goes with its trace alone.
    ///
    /// Whatever carries a context, a request, a message or a stored event, has places of its own for
    /// the ids, and these headers under these names.
    ///
    /// ```
    /// use infra_core::{baggage::Baggage, context::Context};
    ///
    /// let context = Context::default().baggage(Baggage::default().with("season", "3")?);
    /// let headers = context.headers();
    /// assert_eq!(headers["baggage"], "season=3");
    /// let back = Context::default().with_headers(|name| headers.get(name));
    /// assert_eq!(back.baggage_of(), context.baggage_of());
    /// # Ok::<(), infra_core::Error>(())
    /// ```
    pub fn headers(&self) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::new();
        if self.trace.is_some() && !self.state.as_str().is_empty() {
            headers.insert(STATE.to_owned(), self.state.as_str().to_owned());
        }
        if !self.baggage.is_empty() {
            headers.insert(BAGGAGE.to_owned(), self.baggage.to_string());
        }
        headers
    }

    /// Returns this context, whose trace is set, with what `header` has under the names of
    /// [`headers`](Context::headers). What is malformed, or beyond the W3C's limits, is as if it
    /// were not there.
    #[must_use]
    pub fn with_headers<T: AsRef<str>>(mut self, header: impl Fn(&str) -> Option<T>) -> Self {
        if self.trace.is_some() {
            self.state = read(header(STATE));
        }
        self.baggage = read(header(BAGGAGE));
        self
    }
}

fn read<T: FromStr + Default>(header: Option<impl AsRef<str>>) -> T {
    header.and_then(|text| text.as_ref().parse().ok()).unwrap_or_default()
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
    fn headers_beyond_the_limits_of_the_w3c_are_as_if_they_were_not_there() {
        let read = |state: &str, baggage: &str| {
            let header = |name: &str| Some(if name == "tracestate" { state } else { baggage });
            let context = sample().with_headers(header);
            let state = context.trace_state_of().as_str().len();
            (state, context.baggage_of().iter().count())
        };
        let members = |count| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        let value = |length| format!("k={}", "v".repeat(length));
        for (state, baggage, wanted) in [
            (members(32), members(64), (members(32).len(), 64)),
            (members(33), members(65), (0, 0)),
            (value(256), value(8_190), (258, 1)),
            (value(257), value(8_191), (0, 0)),
            (" k=v\t".to_owned(), "\tk=v ".to_owned(), (3, 1)),
            ("k=v,k=w".to_owned(), "k v".to_owned(), (0, 0)),
        ] {
            assert_eq!(read(&state, &baggage), wanted);
        }
        let untraced = Context::default().with_headers(|_| Some("k=v"));
        assert_eq!((untraced.trace_state_of().as_str(), untraced.headers().len()), ("", 1));
        assert!(sample().headers().is_empty());
    }

    #[test]
    fn outside_of_any_scope_the_context_is_empty() {
        assert_eq!(Context::current().correlation_id(), None);
    }
}
