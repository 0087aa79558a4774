//! Random programs, whose every answer is that of the model.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use infra_core::{
    SystemClock,
    durability::Durability,
    queue::{DeadLetter, Delivery, Priority, Queue},
};
use infra_messaging::{DurableQueue, MemoryQueue, Options};
use infra_testkit::{
    contract::queue::LIMIT,
    model::{ModelQueue, Policy},
};
use proptest::prelude::*;

use crate::{LEASE, durable::documents, message, name};

/// A step of a random program. Numbers choose what there is to choose from.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Publish { priority: u8, key: u8, delay: u8, ttl: u8, dedup: u8, count: u8 },
    Receive { limit: usize },
    Settle { which: usize, how: u8, delay: u8 },
    Extend { which: usize },
    Replay { which: usize },
    Pause(bool),
    Pass { seconds: u64 },
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_u8, 0..4_u8, 0..3_u8, 0..5_u8, 0..6_u8, 1..3_u8).prop_map(
            |(priority, key, delay, ttl, dedup, count)| {
                Step::Publish { priority, key, delay, ttl, dedup, count }
            }
        ),
        4 => (1..4_usize).prop_map(|limit| Step::Receive { limit }),
        5 => (0..8_usize, 0..6_u8, 0..3_u8)
            .prop_map(|(which, how, delay)| Step::Settle { which, how, delay }),
        1 => (0..8_usize).prop_map(|which| Step::Extend { which }),
        1 => (0..4_usize).prop_map(|which| Step::Replay { which }),
        1 => any::<bool>().prop_map(Step::Pause),
        3 => (0..6_u64).prop_map(|seconds| Step::Pass { seconds }),
    ];
    proptest::collection::vec(step, 1..80)
}

/// Lets everything else happen that needs no time.
pub(crate) async fn soon() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// A queue under test and what was received from it.
pub(crate) struct Side {
    queue: Arc<dyn Queue>,
    held: Vec<Delivery>,
    /// How long it is waited for messages, if the queue is not in this process.
    patience: Option<Duration>,
}

impl Side {
    pub(crate) fn new(queue: Arc<dyn Queue>) -> Self {
        Self { queue, held: Vec::new(), patience: None }
    }

    /// Sets how long it is waited for messages of a queue that is not in this process.
    #[cfg(any(feature = "nats", feature = "postgres"))]
    pub(crate) const fn patience(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    #[cfg(any(feature = "nats", feature = "postgres"))]
    pub(crate) const fn n_held(&self) -> usize {
        self.held.len()
    }

    #[cfg(any(feature = "nats", feature = "postgres"))]
    pub(crate) async fn stats(&self) -> infra_core::queue::Stats {
        self.queue.stats().await.unwrap()
    }

    async fn wait(&self) {
        match self.patience {
            Some(patience) => tokio::time::sleep(patience).await,
            None => soon().await,
        }
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
                let received = tokio::select! {
                    biased;
                    received = self.queue.receive(limit, LEASE) => received.unwrap(),
                    () = self.wait() => Vec::new(),
                };
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
                    4 => delivery.crashed("broke down").await,
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
    pub(crate) async fn run(&mut self, step: &Step, number: u64) -> String {
        let said = self.act(step, number).await;
        soon().await;
        let stats = self.queue.stats().await.unwrap();
        let dead = self.queue.dead_letters(100).await.unwrap();
        let told =
            |dead: &DeadLetter| (dead.message.id, dead.attempts, dead.cause, dead.history.len());
        let mut dead: Vec<_> = dead.iter().map(told).collect();
        dead.sort_by_key(|(id, ..)| *id);
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
            let policy = Policy {
                capacity,
                max_failures: LIMIT,
                max_crashes: LIMIT,
                window,
                oldest_every: Some(5),
            };
            let options = Options::new(capacity)
                .max_failures(LIMIT)
                .max_crashes(LIMIT)
                .dedup_window(window)
                .oldest_every(NonZeroU32::new(5));
            let clock = SystemClock::shared();
            let durable = DurableQueue::open(documents(), name(), options, Arc::clone(&clock));
            let durable = durable.await.unwrap();
            let mut durable = Side::new(Arc::new(durable));
            let mut model = Side::new(Arc::new(ModelQueue::new(name(), policy, Arc::clone(&clock))));
            let mut memory = Side::new(Arc::new(MemoryQueue::new(name(), options, clock)));
            for (number, step) in (1..).zip(&steps) {
                if let Step::Pass { seconds } = step {
                    tokio::time::advance(Duration::from_secs(*seconds)).await;
                }
                let wanted = model.run(step, number).await;
                let found = memory.run(step, number).await;
                assert_eq!(found, wanted, "step {number}: {step:?}");
                let found = durable.run(step, number).await;
                assert_eq!(found, wanted, "durable, step {number}: {step:?}");
            }
        });
    }
}
