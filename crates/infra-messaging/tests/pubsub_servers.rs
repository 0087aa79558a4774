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
use infra_testkit::{
    proxy::{FaultProxy, Weather},
    server::{Kind, Server},
};

const PATIENCE: Duration = Duration::from_secs(30);

async fn next(subscription: &mut Subscription) -> Option<Item> {
    let item = std::future::poll_fn(|cx| subscription.as_mut().poll_next(cx));
    tokio::time::timeout(PATIENCE, item).await.unwrap()
}

fn subject() -> Subject {
    Subject::new("room.1").unwrap()
}

/// Lets a link to the server die without a word and be good again: the subscriber is told, and hears
/// what is published by then, also by who published over the dead link.
async fn is_told_of_a_dead_link(proxy: FaultProxy, bus: Arc<dyn PubSub>) {
    let mut heard = bus.subscribe(&Pattern::new("room.*").unwrap()).await.unwrap();
    bus.publish(&subject(), Bytes::from_static(b"before")).await.unwrap();
    assert!(matches!(next(&mut heard).await, Some(Item::Message { .. })));
    proxy.weather(Weather::Outage);
    // Whether it fails or is kept for later is the bus's affair; who waits for it may give up.
    let subject = subject();
    let over_a_dead_link = bus.publish(&subject, Bytes::from_static(b"lost"));
    let _gave_up = tokio::time::timeout(Duration::from_millis(50), over_a_dead_link).await.is_ok();
    let gap = next(&mut heard).await;
    assert!(matches!(gap, Some(Item::Gap { reason: GapReason::Disconnected, .. })), "{gap:?}");
    proxy.weather(Weather::Calm);
    hears_again(bus, &mut heard).await;
}

/// Publishes until it is heard.
async fn hears_again(bus: Arc<dyn PubSub>, heard: &mut Subscription) {
    let talking = tokio::spawn(async move {
        loop {
            // While the link is down this fails; it is told so, and may try again.
            let _is_published = bus.publish(&subject(), Bytes::from_static(b"after")).await.is_ok();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    loop {
        match next(heard).await {
            Some(Item::Message { payload, .. }) if payload == "after" => break,
            Some(Item::Message { payload, .. }) => assert_eq!(payload, "lost", "it was kept"),
            Some(Item::Gap { .. }) => {}
            None => panic!("the subscription ended"),
        }
    }
    talking.abort();
}

/// Kills a server under a subscription and has it back: the subscriber is told, and hears again.
async fn is_told_of_a_lost_server(mut server: Server, bus: Arc<dyn PubSub>) {
    let subject = subject();
    let mut heard = bus.subscribe(&Pattern::new("room.*").unwrap()).await.unwrap();
    bus.publish(&subject, Bytes::from_static(b"before")).await.unwrap();
    assert!(matches!(next(&mut heard).await, Some(Item::Message { .. })));
    server.kill().unwrap();
    let gap = next(&mut heard).await;
    assert!(matches!(gap, Some(Item::Gap { reason: GapReason::Disconnected, .. })), "{gap:?}");
    server.restart().await.unwrap();
    hears_again(bus, &mut heard).await;
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

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_subscriber_is_told_of_a_link_that_died_without_a_word() {
                let server = Server::start(Kind::$kind).await.unwrap();
                let proxy = FaultProxy::start(server.addr()).await.unwrap();
                let url = format!(concat!($feature, "://{}"), proxy.addr());
                let bus = infra_messaging::$bus::connect(&url, 100).await.unwrap();
                is_told_of_a_dead_link(proxy, Arc::new(bus)).await;
            }
        }
    };
}

bus_over!(nats, NatsPubSub, "nats", Nats);
bus_over!(redis, RedisPubSub, "redis", Redis);

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_publish_while_redis_does_not_answer_none_waits_for_the_tries_of_the_others() {
    const PUBLISHERS: usize = 100;
    let server = Server::start(Kind::Redis).await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let url = format!("redis://{}", proxy.addr());
    let bus = Arc::new(infra_messaging::RedisPubSub::connect(&url, 100).await.unwrap());
    proxy.weather(Weather::Outage);
    // By then the connection is known to be dead, and each has to make another one.
    assert!(bus.publish(&subject(), Bytes::new()).await.is_err());
    let mut publishers = tokio::task::JoinSet::new();
    for _ in 0..PUBLISHERS {
        let bus = Arc::clone(&bus);
        publishers.spawn(async move { bus.publish(&subject(), Bytes::new()).await });
    }
    // One try takes up to a second: one after the other they would take more than that.
    let all = tokio::time::timeout(PATIENCE, publishers.join_all()).await.unwrap();
    let kinds: Vec<_> = all.iter().map(|said| said.as_ref().unwrap_err().kind()).collect();
    assert!(kinds.iter().all(|kind| **kind == infra_core::ErrorKind::Unavailable), "{kinds:?}");
    proxy.weather(Weather::Calm);
    bus.publish(&subject(), Bytes::new()).await.unwrap();
}
