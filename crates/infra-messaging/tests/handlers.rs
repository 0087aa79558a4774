//! Handlers: layers and workers on paused time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock, SystemClock,
    baggage::Baggage,
    codec::Payload,
    context::Context,
    durability::Durability,
    id::{CorrelationId, QueueName},
    lifecycle::Shutdown,
    queue::{Cause, Message, Priority, Queue},
    random::Random,
    trace::TraceContext,
};
use infra_messaging::{
    MemoryQueue, Mint, Options,
    handler::{
        BatchWorker, Chain, Failure, Fallback, Filter, Job, Retry, Schedule, Step, Tally, Timeout,
        Worker,
    },
    route::{Dialect, Trie},
};
use parking_lot::Mutex;
use tower::{ServiceExt as _, service_fn};

const MS: Duration = Duration::from_millis(1);

fn queue(options: Options) -> MemoryQueue {
    MemoryQueue::new(QueueName::new("work").unwrap(), options, SystemClock::shared())
}

fn message(number: u64) -> Message {
    let mint = Mint::new(SystemClock::shared(), Random::seeded(number));
    mint.message(Payload::json(1, &number).unwrap())
}

fn number(job: &Job) -> u64 {
    job.message.payload.decode().unwrap()
}

async fn publish(queue: &MemoryQueue, numbers: std::ops::Range<u64>) {
    let messages = numbers.map(message).collect();
    queue.publish(messages, Durability::Applied).await.unwrap();
}

async fn job(number: u64) -> Job {
    let queue = queue(Options::new(1));
    publish(&queue, number..number + 1).await;
    Job::of(&queue.receive(1, Duration::from_secs(9)).await.unwrap()[0])
}

fn exact(pause: Duration, retries: u32) -> (Schedule, Random) {
    (Schedule::exponential(pause, 2.0, retries), Random::seeded(1))
}

/// Works until the queue is drained, and returns the tally and how long it took.
async fn drained<S>(queue: &MemoryQueue, worker: Worker<S>) -> (Tally, Duration)
where
    S: tower::Service<Job, Response = (), Error = Failure> + Clone + Send + 'static,
    S::Future: Send,
{
    queue.drain();
    let clock = SystemClock::new();
    let tally = worker.run(Shutdown::new().stop()).await.unwrap();
    (tally, clock.now().since_start())
}

#[derive(Debug, Clone, Default)]
struct Gauge(Arc<(AtomicU32, AtomicU32)>);

