//! The contract of the rate limiter port over the local limiter.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod support;

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use infra_core::{SystemClock, limit::RateLimiter};
use infra_ratelimit::Limiter;

fn local() -> Ready<Arc<dyn RateLimiter>> {
    let limiter = Limiter::new(SystemClock::shared());
    ready(Arc::new(
        support::of_the_contract()
            .into_iter()
            .fold(limiter, |limiter, (name, limit)| limiter.limit(name, limit)),
    ))
}

mod local_keeps {
    infra_testkit::rate_limiter_contract!(super::local());
}
