//! The queue within a process.

use std::{
    future::{Ready, ready},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use infra_core::{
    Clock as _, ErrorKind, SystemClock,
    durability::Durability,
    queue::{Message, Priority, Queue},
};
use infra_messaging::{MemoryQueue, Options, Overflow};
use infra_testkit::contract::queue::{CAPACITY, LIMIT, WINDOW};
use proptest::prelude::*;

use crate::{LEASE, message, name};

fn queue(options: Options) -> MemoryQueue {
    let options = options.max_failures(LIMIT).max_crashes(LIMIT).dedup_window(WINDOW);
    MemoryQueue::new(name(), options, SystemClock::shared())
}

fn memory() -> Ready<Arc<dyn Queue>> {
    ready(Arc::new(queue(Options::new(CAPACITY))))
}

mod keeps {
    infra_testkit::queue_contract!(super::memory());
}

#[tokio::test(start_paused = true)]
async fn a_room_with_a_flood_does_not_hold_up_those_with_one_message() {
    const ROOMS: u64 = 999;
    let fair = Options::new(200_000).fair(|_| NonZeroU32::MIN).oldest_every(None);
    let queue = queue(fair);
    let keyed = |number: u64, room: u64| message(number).key(format!("room {room}"));
    let flood: Vec<Message> = (0..100_000).map(|number| keyed(number, 0)).collect();
    queue.publish(flood, Durability::Applied).await.unwrap();
    let others: Vec<Message> = (1..=ROOMS).map(|room| keyed(200_000 + room, room)).collect();
    queue.publish(others, Durability::Applied).await.unwrap();
    let mut served = 0;
    for dispatch in 1..=2 * ROOMS {
        let delivery = queue.receive(1, LEASE).await.unwrap().pop().unwrap();
        served += u64::from(delivery.message().key.as_deref() != Some("room 0"));
        delivery.ack().await.unwrap();
        if served == ROOMS {
            assert!(dispatch <= 2 * ROOMS);
            return;
        }
    }
    panic!("{served} of {ROOMS} are served");
}

#[tokio::test(start_paused = true)]
async fn a_key_of_weight_three_has_three_turns_for_one() {
    let weigh = |key: &str| NonZeroU32::new(if key == "heavy" { 3 } else { 1 }).unwrap();
    let queue = queue(Options::new(999).fair(weigh).oldest_every(None));
    for number in 0..100 {
        for key in ["heavy", "light"] {
            let keyed = vec![message(number).key(key)];
            queue.publish(keyed, Durability::Applied).await.unwrap();
        }
    }
    let mut n_heavy = 0;
    for _ in 0..80 {
        let delivery = queue.receive(1, LEASE).await.unwrap().pop().unwrap();
        n_heavy += u32::from(delivery.message().key.as_deref() == Some("heavy"));
        delivery.ack().await.unwrap();
    }
    assert!((59..=61).contains(&n_heavy), "{n_heavy} of 80");
}

proptest! {
    /// The bound of `Options::oldest_every`, under an endless stream of what is more urgent.
    #[test]
    fn a_low_priority_waits_for_no_more_others_than_its_bound(every in 2..40_u32, before in 0..6_u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let queue = queue(Options::new(999).oldest_every(NonZeroU32::new(every)));
            for number in 0..=before {
                let low = message(number).priority(Priority::Low);
                queue.publish(vec![low], Durability::Applied).await.unwrap();
            }
            let bound = u64::from(every) * (before + 1);
            for dispatch in 1..=bound {
                let urgent = message(1_000 + dispatch).priority(Priority::Critical);
                queue.publish(vec![urgent], Durability::Applied).await.unwrap();
                let delivery = queue.receive(1, LEASE).await.unwrap().pop().unwrap();
                let number: u64 = delivery.message().payload.decode().unwrap();
                delivery.ack().await.unwrap();
                if number == before {
                    return;
                }
            }
            panic!("the last of {before} + 1 waited for more than {bound}");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn counts_have_limits_of_their_own_and_clear_takes_delayed_messages_too() {
    for (options, cause) in [
        (Options::new(9).max_deliveries(2), infra_core::queue::Cause::Exhausted),
        (Options::new(9).max_releases(2), infra_core::queue::Cause::Exhausted),
    ] {
        let queue = queue(options);
        say(&queue, 1).await.unwrap();
        for _ in 0..2 {
            queue.receive(1, LEASE).await.unwrap().pop().unwrap().release().await.unwrap();
        }
        let dead = queue.dead_letters(9).await.unwrap();
        assert_eq!(dead.iter().map(|dead| dead.cause).collect::<Vec<_>>(), [cause]);
    }
    let queue = queue(Options::new(9));
    let late = message(1).delay(Duration::from_secs(5));
    queue.publish(vec![late, message(2)], Durability::Applied).await.unwrap();
    let held = queue.receive(1, LEASE).await.unwrap();
    assert_eq!(queue.clear().await.unwrap(), 1);
    tokio::time::sleep(Duration::from_secs(9)).await;
    drop(held);
    assert_eq!(queue.stats().await.unwrap().delayed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_dies_at_the_millisecond_its_time_is_over() {
    for (millis, is_there) in [(99, true), (100, false), (101, false)] {
        let queue = queue(Options::new(9));
        let short = message(1).ttl(Duration::from_millis(100));
        queue.publish(vec![short], Durability::Applied).await.unwrap();
        tokio::time::advance(Duration::from_millis(millis)).await;
        assert_eq!(ready_numbers(&queue).await.len(), usize::from(is_there), "after {millis} ms");
        let dead = queue.dead_letters(9).await.unwrap();
        let causes: Vec<&str> = dead.iter().map(|dead| dead.cause.name()).collect();
        let wanted: &[&str] = if is_there { &[] } else { &["expired"] };
        assert_eq!(causes, wanted);
    }
}

async fn say(queue: &MemoryQueue, number: u64) -> infra_core::Result<Vec<bool>> {
    queue.publish(vec![message(number)], Durability::Applied).await
}

async fn ready_numbers(queue: &MemoryQueue) -> Vec<u64> {
    let received = tokio::time::timeout(Duration::ZERO, queue.receive(100, LEASE)).await;
    let received = received.map_or_else(|_| Vec::new(), Result::unwrap);
    received.iter().map(|delivery| delivery.message().payload.decode().unwrap()).collect()
}

#[tokio::test]
async fn what_a_queue_in_memory_cannot_promise_is_refused() {
    let queue = queue(Options::new(1));
    for durability in [Durability::Buffered, Durability::Durable] {
        let said = queue.publish(vec![message(1)], durability).await.unwrap_err();
        assert_eq!(*said.kind(), ErrorKind::Unsupported);
    }
    assert_eq!(queue.features().durability, Durability::Applied);
    assert_eq!(queue.name().as_str(), "work");
}

#[tokio::test(start_paused = true)]
async fn a_publisher_may_wait_for_room() {
    let queue = queue(Options::new(2).overflow(Overflow::Wait));
    say(&queue, 1).await.unwrap();
    say(&queue, 2).await.unwrap();
    let waiting = queue.clone();
    let waiter = tokio::spawn(async move { say(&waiting, 3).await });
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(!waiter.is_finished(), "there is no room");
    let mut held = queue.receive(1, LEASE).await.unwrap();
    held.pop().unwrap().ack().await.unwrap();
    assert_eq!(waiter.await.unwrap().unwrap(), [true]);
    assert_eq!(ready_numbers(&queue).await, [2, 3]);
    // What can never fit does not wait for ever.
    let all = vec![message(4), message(5), message(6)];
    let said = queue.publish(all, Durability::Applied).await.unwrap_err();
    assert_eq!(*said.kind(), ErrorKind::Overloaded);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_publisher_is_let_in_when_a_message_dies_of_its_time() {
    let queue = queue(Options::new(1).overflow(Overflow::Wait));
    let short = message(1).ttl(Duration::from_secs(5));
    queue.publish(vec![short], Durability::Applied).await.unwrap();
    let clock = SystemClock::shared();
    let start = clock.now();
    assert_eq!(say(&queue, 2).await.unwrap(), [true]);
    assert_eq!(clock.now().since(start).as_secs(), 5);
}

#[tokio::test]
async fn the_oldest_may_become_dead_letters_when_it_is_full_but_never_what_is_in_hand() {
    let queue = queue(Options::new(3).overflow(Overflow::DeadLetterOldest));
    for number in 1..=3 {
        say(&queue, number).await.unwrap();
    }
    let held = queue.receive(1, LEASE).await.unwrap();
    say(&queue, 4).await.unwrap();
    say(&queue, 5).await.unwrap();
    let dead = queue.dead_letters(9).await.unwrap();
    let dead: Vec<u64> = dead.iter().map(|dead| dead.message.payload.decode().unwrap()).collect();
    assert_eq!(dead, [2, 3]);
    assert_eq!(ready_numbers(&queue).await, [4, 5]);
    let all = vec![message(6), message(7), message(8)];
    let said = queue.publish(all, Durability::Applied).await.unwrap_err();
    assert_eq!(*said.kind(), ErrorKind::Overloaded, "one place is taken by what is in hand");
    drop(held);
}

#[tokio::test]
async fn dead_letters_and_dedup_ids_are_bounded() {
    let queue = queue(Options::new(9).max_dead(2).max_dedup(3));
    for number in 1..=3 {
        say(&queue, number).await.unwrap();
        let mut held = queue.receive(1, LEASE).await.unwrap();
        held.pop().unwrap().dead_letter("no").await.unwrap();
    }
    let dead = queue.dead_letters(9).await.unwrap();
    let dead: Vec<u64> = dead.iter().map(|dead| dead.message.payload.decode().unwrap()).collect();
    assert_eq!(dead, [2, 3], "the oldest is forgotten");
    for number in 1..=4 {
        let once = message(number).dedup(number.to_string());
        let said = queue.publish(vec![once], Durability::Applied).await;
        assert_eq!(said.is_ok(), number <= 3, "dedup id {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_tells_everybody_who_waits() {
    let queue = queue(Options::new(1).overflow(Overflow::Wait));
    let receiving = queue.clone();
    let receiver = tokio::spawn(async move { receiving.receive(1, LEASE).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    queue.close();
    assert_eq!(*receiver.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(*say(&queue, 1).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn many_producers_and_consumers_lose_and_repeat_nothing() {
    const PRODUCERS: u64 = 4;
    const EACH: u64 = 250;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.unwrap().block_on(async {
        let queue = queue(Options::new(16).overflow(Overflow::Wait));
        let mut tasks = tokio::task::JoinSet::new();
        for producer in 0..PRODUCERS {
            let queue = queue.clone();
            tasks.spawn(async move {
                for number in 0..EACH {
                    say(&queue, producer * EACH + number).await.unwrap();
                }
                Vec::new()
            });
        }
        for consumer in 0..4_u64 {
            let queue = queue.clone();
            tasks.spawn(async move {
                let mut done = Vec::new();
                while let Ok(received) = queue.receive(3, Duration::from_mins(1)).await {
                    for delivery in received {
                        let number: u64 = delivery.message().payload.decode().unwrap();
                        // Some are given back now and then, and come again.
                        if number % 7 == consumer && delivery.attempts().releases < 2 {
                            drop(delivery);
                            continue;
                        }
                        delivery.ack().await.unwrap();
                        done.push(number);
                    }
                    if queue.stats().await.unwrap().ready == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                done
            });
        }
        let mut done = Vec::new();
        for _ in 0..PRODUCERS {
            done.extend(tasks.join_next().await.unwrap().unwrap());
        }
        loop {
            let stats = queue.stats().await.unwrap();
            if stats.ready + stats.leased == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        queue.close();
        while let Some(own) = tasks.join_next().await {
            done.extend(own.unwrap());
        }
        done.sort_unstable();
        assert_eq!(done, (0..PRODUCERS * EACH).collect::<Vec<_>>());
    });
}
