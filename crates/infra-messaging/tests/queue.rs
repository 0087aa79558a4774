//! The contract of the queue port over the memory queue, and random programs against the model.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};

use infra_core::{
    ErrorKind, SystemClock,
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    id::{MessageId, QueueName},
    queue::{Delivery, Message, Priority, Queue},
    random::Random,
};
use infra_messaging::{MemoryQueue, Options, Overflow};
use infra_testkit::{
    contract::queue::{CAPACITY, LIMIT, WINDOW},
    model::{ModelQueue, Policy},
};
use proptest::prelude::*;

const LEASE: Duration = Duration::from_secs(4);

fn name() -> QueueName {
    QueueName::new("work").unwrap()
}

fn queue(options: Options) -> MemoryQueue {
    let options = options.max_failures(LIMIT).max_crashes(LIMIT).dedup_window(WINDOW);
    MemoryQueue::new(name(), options, SystemClock::shared())
}

fn memory() -> Ready<Arc<dyn Queue>> {
    ready(Arc::new(queue(Options::new(CAPACITY))))
}

mod memory_keeps {
    infra_testkit::queue_contract!(super::memory());
}

fn message(number: u64) -> Message {
    let id = MessageId::generate(Timestamp::from_millis(number), &Random::seeded(number));
    Message::new(id, Payload::json(1, &number).unwrap())
}

async fn say(queue: &MemoryQueue, number: u64) -> infra_core::Result<Vec<bool>> {
    queue.publish(vec![message(number)], Durability::Applied).await
}

async fn ready_numbers(queue: &MemoryQueue) -> Vec<u64> {
    let received = tokio::time::timeout(Duration::ZERO, queue.receive(100, LEASE)).await;
    let received = received.map_or_else(|_| Vec::new(), Result::unwrap);
    received.iter().map(|delivery| delivery.message().payload.decode().unwrap()).collect()
}

/// A step of a random program. Numbers choose what there is to choose from.
#[derive(Debug, Clone)]
enum Step {
    Publish { priority: u8, key: u8, delay: u8, ttl: u8, dedup: u8, count: u8 },
    Receive { limit: usize },
    Settle { which: usize, how: u8, delay: u8 },
    Extend { which: usize },
    Replay { which: usize },
    Pause(bool),
    Pass { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_u8, 0..4_u8, 0..3_u8, 0..5_u8, 0..6_u8, 1..3_u8).prop_map(
            |(priority, key, delay, ttl, dedup, count)| {
                Step::Publish { priority, key, delay, ttl, dedup, count }
            }
        ),
        4 => (1..4_usize).prop_map(|limit| Step::Receive { limit }),
        5 => (0..8_usize, 0..5_u8, 0..3_u8)
            .prop_map(|(which, how, delay)| Step::Settle { which, how, delay }),
        1 => (0..8_usize).prop_map(|which| Step::Extend { which }),
        1 => (0..4_usize).prop_map(|which| Step::Replay { which }),
        1 => any::<bool>().prop_map(Step::Pause),
        3 => (0..6_u64).prop_map(|seconds| Step::Pass { seconds }),
    ];
    proptest::collection::vec(step, 1..80)
}

/// A queue under test and what was received from it.
struct Side {
    queue: Arc<dyn Queue>,
    held: Vec<Delivery>,
}

impl Side {
    fn new(queue: Arc<dyn Queue>) -> Self {
        Self { queue, held: Vec::new() }
    }

    /// Runs a step and returns what it is answered.
    async fn act(&mut self, step: &Step, number: u64) -> String {
        match step.clone() {
            Step::Publish { priority, key, delay, ttl, dedup, count } => {
                let seconds = |number: u8| Duration::from_secs(u64::from(number));
                let messages = (0..u64::from(count)).map(|place| {
                    let order =
                        [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];
                    let mut message = message(number * 10 + place)
                        .priority(order[usize::from(priority)])
                        .delay(seconds(delay));
                    message.key = (key < 2).then(|| format!("key {key}"));
                    message.ttl = (0 < ttl).then(|| seconds(ttl * 2));
                    message.dedup = (dedup < 3).then(|| format!("once {dedup}"));
                    message
                });
                let said = self.queue.publish(messages.collect(), Durability::Applied).await;
                format!("{:?}", said.map_err(|error| error.kind().clone()))
            }
            Step::Receive { limit } => {
                let received = self.queue.receive(limit, LEASE);
                let received = tokio::time::timeout(Duration::ZERO, received).await;
                let received = received.map_or_else(|_| Vec::new(), Result::unwrap);
                let told = |delivery: &Delivery| (delivery.message().id, delivery.attempts());
                let said = format!("{:?}", received.iter().map(told).collect::<Vec<_>>());
                self.held.extend(received);
                said
            }
            Step::Settle { which, how, delay } if which < self.held.len() => {
                let delivery = self.held.remove(which);
                let delay = Duration::from_secs(u64::from(delay));
                let said = match how {
                    0 => delivery.ack().await,
                    1 => delivery.nack(delay, "failed").await,
                    2 => delivery.release().await,
                    3 => delivery.dead_letter("cannot be done").await,
                    _ => {
                        drop(delivery);
                        Ok(())
                    }
                };
                format!("{:?}", said.map_err(|error| error.kind().clone()))
            }
            Step::Extend { which } if which < self.held.len() => {
                let said = self.held[which].extend(LEASE).await;
                format!("{:?}", said.map_err(|error| error.kind().clone()))
            }
            Step::Replay { which } => {
                // What dies in the same moment does so in no particular order.
                let mut dead = self.queue.dead_letters(100).await.unwrap();
                dead.sort_by_key(|dead| dead.message.id);
                match dead.get(which) {
                    Some(dead) => format!("{:?}", self.queue.replay(dead.message.id).await),
                    None => String::new(),
                }
            }
            Step::Pause(paused) => format!("{:?}", self.queue.set_paused(paused).await),
            Step::Settle { .. } | Step::Extend { .. } | Step::Pass { .. } => String::new(),
        }
    }

    /// Runs a step and returns everything that can be seen of it.
    async fn run(&mut self, step: &Step, number: u64) -> String {
        let said = self.act(step, number).await;
        let stats = self.queue.stats().await.unwrap();
        let dead = self.queue.dead_letters(100).await.unwrap();
        let mut dead: Vec<_> = dead.iter().map(|dead| (dead.message.id, dead.attempts)).collect();
        dead.sort_by_key(|(id, _)| *id);
        format!("{said} {stats:?} {dead:?}")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_program_is_answered_as_the_model_answers_it(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let capacity = 12;
            let window = Duration::from_secs(7);
            let policy =
                Policy { capacity, max_failures: LIMIT, max_crashes: LIMIT, window };
            let options = Options::new(capacity)
                .max_failures(LIMIT)
                .max_crashes(LIMIT)
                .dedup_window(window);
            let mut model = Side::new(Arc::new(ModelQueue::new(name(), policy, SystemClock::shared())));
            let mut memory = Side::new(Arc::new(MemoryQueue::new(name(), options, SystemClock::shared())));
            for (number, step) in (1..).zip(&steps) {
                if let Step::Pass { seconds } = step {
                    tokio::time::advance(Duration::from_secs(*seconds)).await;
                }
                let wanted = model.run(step, number).await;
                let found = memory.run(step, number).await;
                assert_eq!(found, wanted, "step {number}: {step:?}");
            }
        });
    }
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
