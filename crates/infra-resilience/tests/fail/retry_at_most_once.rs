//! A retry of a call that must not be made twice.
use infra_core::SystemClock;
use infra_resilience::{Policy as _, Retry, at_most_once};

async fn charge() {
    let retry = Retry::standard(SystemClock::shared());
    let _ = retry.run("charge", at_most_once(|| async { Ok(()) })).await;
}

fn main() {
    drop(charge());
}