impl Gauge {
    fn enter(&self) {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn peak(&self) -> u32 {
        self.0.1.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn two_at_a_time_five_jobs_of_ten_milliseconds_take_thirty() {
    let queue = queue(Options::new(9));
    publish(&queue, 0..5).await;
    let (gauge, seen) = (Gauge::default(), Arc::new(Mutex::new(Vec::new())));
    let (own, list) = (gauge.clone(), Arc::clone(&seen));
    let work = service_fn(move |job: Job| {
        let (gauge, seen) = (own.clone(), Arc::clone(&list));
        async move {
            gauge.enter();
            tokio::time::sleep(10 * MS).await;
            gauge.leave();
            seen.lock().push(number(&job));
            Ok::<(), Failure>(())
        }
    });
    let worker = Worker::new(Arc::new(queue.clone()), work).concurrency(2);
    let (tally, took) = drained(&queue, worker).await;
    assert_eq!((tally.done, gauge.peak()), (5, 2));
    assert!((30 * MS..35 * MS).contains(&took), "{took:?}");
    let mut seen = seen.lock().clone();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    let said = queue.publish(vec![message(9)], Durability::Applied).await;
    assert!(said.is_err(), "a drained queue takes nothing more");
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_running_work_end_and_gives_the_rest_back_uncounted() {
    for (grace, wanted) in [(50 * MS, (2, 2)), (5 * MS, (0, 4))] {
        let queue = queue(Options::new(9));
        publish(&queue, 0..4).await;
        let work = service_fn(|_: Job| async {
            tokio::time::sleep(20 * MS).await;
            Ok::<(), Failure>(())
        });
        let worker = Worker::new(Arc::new(queue.clone()), work).concurrency(2).grace(grace);
        let shutdown = Shutdown::new();
        let running = tokio::spawn(worker.run(shutdown.stop()));
        tokio::time::sleep(10 * MS).await;
        shutdown.begin();
        let tally = running.await.unwrap().unwrap();
        let stats = queue.stats().await.unwrap();
        assert_eq!((tally.done, stats.ready), wanted, "with a grace of {grace:?}");
        for delivery in queue.receive(9, Duration::from_secs(1)).await.unwrap() {
            let attempts = delivery.attempts();
            assert_eq!((attempts.failures, attempts.crashes), (0, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_are_each_done_once_and_a_poison_one_is_dead_after_its_fourth_failure() {
    let queue = queue(Options::new(99).max_failures(99));
    publish(&queue, 0..20).await;
    let tries = Arc::new(Mutex::new(Vec::new()));
    let (list, clock) = (Arc::clone(&tries), Arc::new(SystemClock::new()));
    let work = service_fn(move |job: Job| {
        let (tries, clock) = (Arc::clone(&list), Arc::clone(&clock));
        async move {
            tries.lock().push((number(&job), clock.now().since_start().as_millis()));
            if number(&job) == 7 { Err(Failure::Retryable("poison".to_owned())) } else { Ok(()) }
        }
    });
    let (schedule, random) = exact(100 * MS, 3);
    let worker =
        Worker::new(Arc::new(queue.clone()), work).concurrency(2).schedule(schedule, random);
    let (tally, _) = drained(&queue, worker).await;
    assert_eq!((tally.done, tally.retried, tally.dead), (19, 3, 1));
    let tries = tries.lock().clone();
    let mut others: Vec<u64> = tries.iter().map(|(own, _)| *own).filter(|own| *own != 7).collect();
    others.sort_unstable();
    assert_eq!(others, (0..20).filter(|own| *own != 7).collect::<Vec<_>>(), "each once");
    let poison: Vec<u128> = tries.iter().filter(|(own, _)| *own == 7).map(|(_, at)| *at).collect();
    let pauses: Vec<u128> = poison.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, wanted) in pauses.iter().zip([100, 200, 400]) {
        assert!((wanted..wanted + 3).contains(pause), "{pauses:?}");
    }
    let dead = queue.dead_letters(9).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts.failures), (1, 3));
    assert_eq!((dead[0].cause, dead[0].reason.as_str()), (Cause::Refused, "poison"));
}

#[tokio::test(start_paused = true)]
async fn every_class_of_failure_at_every_attempt_has_its_outcome() {
    for retries in 0..4_u32 {
        let schedule = Schedule::fixed(10 * MS, retries);
        for failures in 0..6_u32 {
            let said = schedule.after(NonZeroU32::MIN.saturating_add(failures));
            let wanted = if failures < retries { Step::Again(10 * MS) } else { Step::GiveUp };
            assert_eq!(said, wanted, "{failures} failures of {retries} retries");
        }
        for is_retryable in [true, false] {
            let queue = queue(Options::new(9).max_failures(99));
            publish(&queue, 0..1).await;
            let n_tries = Arc::new(AtomicU32::new(0));
            let count = Arc::clone(&n_tries);
            let work = service_fn(move |_: Job| {
                count.fetch_add(1, Ordering::SeqCst);
                let reason = "ValueError".to_owned();
                let failure = if is_retryable {
                    Failure::Retryable(reason)
                } else {
                    Failure::Permanent(reason)
                };
                std::future::ready(Err::<(), _>(failure))
            });
            let worker = Worker::new(Arc::new(queue.clone()), work)
                .schedule(schedule.clone(), Random::seeded(1));
            drained(&queue, worker).await;
            let wanted = if is_retryable { retries + 1 } else { 1 };
            assert_eq!(n_tries.load(Ordering::SeqCst), wanted);
            let dead = queue.dead_letters(9).await.unwrap();
            assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "ValueError"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_crash_and_loses_nothing() {
    let queue = queue(Options::new(9).max_crashes(2));
    publish(&queue, 0..3).await;
    let work = service_fn(|job: Job| async move {
        assert_ne!(number(&job), 1, "as planned");
        Ok::<(), Failure>(())
    });
    let (tally, _) = drained(&queue, Worker::new(Arc::new(queue.clone()), work)).await;
    assert_eq!((tally.done, tally.panicked), (2, 2));
    let dead = queue.dead_letters(9).await.unwrap();
    assert_eq!((dead[0].cause, dead[0].attempts.crashes), (Cause::Crashed, 2));
    assert!(dead[0].history[0].reason.contains("as planned"), "{:?}", dead[0].history);
}

#[tokio::test(start_paused = true)]
async fn a_handler_goes_on_with_the_correlation_and_trace_of_what_asked_for_the_work() {
    let queue = queue(Options::new(10));
    let random = Random::seeded(1);
    let asked = |number: u64| {
        let correlation = CorrelationId::generate(SystemClock::new().wall(), &random);
        let context = Context::default().correlation(correlation);
        let context = context.trace(TraceContext::root(&random, true));
        let baggage = Baggage::default().with("number", number.to_string()).unwrap();
        let context = context.baggage(baggage);
        (context.clone().sync_scope(|| message(number)), context)
    };
    let ((first, of_first), (second, of_second)) = (asked(1), asked(2));
    queue.publish(vec![first, second], Durability::Applied).await.unwrap();
    publish(&queue, 3..4).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let look = service_fn(move |job: Job| {
        // What a handler publishes in turn is of the same trace.
        let next = message(9);
        assert_eq!(next.trace, Context::current_trace());
        let baggage = Context::current().baggage_of().clone();
        assert_eq!(next.headers.get("baggage").cloned().unwrap_or_default(), baggage.to_string());
        kept.lock().push((number(&job), next.correlation, next.trace, baggage));
        std::future::ready(Ok(()))
    });
    let of_worker = Context::default().trace(TraceContext::root(&random, true));
    let worker = Worker::new(Arc::new(queue.clone()), look).concurrency(1);
    of_worker.scope(drained(&queue, worker)).await;
    let wanted = |number: u64, context: &Context| {
        let baggage = context.baggage_of().clone();
        (number, context.correlation_id(), context.trace_context(), baggage)
    };
    // Whoever runs the worker is no cause of the work.
    let all = [wanted(1, &of_first), wanted(2, &of_second), wanted(3, &Context::default())];
    assert_eq!(*seen.lock(), all);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_outlives_its_lease_keeps_it() {
    let queue = queue(Options::new(9));
    publish(&queue, 0..1).await;
    let work = service_fn(|_: Job| async {
        tokio::time::sleep(Duration::from_mins(1)).await;
        Ok::<(), Failure>(())
    });
    let worker = Worker::new(Arc::new(queue.clone()), work).lease(Duration::from_secs(3));
    let (tally, _) = drained(&queue, worker).await;
    assert_eq!((tally.done, tally.lost), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn seven_messages_are_batches_of_three_three_and_one_each_with_a_timer_of_its_own() {
    let queue = queue(Options::new(99));
    let batches = Arc::new(Mutex::new(Vec::new()));
    let (list, clock) = (Arc::clone(&batches), Arc::new(SystemClock::new()));
    let start = Arc::clone(&clock);
    let work = service_fn(move |jobs: Vec<Job>| {
        let numbers: Vec<u64> = jobs.iter().map(number).collect();
        list.lock().push((numbers, start.now().since_start().as_millis()));
        std::future::ready(Ok::<(), Failure>(()))
    });
    let shutdown = Shutdown::new();
    let worker = BatchWorker::new(Arc::new(queue.clone()), work, 3, 100 * MS);
    let running = tokio::spawn(worker.run(shutdown.stop()));
    publish(&queue, 0..2).await;
    tokio::time::sleep(90 * MS).await;
    publish(&queue, 2..7).await;
    tokio::time::sleep(150 * MS).await;
    assert_eq!(queue.stats().await.unwrap().leased, 0, "all are acknowledged");
    shutdown.begin();
    assert_eq!(running.await.unwrap().unwrap(), 3);
    let batches = batches.lock();
    let wanted = [(vec![0, 1, 2], 90), (vec![3, 4, 5], 90), (vec![6], 190)];
    for ((numbers, at), (wanted, due)) in batches.iter().zip(wanted) {
        assert_eq!(*numbers, wanted);
        assert!((due..due + 5).contains(at), "{batches:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_batch_loses_nothing_and_is_acknowledged_only_when_it_is_done() {
    let queue = queue(Options::new(99));
    publish(&queue, 0..3).await;
    let (n_tries, watched) = (Arc::new(AtomicU32::new(0)), queue.clone());
    let count = Arc::clone(&n_tries);
    let work = service_fn(move |jobs: Vec<Job>| {
        let (number, queue) = (count.fetch_add(1, Ordering::SeqCst), watched.clone());
        async move {
            assert_eq!(queue.stats().await.unwrap().leased, 3, "not before it is done");
            assert_eq!(jobs.len(), 3);
            if number == 0 { Err(Failure::Retryable("disk".to_owned())) } else { Ok(()) }
        }
    });
    queue.drain();
    let worker = BatchWorker::new(Arc::new(queue.clone()), work, 3, 10 * MS).pause(10 * MS);
    assert_eq!(worker.run(Shutdown::new().stop()).await.unwrap(), 1);
    assert_eq!(n_tries.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_tried_again_after_ten_and_twenty_milliseconds() {
    for (n_failures, wanted, is_done) in [(2, 3, true), (9, 4, false)] {
        let n_tries = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&n_tries);
        let flaky = service_fn(move |_: Job| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let failed = Err(Failure::Retryable("not yet".to_owned()));
            std::future::ready(if number < n_failures { failed } else { Ok(()) })
        });
        let (schedule, random) = exact(10 * MS, 3);
        let clock = SystemClock::new();
        let said = Retry::new(flaky, schedule, random).oneshot(job(1).await).await;
        assert_eq!((n_tries.load(Ordering::SeqCst), said.is_ok()), (wanted, is_done));
        let took = clock.now().since_start();
        let pauses = if is_done { 30 * MS } else { 70 * MS };
        assert!((pauses..pauses + 5 * MS).contains(&took), "{took:?}");
    }
    let never = service_fn(|_: Job| std::future::ready(Err(Failure::Permanent("no".to_owned()))));
    let (schedule, random) = exact(10 * MS, 3);
    let clock = SystemClock::new();
    assert!(Retry::new(never, schedule, random).oneshot(job(1).await).await.is_err());
    assert_eq!(clock.now().since_start(), Duration::ZERO, "what is permanent is not tried again");
}

#[tokio::test(start_paused = true)]
async fn a_timed_out_handler_is_cancelled_and_does_nothing_after_its_deadline() {
    for (work, is_done) in [(99, true), (100, true), (101, false), (200, false)] {
        let effects = Arc::new(AtomicU32::new(0));
        let own = Arc::clone(&effects);
        let slow = service_fn(move |_: Job| {
            let effects = Arc::clone(&own);
            async move {
                tokio::time::sleep(work * MS).await;
                effects.fetch_add(1, Ordering::SeqCst);
                Ok::<(), Failure>(())
            }
        });
        let said = Timeout::new(slow, 100 * MS).oneshot(job(1).await).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(effects.load(Ordering::SeqCst), u32::from(is_done), "{work} ms");
        match said {
            Ok(()) => assert!(is_done),
            Err(failure) => assert!(!is_done && failure.reason().contains("Timeout")),
        }
    }
}

#[tokio::test]
async fn a_chain_ends_at_its_first_failure_and_a_fallback_begins_there() {
    let step = |name: &'static str, list: &Arc<Mutex<Vec<&'static str>>>, is_ok: bool| {
        let list = Arc::clone(list);
        service_fn(move |_: Job| {
            list.lock().push(name);
            let failed = Err(Failure::Permanent(name.to_owned()));
            std::future::ready(if is_ok { Ok(()) } else { failed })
        })
    };
    let list = Arc::new(Mutex::new(Vec::new()));
    let chain = Chain::new(
        Chain::new(step("a", &list, true), step("b", &list, false)),
        step("c", &list, true),
    );
    let said = Fallback::new(chain, step("d", &list, true)).oneshot(job(1).await).await;
    assert_eq!((said, list.lock().clone()), (Ok(()), vec!["a", "b", "d"]));
}

/// The event types of a game, and how urgent each is.
const EVENTS: [(&str, Priority); 20] = [
    ("room.created", Priority::Normal),
    ("room.joined", Priority::Normal),
    ("room.left", Priority::Normal),
    ("room.closed", Priority::Normal),
    ("game.started", Priority::High),
    ("game.ended", Priority::High),
    ("game.paused", Priority::Normal),
    ("game.resumed", Priority::Normal),
    ("turn.started", Priority::Normal),
    ("turn.ended", Priority::Normal),
    ("piece.played", Priority::Normal),
    ("declaration.made", Priority::Normal),
    ("redeal.requested", Priority::Normal),
    ("player.connected", Priority::Normal),
    ("player.disconnected", Priority::Critical),
    ("player.ready", Priority::Normal),
    ("player.action", Priority::Normal),
    ("state.changed", Priority::Normal),
    ("error.occurred", Priority::Critical),
    ("metric.recorded", Priority::Normal),
];

#[tokio::test]
async fn a_filter_takes_the_events_of_its_types_and_room_and_passes_all_others_by() {
    let mut urgent = Trie::new(Dialect::Nats);
    for (filter, priority) in [
        ("error.occurred.*", Priority::Critical),
        ("player.disconnected.*", Priority::Critical),
        ("game.started.*", Priority::High),
        ("game.ended.*", Priority::High),
    ] {
        urgent.insert(filter, priority).unwrap();
    }
    let mut wanted = Trie::new(Dialect::Nats);
    for filter in ["game.started.room123", "game.ended.room123"] {
        wanted.insert(filter, ()).unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let record = service_fn(move |job: Job| {
        list.lock().push(job.message.headers["topic"].clone());
        std::future::ready(Ok::<(), Failure>(()))
    });
    let filter = Filter::new(record, move |job: &Job| {
        wanted.matches(&job.message.headers["topic"]).is_ok_and(|found| !found.is_empty())
    });
    for (event, priority) in EVENTS {
        for room in ["room123", "room124"] {
            let topic = format!("{event}.{room}");
            let forced = urgent.matches(&topic).unwrap().first().map_or(Priority::Normal, |p| **p);
            assert_eq!(forced, priority, "{event}");
            let mut job = job(1).await;
            job.message = Arc::new(message(1).priority(forced).header("topic", topic));
            let is_meant = room == "room123" && ["game.started", "game.ended"].contains(&event);
            assert_eq!(filter.can_handle(&job), is_meant, "{event} {room}");
            filter.clone().oneshot(job).await.unwrap();
        }
    }
    assert_eq!(*seen.lock(), ["game.started.room123", "game.ended.room123"]);
}
