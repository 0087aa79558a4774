//! Keys that wait behind their dead letters while other keys flow.

use std::sync::Arc;

use infra_core::{
    SystemClock,
    clock::Timestamp,
    durability::Durability,
    queue::{Cause, Queue},
};
use infra_messaging::{MemoryQueue, Options};
use infra_testkit::contract::queue::LIMIT;

use crate::{
    LEASE,
    durable::{documents, kept},
    message, name,
    programs::soon,
};

fn options() -> Options {
    Options::new(99).park_keys().max_failures(LIMIT).max_crashes(LIMIT)
}

async fn publish(queue: &dyn Queue, numbers: &[u64]) {
    for number in numbers {
        // Ten numbers have a key.
        let keyed = message(*number).key(format!("key {}", number / 10));
        queue.publish(vec![keyed], Durability::Applied).await.unwrap();
    }
}

/// Takes what is ready, acknowledges it, and goes on until nothing is.
async fn flow(queue: &dyn Queue) -> Vec<u64> {
    let mut done = Vec::new();
    loop {
        soon().await;
        if queue.stats().await.unwrap().ready == 0 {
            return done;
        }
        let received = tokio::select! {
            biased;
            received = queue.receive(9, LEASE) => received.unwrap(),
            () = soon() => return done,
        };
        for delivery in received {
            done.push(delivery.message().payload.decode().unwrap());
            delivery.ack().await.unwrap();
        }
    }
}

async fn kill_first(queue: &dyn Queue) {
    queue.receive(1, LEASE).await.unwrap().remove(0).dead_letter("cannot be done").await.unwrap();
}

async fn others_flow_and_the_letter_comes_first_again(queue: &dyn Queue) {
    publish(queue, &[10, 11, 20, 21]).await;
    kill_first(queue).await;
    publish(queue, &[12]).await;
    assert_eq!(flow(queue).await, [20, 21], "key 1 waits behind its dead letter");
    let dead = queue.dead_letters(9).await.unwrap();
    assert!(queue.replay(dead[0].message.id).await.unwrap());
    assert_eq!(flow(queue).await, [10, 11, 12], "in the order of publishing");
    publish(queue, &[13, 14]).await;
    kill_first(queue).await;
    assert_eq!(flow(queue).await, Vec::<u64>::new());
    let all = Timestamp::from_millis(9_000_000_000_000);
    assert_eq!(queue.purge_dead(all, Some(Cause::Refused)).await.unwrap(), 1);
    assert_eq!(flow(queue).await, [14], "nothing is left to wait for");
}

#[tokio::test(start_paused = true)]
async fn a_key_waits_behind_its_dead_letter_while_others_flow() {
    let queue = MemoryQueue::new(name(), options(), SystemClock::shared());
    others_flow_and_the_letter_comes_first_again(&queue).await;
    others_flow_and_the_letter_comes_first_again(&kept(&documents(), options()).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_key_is_parked_after_a_restart_and_its_letter_keeps_its_place() {
    let store = documents();
    let first = kept(&store, options()).await;
    publish(&first, &[10, 11, 20]).await;
    kill_first(&first).await;
    first.close().await.unwrap();
    let again = kept(&store, options()).await;
    assert_eq!(flow(&again).await, [20]);
    let dead = again.dead_letters(9).await.unwrap();
    assert!(again.replay(dead[0].message.id).await.unwrap());
    again.close().await.unwrap();
    let third = kept(&store, options()).await;
    assert_eq!(flow(&third).await, [10, 11]);
}

/// A letter that is forgotten since there are too many, or that died of its time, holds up nobody.
#[tokio::test(start_paused = true)]
async fn a_letter_that_is_forgotten_holds_up_nobody() {
    let queue = MemoryQueue::new(name(), options().max_dead(1), SystemClock::shared());
    publish(&queue, &[10, 11, 20, 21]).await;
    kill_first(&queue).await;
    kill_first(&queue).await;
    assert_eq!(flow(&queue).await, [11], "the letter of key 1 is forgotten, that of key 2 is not");
    let queue: Arc<dyn Queue> =
        Arc::new(MemoryQueue::new(name(), options(), SystemClock::shared()));
    let short = message(10).key("key 1").ttl(LEASE);
    queue.publish(vec![short, message(11).key("key 1")], Durability::Applied).await.unwrap();
    tokio::time::sleep(LEASE).await;
    assert_eq!(flow(queue.as_ref()).await, [11]);
    assert_eq!(queue.dead_letters(9).await.unwrap()[0].cause, Cause::Expired);
}
