//! Handlers around handlers; each is a tower service of jobs.

use std::{
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use infra_core::random::Random;
use tower::{Service, ServiceExt as _};

use super::{Failure, Job, Schedule, Step};

/// What a layer's future is.
type Working = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// A handler that layers can be put around.
trait Handles:
    Service<Job, Response = (), Error = Failure, Future: Send> + Clone + Send + 'static
{
}

impl<S> Handles for S where
    S: Service<Job, Response = (), Error = Failure, Future: Send> + Clone + Send + 'static
{
}

/// Ends a handler that takes too long, at its next await.
///
/// A handler that is done in the same instant is done.
#[derive(Debug, Clone)]
pub struct Timeout<S> {
    inner: S,
    patience: Duration,
}

impl<S> Timeout<S> {
    /// Creates a handler that has `patience` for the one within.
    pub const fn new(inner: S, patience: Duration) -> Self {
        Self { inner, patience }
    }
}

/// Tries a handler again at once where it stands, before the message goes back to its queue: for
/// failures that pass in milliseconds.
#[derive(Debug, Clone)]
pub struct Retry<S> {
    inner: S,
    schedule: Schedule,
    random: Arc<Random>,
}

impl<S> Retry<S> {
    /// Creates a handler that tries the one within again after each retryable failure, until the
    /// schedule's pauses are used up.
    pub fn new(inner: S, schedule: Schedule, random: Random) -> Self {
        Self { inner, schedule, random: Arc::new(random) }
    }
}

/// Runs a handler on some messages; all others are done at once.
#[derive(Debug, Clone)]
pub struct Filter<S, F> {
    inner: S,
    admits: F,
}

impl<S, F: Fn(&Job) -> bool> Filter<S, F> {
    /// Creates a handler of what `admits` lets through.
    pub const fn new(inner: S, admits: F) -> Self {
        Self { inner, admits }
    }

    /// Returns whether the handler within is interested in a message.
    pub fn can_handle(&self, job: &Job) -> bool {
        (self.admits)(job)
    }
}

/// Runs one handler, then another; the first failure ends it.
#[derive(Debug, Clone)]
pub struct Chain<A, B> {
    first: A,
    then: B,
}

impl<A, B> Chain<A, B> {
    /// Creates a chain of two handlers; a chain of chains is longer.
    pub const fn new(first: A, then: B) -> Self {
        Self { first, then }
    }
}

/// Runs another handler where the first one failed.
#[derive(Debug, Clone)]
pub struct Fallback<A, B> {
    first: A,
    otherwise: B,
}

impl<A, B> Fallback<A, B> {
    /// Creates a handler whose failures are those of `otherwise`.
    pub const fn new(first: A, otherwise: B) -> Self {
        Self { first, otherwise }
    }
}

/// Implements the service; readiness is awaited in the call.
macro_rules! handle {
    ([$($parameter:ident: $bound:path),*] $type:ty, |$layer:ident, $job:ident| $work:expr) => {
        impl<$($parameter: $bound),*> Service<Job> for $type {
            type Response = ();
            type Error = Failure;
            type Future = Working;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, $job: Job) -> Working {
                let $layer = self.clone();
                Box::pin($work)
            }
        }
    };
}

handle!([S: Handles] Timeout<S>, |layer, job| async move {
    match tokio::time::timeout(layer.patience, layer.inner.oneshot(job)).await {
        Ok(said) => said,
        Err(_) => Err(Failure::Retryable(format!("Timeout after {:?}", layer.patience))),
    }
});

handle!([S: Handles] Retry<S>, |layer, job| async move {
    let mut attempt = NonZeroU32::MIN;
    loop {
        let failure = match layer.inner.clone().oneshot(job.clone()).await {
            Err(failure) if failure.is_retryable() => failure,
            said => return said,
        };
        match layer.schedule.drawn(attempt, &layer.random) {
            Step::Again(pause) => tokio::time::sleep(pause).await,
            Step::GiveUp => return Err(failure),
        }
        attempt = attempt.saturating_add(1);
    }
});

handle!([A: Handles, B: Handles] Chain<A, B>, |layer, job| async move {
    layer.first.oneshot(job.clone()).await?;
    layer.then.oneshot(job).await
});

handle!([A: Handles, B: Handles] Fallback<A, B>, |layer, job| async move {
    match layer.first.oneshot(job.clone()).await {
        Ok(()) => Ok(()),
        Err(_) => layer.otherwise.oneshot(job).await,
    }
});

impl<S, F> Service<Job> for Filter<S, F>
where
    S: Handles,
    F: Fn(&Job) -> bool,
{
    type Response = ();
    type Error = Failure;
    type Future = Working;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Job) -> Working {
        if !self.can_handle(&req) {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(self.inner.clone().oneshot(req))
    }
}
