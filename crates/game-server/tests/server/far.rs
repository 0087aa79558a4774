//! A start whose stores are far away.

use std::sync::Arc;

use infra_core::SystemClock;
use serde_json::json;

use crate::{
    faulty::{Faults, FaultyEvents, Weather},
    support::{options, start, start_on, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_come_back_many_at_a_time_and_no_more_than_that() {
    let host = start().await;
    let mut hosts = Vec::new();
    for number in 0..40 {
        hosts.push(host.host(&format!("p{number}")).await);
    }
    let (folder, faults) = (host.stop().await, Faults::new(1));
    faults.set(Weather::Far);
    let host = start_on(folder, options(), SystemClock::shared(), |mut backends| {
        backends.events = Arc::new(FaultyEvents { store: backends.events, faults: faults.clone() });
        backends
    })
    .await;
    let at_once = faults.most_asked();
    assert!((9..=32).contains(&at_once), "{at_once} at a time");
    faults.set(Weather::Calm);
    let mut watcher = host.player().await;
    watcher.say(&json!({"type": "list_rooms"})).await.unwrap();
    assert_eq!(until(&mut watcher, "rooms").await["total"], 40);
    host.stop().await;
}
