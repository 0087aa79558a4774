//! Policies as tower layers.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
};

use infra_core::{Error, ErrorKind, Result, error::BoxError};
use parking_lot::Mutex;
use tower::{Layer, Service, ServiceExt as _};

use crate::{
    call::{AtMostOnce, Idempotent, at_most_once, idempotent},
    pipeline::Policy,
};

/// Puts a policy, or a whole pipeline, around a tower service.
///
/// A refusal comes from `call`, as the service's error; `poll_ready` never fails, since that would
/// end a buffer around it. An error of the service that is none of ours counts as
/// [`ErrorKind::Unavailable`]. By [`Guard::judge`] a response can count as a failure too (a 503, say):
/// it is retried and opens breakers, and comes back as the response that it is.
///
/// ```
/// use infra_core::{Error, SystemClock};
/// use infra_resilience::{Breaker, layer::Guard};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let breaker = Breaker::new(Default::default(), SystemClock::shared());
/// let layer = Guard::at_most_once("double", breaker);
/// let service = layer.layer(service_fn(|number: u32| async move { Ok::<_, Error>(number * 2) }));
/// assert_eq!(service.oneshot(21).await.unwrap(), 42);
/// # });
/// ```
pub struct Guard<P, T, S = AtMostOnce> {
    policy: P,
    operation: &'static str,
    judge: Judge<T>,
    safety: PhantomData<fn(S)>,
}

type Judge<T> = Arc<dyn Fn(&T) -> Option<ErrorKind> + Send + Sync>;

impl<P, T> Guard<P, T> {
    /// Takes a policy for requests that must not be sent twice.
    pub fn at_most_once(operation: &'static str, policy: P) -> Self {
        Self { policy, operation, judge: Arc::new(|_| None), safety: PhantomData }
    }
}

impl<P, T> Guard<P, T, Idempotent> {
    /// Takes a policy for requests that may be sent twice; they are cloned for each attempt.
    pub fn idempotent(operation: &'static str, policy: P) -> Self {
        Self { policy, operation, judge: Arc::new(|_| None), safety: PhantomData }
    }
}

impl<P, T, S> Guard<P, T, S> {
    /// Sets which responses count as failures, and of what kind; none by default.
    #[must_use]
    pub fn judge(
        mut self,
        judge: impl Fn(&T) -> Option<ErrorKind> + Send + Sync + 'static,
    ) -> Self {
        self.judge = Arc::new(judge);
        self
    }
}

impl<P: Clone, T, S, Inner> Layer<Inner> for Guard<P, T, S> {
    type Service = Guarded<P, T, S, Inner>;

    fn layer(&self, inner: Inner) -> Self::Service {
        Guarded { guard: self.clone(), inner }
    }
}

/// A service with a policy around it; see [`Guard`].
pub struct Guarded<P, T, S, Inner> {
    guard: Guard<P, T, S>,
    inner: Inner,
}

/// What comes of a request.
type Answer<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

impl<P, T, Inner, R> Service<R> for Guarded<P, T, AtMostOnce, Inner>
where
    P: Policy<AtMostOnce, T> + Clone + 'static,
    T: Send + 'static,
    R: Send + 'static,
    Inner: Service<R, Response = T> + Clone + Send + 'static,
    Inner::Future: Send,
    Inner::Error: Into<BoxError>,
{
    type Response = T;
    type Error = Error;
    type Future = Answer<T>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: R) -> Answer<T> {
        let (guard, inner) = (self.guard.clone(), self.inner.clone());
        Box::pin(async move {
            let call = at_most_once(|| guard.attempt(inner, req));
            unpack(guard.policy.run(guard.operation, call).await)
        })
    }
}

impl<P, T, Inner, R> Service<R> for Guarded<P, T, Idempotent, Inner>
where
    P: Policy<Idempotent, T> + Clone + 'static,
    T: Send + 'static,
    R: Clone + Send + 'static,
    Inner: Service<R, Response = T> + Clone + Send + 'static,
    Inner::Future: Send,
    Inner::Error: Into<BoxError>,
{
    type Response = T;
    type Error = Error;
    type Future = Answer<T>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: R) -> Answer<T> {
        let guard = self.guard.clone();
        // A lock around both, since a request need not be `Sync`.
        let original = Mutex::new((self.inner.clone(), req));
        Box::pin(async move {
            let call = idempotent(|| {
                let (inner, request) = original.lock().clone();
                guard.attempt(inner, request)
            });
            unpack(guard.policy.run(guard.operation, call).await)
        })
    }
}

impl<P, T: Send + 'static, S> Guard<P, T, S> {
    async fn attempt<R, Inner>(&self, inner: Inner, request: R) -> Result<T>
    where
        Inner: Service<R, Response = T>,
        Inner::Error: Into<BoxError>,
    {
        let answered = inner.oneshot(request).await;
        let response = answered.map_err(|cause| foreign(cause.into(), self.operation))?;
        match (self.judge)(&response) {
            None => Ok(response),
            Some(kind) => Err(Answered::error(response, kind, self.operation)),
        }
    }
}

/// Returns an error of ours as it is, and wraps any other.
fn foreign(cause: BoxError, operation: &'static str) -> Error {
    match cause.downcast::<Error>() {
        Ok(own) => *own,
        Err(cause) => Error::new(ErrorKind::Unavailable, operation).because(cause),
    }
}

/// A response that counted as a failure, as the source of the error that stands for it: so whichever
/// attempt's error comes back, its own response does.
struct Answered<T>(Mutex<Option<T>>);

impl<T: Send + 'static> Answered<T> {
    fn error(response: T, kind: ErrorKind, operation: &'static str) -> Error {
        let answered = Self(Mutex::new(Some(response)));
        Error::new(kind, operation).detail("by its response").because(answered)
    }
}

/// Returns the response that an error stands for, if it stands for one.
fn unpack<T: Send + 'static>(result: Result<T>) -> Result<T> {
    result.or_else(|error| {
        let source = std::error::Error::source(&error);
        let answered = source.and_then(<dyn std::error::Error>::downcast_ref::<Answered<T>>);
        match answered.and_then(|answered| answered.0.lock().take()) {
            Some(response) => Ok(response),
            None => Err(error),
        }
    })
}

impl<T> fmt::Debug for Answered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answered")
    }
}

impl<T> fmt::Display for Answered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response counts as a failure")
    }
}

impl<T> std::error::Error for Answered<T> {}

impl<P: Clone, T, S> Clone for Guard<P, T, S> {
    fn clone(&self) -> Self {
        Self {
            policy: self.policy.clone(),
            operation: self.operation,
            judge: Arc::clone(&self.judge),
            safety: PhantomData,
        }
    }
}

impl<P: Clone, T, S, Inner: Clone> Clone for Guarded<P, T, S, Inner> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone(), inner: self.inner.clone() }
    }
}

impl<P: fmt::Debug, T, S> fmt::Debug for Guard<P, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("policy", &self.policy)
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

impl<P: fmt::Debug, T, S, Inner> fmt::Debug for Guarded<P, T, S, Inner> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("guard", &self.guard).finish_non_exhaustive()
    }
}
