//! A hedge of a call that has its place in an order, within a pipeline.
use std::time::Duration;

use infra_core::SystemClock;
use infra_resilience::{Hedge, Pipeline, Policy as _, ordered};

async fn act() {
    let bounds = Duration::ZERO..=Duration::from_secs(1);
    let pipeline = Pipeline::new().then(Hedge::new(0.9, bounds, SystemClock::shared()));
    let _ = pipeline.run("act", ordered(|| async { Ok(()) })).await;
}

fn main() {
    drop(act());
}
