//! The contract of the pub/sub port over the memory bus, and over wrong ones.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{future::Ready, sync::Arc};

use bytes::Bytes;
use infra_core::{
    ErrorKind,
    pubsub::{Pattern, PubSub, Subject},
};
use infra_messaging::MemoryPubSub;

fn memory() -> Ready<Arc<dyn PubSub>> {
    std::future::ready(Arc::new(MemoryPubSub::new(100)))
}

mod memory_keeps {
    infra_testkit::pubsub_contract!(super::memory());
}

mod wrong_ones {
    use infra_testkit::contract::pubsub::wrong::Wrong;

    infra_testkit::pubsub_contract!(planted async |bug| Wrong::plant(super::memory().await, bug));
}

#[tokio::test]
async fn a_dropped_subscription_is_forgotten_and_a_closed_bus_takes_nothing_more() {
    let bus = MemoryPubSub::new(10);
    let (all, subject) = (Pattern::new(">").unwrap(), Subject::new("a").unwrap());
    let mut kept = bus.subscribe(&all).await.unwrap();
    drop(bus.subscribe(&all).await.unwrap());
    assert_eq!(bus.subscribers(), 1);
    bus.publish(&subject, Bytes::from_static(b"last")).await.unwrap();
    bus.close();
    let refused = bus.publish(&subject, Bytes::new()).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Closed);
    assert!(bus.subscribe(&all).await.is_err());
    let mut next = async || std::future::poll_fn(|cx| kept.as_mut().poll_next(cx)).await;
    assert!(next().await.is_some(), "what waits is still delivered");
    assert_eq!(next().await, None);
}
