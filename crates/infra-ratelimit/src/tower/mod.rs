//! A tower layer for HTTP and gRPC services: one decision before the handler, which runs once or not
//! at all.
//!
//! It knows no framework: what a request is charged is a function of its head, and the body of a
//! refusal is made by [`Problem`] (anything that is made from a string, as axum's body) or [`Grpc`]
//! (anything that can be empty, as tonic's).

mod fields;
mod proxies;
mod refuse;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, request::Parts};
use infra_core::limit::{Charge, RateLimiter, Reservation};
use tower::{Layer, Service};

pub use self::{
    proxies::Proxies,
    refuse::{Grpc, Problem, Refusal, Refuse},
};

/// Whether requests pass when the limiter fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Failure {
    /// They are refused as unavailable.
    #[default]
    Closed,
    /// They pass, unlimited.
    Open,
}

/// Puts a rate limit before a service.
///
/// `charges` says what a request is charged, from its head and what layers before put there; a
/// request without charges passes. A cost must never come from the request itself.
///
/// A permit of a limit on concurrency is held until the response's head is there. What was paid
/// stays paid when a client goes away before.
#[derive(Debug, Clone)]
pub struct RateLimitLayer<C, F = Problem> {
    limiter: Arc<dyn RateLimiter>,
    charges: C,
    refuse: F,
    failure: Failure,
}

impl<C: Fn(&Parts) -> Vec<Charge>> RateLimitLayer<C> {
    /// Creates a layer that answers refusals with 429 and `application/problem+json`.
    pub const fn new(limiter: Arc<dyn RateLimiter>, charges: C) -> Self {
        Self { limiter, charges, refuse: Problem, failure: Failure::Closed }
    }
}

impl<C, F> RateLimitLayer<C, F> {
    /// Sets how a refusal is answered; [`Grpc`] for services of gRPC.
    #[must_use]
    pub fn refuse<G>(self, refuse: G) -> RateLimitLayer<C, G> {
        let Self { limiter, charges, failure, .. } = self;
        RateLimitLayer { limiter, charges, refuse, failure }
    }

    /// Sets whether requests pass when the limiter fails; by default they are refused.
    #[must_use]
    pub const fn failure(mut self, failure: Failure) -> Self {
        self.failure = failure;
        self
    }
}

impl<S, C: Clone, F: Clone> Layer<S> for RateLimitLayer<C, F> {
    type Service = RateLimit<S, C, F>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit { inner, layer: self.clone() }
    }
}

/// A service behind a rate limit; made by [`RateLimitLayer`].
#[derive(Debug, Clone)]
pub struct RateLimit<S, C, F = Problem> {
    inner: S,
    layer: RateLimitLayer<C, F>,
}

/// What was paid stays paid, also when the request is given up; permits come back.
struct Paid(Option<Reservation>);

impl Drop for Paid {
    fn drop(&mut self) {
        if let Some(reservation) = self.0.take() {
            reservation.keep();
        }
    }
}

impl<S, C, F, B, R> Service<Request<B>> for RateLimit<S, C, F>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    C: Fn(&Parts) -> Vec<Charge>,
    F: Refuse<R> + Clone + Send + 'static,
    B: Send + 'static,
    R: Send,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let (parts, body) = req.into_parts();
        let charges = (self.layer.charges)(&parts);
        let request = Request::from_parts(parts, body);
        // The service that is ready serves; a clone of it need not be.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        if charges.is_empty() {
            return Box::pin(inner.call(request));
        }
        let limiter = Arc::clone(&self.layer.limiter);
        let (refuse, failure) = (self.layer.refuse.clone(), self.layer.failure);
        Box::pin(async move {
            let (decision, reservation) = match limiter.reserve(&charges).await {
                Ok(decided) => decided,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "rate limit fails");
                    return match failure {
                        Failure::Open => inner.call(request).await,
                        Failure::Closed => Ok(refuse.refuse(&Refusal::Unavailable)),
                    };
                }
            };
            let paid = Paid(reservation);
            let mut response = if decision.is_admitted() {
                inner.call(request).await?
            } else {
                refuse.refuse(&Refusal::Limited(decision.clone()))
            };
            drop(paid);
            fields::add(response.headers_mut(), &decision);
            Ok(response)
        })
    }
}
