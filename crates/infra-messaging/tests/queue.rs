//! The contract of the queue port over the memory queue, and random programs against the model.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::mem_forget,
    clippy::too_many_lines,
    clippy::allow_attributes,
    reason = "a panic is how a test fails; a forgotten delivery is a process that ended"
)]

use std::{
    future::{Ready, ready},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use infra_core::{
    ErrorKind, SystemClock,
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    id::{MessageId, QueueName},
    queue::{DeadLetter, Delivery, Message, Priority, Queue},
    random::Random,
    store::DocumentStore,
};
use infra_messaging::{DurableQueue, MemoryQueue, Options, Overflow};
use infra_testkit::{
    contract::queue::{CAPACITY, LIMIT, WINDOW},
    model::{ModelDocuments, ModelQueue, Policy},
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

/// Stops a queue as the end of its process would: nothing more of it is written.
async fn crash(queue: DurableQueue) {
    drop(queue);
    soon().await;
}

#[tokio::test(start_paused = true)]
async fn everything_is_there_again_when_a_durable_queue_is_opened_again() {
    let store = documents();
    let first = kept(&store, Options::new(99)).await;
    let minute = Duration::from_mins(1);
    let messages = vec![
        message(1).key("a"),
        message(2).key("a").priority(Priority::High),
        message(3).delay(minute),
        message(4).ttl(minute).delay(minute * 2),
        message(5).dedup("once"),
        message(6).priority(Priority::Critical),
    ];
    let published = first.publish(messages.clone(), Durability::Durable).await.unwrap();
    assert_eq!(published, [true; 6]);
    let mut held = first.receive(2, LEASE).await.unwrap();
    held.remove(0).dead_letter("cannot be done").await.unwrap();
    let lost = held.remove(0);
    assert_eq!(lost.message().id, messages[0].id);
    first.set_paused(true).await.unwrap();
    let stats = first.stats().await.unwrap();
    assert_eq!((stats.ready, stats.delayed, stats.leased, stats.dead), (2, 2, 1, 1));
    // The process ends with a message in hand.
    std::mem::forget(lost);
    crash(first).await;
    let again = kept(&store, Options::new(99)).await;
    let stats = again.stats().await.unwrap();
    assert_eq!((stats.ready, stats.delayed, stats.leased, stats.dead), (3, 2, 0, 1));
    again.set_paused(false).await.unwrap();
    let dead = again.dead_letters(9).await.unwrap();
    assert_eq!((&dead[0].message, dead[0].reason.as_str()), (&messages[5], "cannot be done"));
    let once = again.publish(vec![message(7).dedup("once")], Durability::Durable).await.unwrap();
    assert_eq!(once, [false], "dedup ids too");
    let received = again.receive(9, LEASE).await.unwrap();
    let told: Vec<_> = received
        .iter()
        .map(|one| (one.message().id, one.attempts().deliveries, one.attempts().crashes))
        .collect();
    assert_eq!(told, [(messages[0].id, 2, 1), (messages[4].id, 1, 0)], "its loss is a crash");
    for delivery in received {
        delivery.ack().await.unwrap();
    }
    tokio::time::sleep(minute).await;
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let delivery = again.receive(1, LEASE).await.unwrap().pop().unwrap();
        numbers.push(delivery.message().payload.decode::<u64>().unwrap());
        delivery.ack().await.unwrap();
    }
    assert_eq!(numbers, [2, 3], "key and delay are kept");
    assert!(again.replay(messages[5].id).await.unwrap());
    again.close().await.unwrap();
    let third = kept(&store, Options::new(99)).await;
    let stats = third.stats().await.unwrap();
    assert_eq!((stats.ready, stats.dead), (1, 1), "replayed and expired, once each");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_its_process_each_time_is_dead_after_its_limit() {
    let store = documents();
    for crash_number in 0..LIMIT {
        let queue = kept(&store, Options::new(9)).await;
        if crash_number == 0 {
            queue.publish(vec![message(1)], Durability::Durable).await.unwrap();
        }
        let poison = queue.receive(1, LEASE).await.unwrap().pop().unwrap();
        assert_eq!(poison.attempts().crashes, crash_number);
        std::mem::forget(poison);
        crash(queue).await;
    }
    let queue = kept(&store, Options::new(9)).await;
    let dead = queue.dead_letters(9).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts.crashes), (1, LIMIT));
    // A deployment gives back what is in hand, and kills nothing.
    queue.publish(vec![message(2)], Durability::Durable).await.unwrap();
    for _ in 0..10 {
        let queue = kept(&store, Options::new(9)).await;
        drop(queue.receive(1, LEASE).await.unwrap());
        queue.close().await.unwrap();
    }
    let queue = kept(&store, Options::new(9)).await;
    assert_eq!(queue.receive(1, LEASE).await.unwrap()[0].attempts().crashes, 0);
}

async fn durable() -> Arc<dyn Queue> {
    Arc::new(kept(&documents(), Options::new(CAPACITY)).await)
}

mod durable_keeps {
    infra_testkit::queue_contract!(super::durable());
}

fn documents() -> Arc<dyn DocumentStore> {
    Arc::new(ModelDocuments::new(SystemClock::shared()))
}

