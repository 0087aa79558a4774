//! Decisions in Redis by so many tasks over one connection, each on a key of its own; the server is
//! that of the tests, or one that is started.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use infra_core::{
    SystemClock,
    limit::{Charge, RateLimiter as _},
    random::Random,
};
use infra_ratelimit::redis::{Options, RedisLimiter};
use infra_testkit::server::{Kind, Server, shared};
use measure::{Better, Workload, run};
use redis::aio::MultiplexedConnection;

use crate::quota;

const DECISIONS: u32 = 20_000;

pub(crate) fn workloads() -> Vec<Workload> {
    let of = |tasks: u32, rate, p99| {
        let all = move |by: fn(u32) -> Vec<Duration>| {
            move || {
                let start = Instant::now();
                let decisions = by(tasks).len();
                decisions as f64 / start.elapsed().as_secs_f64()
            }
        };
        let slowest = move |by: fn(u32) -> Vec<Duration>| {
            move || {
                let mut took = by(tasks);
                took.sort_unstable();
                took[took.len() * 99 / 100].as_secs_f64() * 1e3
            }
        };
        [
            Workload::figure(rate, "/s", Better::Higher, all(decide))
                .beside("incr-expire", all(count))
                .rounds(3),
            Workload::figure(p99, "ms", Better::Lower, slowest(decide))
                .beside("incr-expire", slowest(count))
                .rounds(3),
        ]
    };
    [
        of(1, "redis-1-task", "redis-1-task-p99"),
        of(16, "redis-16-tasks", "redis-16-tasks-p99"),
        of(64, "redis-64-tasks", "redis-64-tasks-p99"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn url() -> String {
    static OWN: OnceLock<Server> = OnceLock::new();
    let start = || run(Server::start(Kind::Redis)).expect("Redis does not start");
    shared(Kind::Redis).unwrap_or_else(|_| OWN.get_or_init(start).url())
}

/// A name for this run, whose keys end by themselves.
fn namespace() -> String {
    format!("bench-{:x}", Random::from_system().next_u64())
}

/// Has each task ask again and again, and returns how long each answer took.
async fn by_tasks<A, F>(tasks: u32, ask: impl Fn(u32) -> A) -> Vec<Duration>
where
    A: Fn() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let each = DECISIONS.min(5_000 * tasks) / tasks;
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let ask = ask(task);
            tokio::spawn(async move {
                let mut took = Vec::new();
                for _ in 0..each {
                    let start = Instant::now();
                    ask().await;
                    took.push(start.elapsed());
                }
                took
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in running {
        all.extend(task.await.unwrap());
    }
    all
}

fn decide(tasks: u32) -> Vec<Duration> {
    let options = Options::new(url(), namespace()).timeout(Duration::from_secs(5));
    run(async {
        let limiter = RedisLimiter::connect(options, SystemClock::shared()).await.unwrap();
        let limiter = limiter.limit("player", quota()).unwrap();
        by_tasks(tasks, |task| {
            let (limiter, charges) = (limiter.clone(), [Charge::one("player", task.to_string())]);
            move || {
                let (limiter, charges) = (limiter.clone(), charges.clone());
                async move { assert!(limiter.acquire(&charges).await.unwrap().is_admitted()) }
            }
        })
        .await
    })
}

fn count(tasks: u32) -> Vec<Duration> {
    let (url, namespace) = (url(), namespace());
    run(async {
        let client = redis::Client::open(url).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        by_tasks(tasks, |task| {
            let (connection, key) = (connection.clone(), format!("{namespace}:{task}"));
            move || raise(connection.clone(), key.clone())
        })
        .await
    })
}

async fn raise(mut connection: MultiplexedConnection, key: String) {
    let mut pipeline = redis::pipe();
    pipeline.incr(&key, 1).expire(&key, 60).ignore();
    let (count,): (u32,) = pipeline.query_async(&mut connection).await.unwrap();
    assert!(0 < count);
}
