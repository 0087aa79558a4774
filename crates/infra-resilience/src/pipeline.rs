//! Policies as values, and pipelines of them.

use infra_core::Result;

use crate::call::{Call, Safety};

/// Something that is put around calls: it may refuse them, bound them, make them again.
///
/// A policy implements it for the calls that it can run: a retry for `Policy<Idempotent, T>` alone.
/// Policies are handles: a clone shares the state.
pub trait Policy<S: Safety, T: Send>: Send + Sync {
    /// Runs a call; `operation` stands in errors ("load room").
    ///
    /// # Errors
    ///
    /// The call's own, and a refusal of the policy: see [`Refused`](crate::Refused).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call and gives back what the policy held for it.
    fn run<C: Call<Safety = S, Output = T>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> impl Future<Output = Result<T>> + Send;
}

impl<S: Safety, T: Send, P: Policy<S, T>> Policy<S, T> for &P {
    fn run<C: Call<Safety = S, Output = T>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> impl Future<Output = Result<T>> + Send {
        (**self).run(operation, call)
    }
}

/// The empty pipeline: it makes the call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

impl<S: Safety, T: Send> Policy<S, T> for Direct {
    async fn run<C: Call<Safety = S, Output = T>>(&self, _: &'static str, call: C) -> Result<T> {
        call.attempt().await
    }
}

/// One policy around another.
#[derive(Debug, Clone, Copy)]
pub struct Around<Outer, Inner> {
    outer: Outer,
    inner: Inner,
}

impl<S, T, Outer, Inner> Policy<S, T> for Around<Outer, Inner>
where
    S: Safety,
    T: Send,
    Outer: Policy<S, T>,
    Inner: Policy<S, T>,
{
    fn run<C: Call<Safety = S, Output = T>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> impl Future<Output = Result<T>> + Send {
        self.outer.run(operation, Guarded { policy: &self.inner, operation, call })
    }
}

/// A call with a policy around it, which is a call again.
struct Guarded<'a, P, C> {
    policy: &'a P,
    operation: &'static str,
    call: C,
}

impl<P, C> Call for Guarded<'_, P, C>
where
    C: Call,
    P: Policy<C::Safety, C::Output>,
{
    type Safety = C::Safety;
    type Output = C::Output;

    fn attempt(&self) -> impl Future<Output = Result<C::Output>> + Send {
        self.policy.run(self.operation, &self.call)
    }
}

/// Policies around one another, in the order in which they are written: the first is outermost.
///
/// ```
/// use std::time::Duration;
/// use infra_core::{SystemClock, backoff::Backoff};
/// use infra_resilience::{Breaker, Pipeline, Policy as _, Retry, Timeout, idempotent};
///
/// # async fn load() -> infra_core::Result<u32> { Ok(7) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let clock = SystemClock::shared();
/// let pipeline = Pipeline::new()
///     .then(Retry::new(3, Backoff::exponential(Duration::from_millis(20)), clock.clone()))
///     .then(Breaker::new(Default::default(), clock.clone()))
///     .then(Timeout::new(Duration::from_millis(200), clock));
/// let loaded = pipeline.run("load", idempotent(|| load())).await?;
/// assert_eq!(loaded, 7);
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Pipeline<P = Direct>(P);

impl Pipeline {
    /// Creates a pipeline without policies.
    pub const fn new() -> Self {
        Self(Direct)
    }
}

impl<P> Pipeline<P> {
    /// Puts a policy inside those that are there already, next to the call.
    pub fn then<Inner>(self, inner: Inner) -> Pipeline<Around<P, Inner>> {
        Pipeline(Around { outer: self.0, inner })
    }
}

impl<S: Safety, T: Send, P: Policy<S, T>> Policy<S, T> for Pipeline<P> {
    fn run<C: Call<Safety = S, Output = T>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> impl Future<Output = Result<T>> + Send {
        self.0.run(operation, call)
    }
}
