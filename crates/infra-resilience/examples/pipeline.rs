//! A pipeline around a service that fails now and then, and then for a while.
//!
//! Run it by `cargo run -p infra-resilience --example pipeline`.

#![allow(clippy::print_stdout, clippy::allow_attributes, reason = "it shows what happens")]

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use infra_core::{
    Error, ErrorKind, Result, SystemClock, backoff::Backoff, budget::CallBudget, context::Context,
};
use infra_resilience::{
    Breaker, Bulkhead, Fallback, Pipeline, Policy as _, Retry, RetryBudget, Timeout, breaker,
    bulkhead, idempotent,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let clock = SystemClock::shared();
    let millis = Duration::from_millis;
    let options = breaker::Options::default()
        .consecutive(const { NonZeroU32::new(4).unwrap() })
        .open_for(Backoff::fixed(millis(300)))
        .listener(|change| println!("  breaker: {:?} -> {:?}", change.from, change.to));
    let retry = Retry::new(3, Backoff::exponential(millis(10)), Arc::clone(&clock))
        .budget(RetryBudget::new(Arc::clone(&clock)));
    let pipeline = Pipeline::new()
        .then(Fallback::new(|_error| async { Ok("an old answer") }))
        .then(Bulkhead::new(bulkhead::Options::new(10), Arc::clone(&clock)))
        .then(retry)
        .then(Breaker::new(options, Arc::clone(&clock)))
        .then(Timeout::new(millis(50), clock));

    let asked = AtomicU32::new(0);
    let service = idempotent(|| async {
        let number = asked.fetch_add(1, Relaxed);
        let is_down = number.is_multiple_of(3) || (10..20).contains(&number);
        if is_down { Err(Error::new(ErrorKind::Unavailable, "ask")) } else { Ok("an answer") }
    });
    for call in 1..=12 {
        let context = Context::default().budget(CallBudget::new(3));
        let answer = context.scope(pipeline.run("ask", &service)).await?;
        println!("call {call}: {answer}, asked {} times so far", asked.load(Relaxed));
        tokio::time::sleep(millis(60)).await;
    }
    Ok(())
}
