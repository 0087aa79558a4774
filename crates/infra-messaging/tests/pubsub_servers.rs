//! The contract of the pub/sub port over NATS and Redis, and what a subscriber is told when they go.

#![cfg(any(feature = "nats", feature = "redis"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use infra_core::pubsub::{GapReason, Item, Pattern, PubSub, Subject, Subscription};
use infra_testkit::server::{Kind, Server};

const PATIENCE: Duration = Duration::from_secs(30);

async fn next(subscription: &mut Subscription) -> Option<Item> {
    let item = std::future::poll_fn(|cx| subscription.as_mut().poll_next(cx));
    tokio::time::timeout(PATIENCE, item).await.unwrap()
}

/// Kills a server under a subscription and has it back: the subscriber is told, and hears again.
async fn is_told_of_a_lost_server(mut server: Server, bus: Arc<dyn PubSub>) {
    let subject = Subject::new("room.1").unwrap();
    let mut heard = bus.subscribe(&Pattern::new("room.*").unwrap()).await.unwrap();
    bus.publish(&subject, Bytes::from_static(b"before")).await.unwrap();
    assert!(matches!(next(&mut heard).await, Some(Item::Message { .. })));
    server.kill().unwrap();
    let gap = next(&mut heard).await;
    assert!(matches!(gap, Some(Item::Gap { reason: GapReason::Disconnected, .. })), "{gap:?}");
    server.restart().await.unwrap();
    let talking = tokio::spawn(async move {
        loop {
            // While the link is down this fails; it is told so, and may try again.
            let _is_published = bus.publish(&subject, Bytes::from_static(b"after")).await.is_ok();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    loop {
        match next(&mut heard).await {
            Some(Item::Message { payload, .. }) => break assert_eq!(payload, "after"),
            Some(Item::Gap { .. }) => {}
            None => panic!("the subscription ended"),
        }
    }
    talking.abort();
}

/// Stamps out the tests of a bus over a server. Each has a server of its own, since the clauses name
/// their subjects themselves.
macro_rules! bus_over {
    ($server:ident, $bus:ident, $feature:literal, $kind:ident) => {
        #[cfg(feature = $feature)]
        mod $server {
            use super::*;

            async fn bus() -> (Server, Arc<dyn PubSub>) {
                let server = Server::start(Kind::$kind).await.unwrap();
                let bus = infra_messaging::$bus::connect(&server.url(), 100).await.unwrap();
                (server, Arc::new(bus))
            }

            async fn kept() -> Arc<dyn PubSub> {
                let (server, bus) = bus().await;
                // It ends with the test's process.
                Box::leak(Box::new(server));
                bus
            }

            mod keeps {
                infra_testkit::pubsub_contract!(super::kept());
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_subscriber_is_told_that_the_server_was_lost() {
                let (server, bus) = bus().await;
                is_told_of_a_lost_server(server, bus).await;
            }
        }
    };
}

bus_over!(nats, NatsPubSub, "nats", Nats);
bus_over!(redis, RedisPubSub, "redis", Redis);