/// Opens the queue of a store.
async fn kept(store: &Arc<dyn DocumentStore>, options: Options) -> DurableQueue {
    // One clock for all openings: the wall clock of a new one knows nothing of paused time.
    static CLOCK: std::sync::OnceLock<Arc<dyn infra_core::Clock>> = std::sync::OnceLock::new();
    let clock = Arc::clone(CLOCK.get_or_init(SystemClock::shared));
    let options = options.max_failures(LIMIT).max_crashes(LIMIT).dedup_window(WINDOW);
    DurableQueue::open(Arc::clone(store), name(), options, clock).await.unwrap()
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
async fn soon() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// A queue under test and what was received from it.
struct Side {
    queue: Arc<dyn Queue>,
    held: Vec<Delivery>,
    /// How long it is waited for messages, if the queue is not in this process.
    patience: Option<Duration>,
}

impl Side {
    fn new(queue: Arc<dyn Queue>) -> Self {
        Self { queue, held: Vec::new(), patience: None }
    }

    async fn patience(&self) {
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
                    () = self.patience() => Vec::new(),
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
    async fn run(&mut self, step: &Step, number: u64) -> String {
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

#[cfg(feature = "postgres")]
mod postgres {
    use infra_messaging::PostgresQueue;
    use infra_testkit::{
        clock::ManualClock,
        contract::queue::LIVE_WINDOW,
        server::{Kind, Server, shared},
    };

    use super::*;

    async fn open(options: Options, clock: Arc<dyn infra_core::Clock>) -> PostgresQueue {
        let url = shared(Kind::Postgres).unwrap();
        let name = QueueName::new(format!("test-{:x}", Random::from_system().next_u64())).unwrap();
        let options = options.max_failures(LIMIT).max_crashes(LIMIT);
        PostgresQueue::connect(&url, name, options, clock).await.unwrap()
    }

    async fn live() -> Arc<dyn Queue> {
        let options = Options::new(CAPACITY).dedup_window(LIVE_WINDOW);
        Arc::new(open(options, SystemClock::shared()).await)
    }

    mod keeps {
        infra_testkit::queue_contract!(live super::live());
    }

    /// `INFRA_PROGRAMS` programs; 200 for the full run.
    #[test]
    fn any_program_is_answered_as_the_model_answers_it() {
        let cases = std::env::var("INFRA_PROGRAMS").ok().and_then(|text| text.parse().ok());
        let mut runner =
            proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(cases.unwrap_or(6)));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let said = runner.run(&steps(), |steps| {
            runtime.block_on(program(&steps));
            Ok(())
        });
        said.unwrap();
    }

    async fn program(steps: &[Step]) {
        let clock = ManualClock::new();
        let shared: Arc<dyn infra_core::Clock> = Arc::new(clock.clone());
        let (capacity, window) = (12, Duration::from_secs(7));
        let policy = Policy {
            capacity,
            max_failures: LIMIT,
            max_crashes: LIMIT,
            window,
            oldest_every: None,
        };
        let options = Options::new(capacity).dedup_window(window).oldest_every(None);
        let mut model = Side::new(Arc::new(ModelQueue::new(name(), policy, Arc::clone(&shared))));
        let mut postgres = Side::new(Arc::new(open(options, shared).await));
        for (number, step) in (1..).zip(steps) {
            if let Step::Pass { seconds } = step {
                clock.advance(Duration::from_secs(*seconds));
            }
            let wanted = model.run(step, number).await;
            let n_held = (model.held.len(), postgres.held.len());
            let patience = if n_held.1 < n_held.0 { 10_000 } else { 60 };
            postgres.patience = Some(Duration::from_millis(patience));
            let is_drop = matches!(step, Step::Settle { how: 5, .. });
            let found = postgres.run(step, number).await;
            if !is_drop {
                assert_eq!(found, wanted, "step {number}: {step:?}");
                continue;
            }
            // A dropped delivery is released by a task of its own.
            let pause = Duration::from_millis(20);
            while postgres.queue.stats().await.unwrap() != model.queue.stats().await.unwrap() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    #[tokio::test]
    async fn what_the_engine_does_not_keep_is_refused() {
        let url = shared(Kind::Postgres).unwrap();
        for options in
            [Options::new(1).overflow(Overflow::Wait), Options::new(1).fair(|_| NonZeroU32::MIN)]
        {
            let said = PostgresQueue::connect(&url, name(), options, SystemClock::shared()).await;
            assert_eq!(*said.unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_is_killed_loses_nothing_that_was_acknowledged() {
        let mut server = Server::start(Kind::Postgres).await.unwrap();
        let (url, clock) = (server.url(), SystemClock::shared());
        let open = || {
            let options = Options::new(10_000).max_crashes(99);
            PostgresQueue::connect(&url, name(), options, Arc::clone(&clock))
        };
        let queue = open().await.unwrap();
        let published = tokio::spawn({
            let queue = queue.clone();
            async move {
                let mut taken = Vec::new();
                for number in 0..5_000 {
                    let keyed = message(number).key(format!("key {}", number % 3));
                    match queue.publish(vec![keyed], Durability::Durable).await {
                        Ok(_) => taken.push(number),
                        Err(_) => break,
                    }
                }
                taken
            }
        });
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.kill().unwrap();
        let published = published.await.unwrap();
        server.restart().await.unwrap();
        let queue = loop {
            match open().await {
                Ok(queue) => break queue,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let mut seen = Vec::new();
        while 0 < queue.stats().await.unwrap().ready {
            for delivery in queue.receive(100, LEASE).await.unwrap() {
                seen.push(delivery.message().payload.decode::<u64>().unwrap());
                delivery.ack().await.unwrap();
            }
        }
        assert!(!published.is_empty(), "the server was killed before anything was published");
        for key in 0..3 {
            let of_key: Vec<u64> = seen.iter().copied().filter(|own| own % 3 == key).collect();
            assert!(of_key.is_sorted(), "order per key");
        }
        seen.sort_unstable();
        // The one that was on its way may be there or not.
        assert!(seen.starts_with(&published) && seen.len() <= published.len() + 1);
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
