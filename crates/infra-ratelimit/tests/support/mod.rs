//! What the tests of limits share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "each test binary takes what it needs, and a panic is how a test fails"
)]

use std::{
    num::NonZeroU32,
    pin::pin,
    task::{Context, Poll, Waker},
};

use infra_core::{
    Clock,
    limit::{Charge, Decision, RateLimiter, Reservation},
};
use infra_ratelimit::{Limit, Limiter, Quota, Window};
use infra_testkit::{
    clock::ManualClock,
    contract::limit::{Counting, LIMITS, WINDOWS},
};

pub(crate) fn charge(limit: &'static str, key: &str, cost: u32) -> Charge {
    Charge::one(limit, key).cost(NonZeroU32::new(cost).unwrap())
}

/// Runs a future that never waits, as those of a limiter in memory are.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a limiter in memory waits"),
    }
}

pub(crate) fn peek(limiter: &Limiter, charges: &[Charge]) -> Decision {
    run(limiter.peek(charges)).unwrap()
}

pub(crate) fn reserve(limiter: &Limiter, charges: &[Charge]) -> (Decision, Option<Reservation>) {
    run(limiter.reserve(charges)).unwrap()
}

pub(crate) fn nanos(clock: &ManualClock) -> u64 {
    u64::try_from(clock.now().since_start().as_nanos()).unwrap()
}

/// The limits that the contract needs.
pub(crate) fn of_the_contract() -> Vec<(&'static str, Limit)> {
    let buckets = LIMITS
        .into_iter()
        .map(|(name, capacity, each)| (name, Limit::bucket(Quota::new(capacity, each).unwrap())));
    let windows = WINDOWS.into_iter().map(|(name, counting, capacity, length)| {
        let window = Window::new(capacity, length).unwrap();
        let limit = match counting {
            Counting::Log => Limit::log(window),
            Counting::Sliding => Limit::sliding(window),
            Counting::Fixed => Limit::fixed(window),
        };
        (name, limit)
    });
    buckets.chain(windows).collect()
}
