//! Limits that are counted in Redis: the contract, equality with those in memory, many callers and
//! processes, and a server that is lost.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod support;

use std::{
    num::NonZeroU32,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Clock, ErrorKind, Result, SystemClock,
    limit::{Charge, Decision, RateLimiter, Reservation, Verdict},
    random::Random,
};
use infra_ratelimit::{
    Limit, Limiter, Quota, Window,
    redis::{Options, Outage, RedisLimiter, Time},
};
use infra_testkit::{
    clock::ManualClock,
    server::{Kind, Server, shared},
};
use support::charge;
use tokio::runtime::{Handle, Runtime};

const SECOND: Duration = Duration::from_secs(1);

/// Options for the shared server and a namespace that no other test has.
fn options() -> Options {
    let namespace = format!("test-{:x}", Random::from_system().next_u64());
    Options::new(shared(Kind::Redis).unwrap(), namespace)
        .timeout(Duration::from_secs(20))
        .time(Time::Clock)
}

/// A limiter in Redis for clauses on paused time: it lives in a runtime whose time is not paused,
/// is asked while the caller's thread stands still, and takes the caller's time.
#[derive(Debug)]
struct Paced {
    inner: RedisLimiter,
    clock: ManualClock,
    told: Arc<dyn Clock>,
    runtime: Handle,
    _end: mpsc::Sender<()>,
}

impl Paced {
    fn open() -> std::future::Ready<Arc<dyn RateLimiter>> {
        let (hand_over, handle) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            let runtime = Runtime::new().unwrap();
            hand_over.send(runtime.handle().clone()).unwrap();
            // Until the limiter is dropped.
            let _dropped = ended.recv();
            runtime.shutdown_background();
        });
        let runtime = handle.recv().unwrap();
        let clock = ManualClock::new();
        let own: Arc<dyn Clock> = Arc::new(clock.clone());
        let inner = Self::ask(&runtime, async move {
            let limiter = RedisLimiter::connect(options(), own).await.unwrap();
            support::of_the_contract()
                .into_iter()
                .fold(limiter, |limiter, (name, limit)| limiter.limit(name, limit).unwrap())
        });
        let paced = Self { inner, clock, told: SystemClock::shared(), runtime, _end: end };
        std::future::ready(Arc::new(paced))
    }

    fn ask<T: Send + 'static>(
        runtime: &Handle,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (hand_over, answer) = mpsc::channel();
        runtime.spawn(async move { drop(hand_over.send(future.await)) });
        answer.recv().unwrap()
    }

    fn limiter(&self) -> RedisLimiter {
        self.clock.advance(self.told.now().since(self.clock.now()));
        self.inner.clone()
    }
}

#[async_trait]
impl RateLimiter for Paced {
    async fn acquire(&self, charges: &[Charge]) -> Result<Decision> {
        let (limiter, charges) = (self.limiter(), charges.to_vec());
        Self::ask(&self.runtime, async move { limiter.acquire(&charges).await })
    }

    async fn reserve(&self, charges: &[Charge]) -> Result<(Decision, Option<Reservation>)> {
        let (limiter, charges) = (self.limiter(), charges.to_vec());
        Self::ask(&self.runtime, async move { limiter.reserve(&charges).await })
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Decision> {
        let (limiter, charges) = (self.limiter(), charges.to_vec());
        Self::ask(&self.runtime, async move { limiter.peek(&charges).await })
    }
}

mod redis_keeps {
    infra_testkit::rate_limiter_contract!(super::Paced::open());
}

/// Every algorithm, by name.
fn every_limit() -> [(&'static str, Limit); 6] {
    let window = |capacity, millis| Window::new(capacity, Duration::from_millis(millis)).unwrap();
    [
        ("bucket", Limit::bucket(Quota::new(7, Duration::from_millis(130)).unwrap())),
        ("fixed", Limit::fixed(window(6, 900))),
        ("sliding", Limit::sliding(window(9, 700))),
        ("log", Limit::log(window(5, 800))),
        ("blocks", Limit::fixed(window(8, 500)).block(Duration::from_secs(2))),
        ("trial", Limit::log(window(2, 800)).shadow()),
    ]
}

/// A limit of any algorithm, as one that is changed may become.
fn any_limit(random: &Random) -> Limit {
    let below = |bound: u32| u32::try_from(random.below(u64::from(bound))).unwrap();
    let (capacity, millis) = (1 + below(9), Duration::from_millis(40 + random.below(900)));
    let window = Window::new(capacity, millis).unwrap();
    match below(4) {
        0 => Limit::bucket(Quota::new(capacity, millis / 4).unwrap()),
        1 => Limit::fixed(window),
        2 => Limit::sliding(window),
        _ => Limit::log(window),
    }
}

/// Rounds a wait up to microseconds, which are Redis' finest time.
fn in_micros(mut decision: Decision) -> Decision {
    if let Verdict::RetryAfter(wait) = decision.verdict {
        let micros = u64::try_from(wait.as_nanos().div_ceil(1_000)).unwrap();
        decision.verdict = Verdict::RetryAfter(Duration::from_micros(micros));
    }
    decision
}

/// Does what a random program says to both limiters, and compares all that they answer.
async fn compare(seed: u64, n_steps: u32) {
    let random = Random::seeded(seed);
    let below = |bound: u32| u32::try_from(random.below(u64::from(bound))).unwrap();
    let clock = ManualClock::new();
    let mut memory = Limiter::new(Arc::new(clock.clone()));
    let mut redis = RedisLimiter::connect(options(), Arc::new(clock.clone())).await.unwrap();
    for (name, limit) in every_limit() {
        memory = memory.limit(name, limit);
        redis = redis.limit(name, limit).unwrap();
    }
    let mut held: Vec<(Reservation, Reservation)> = Vec::new();
    let mut changed = Vec::new();
    for step in 0..n_steps {
        clock.advance(Duration::from_millis(random.below(150)));
        let charges: Vec<_> = every_limit()
            .iter()
            .filter(|_| below(2) == 0)
            .map(|(name, _)| charge(name, "ann", 1 + below(4)))
            .collect();
        if charges.is_empty() {
            continue;
        }
        let (ours, theirs) = match below(6) {
            5 if n_steps / 4 < step => {
                let (name, limit) = (every_limit()[below(6) as usize].0, any_limit(&random));
                // The script sees the last of several changes while nobody asks for a key.
                if !changed.contains(&name) {
                    changed.push(name);
                    memory.change(name, limit).unwrap();
                    redis.change(name, limit).unwrap();
                }
                continue;
            }
            0 => (memory.peek(&charges).await, redis.peek(&charges).await),
            1 => {
                let (ours, first) = memory.reserve(&charges).await.unwrap();
                let (theirs, second) = redis.reserve(&charges).await.unwrap();
                held.extend(first.zip(second));
                (Ok(ours), Ok(theirs))
            }
            2 if !held.is_empty() => {
                let (first, second) = held.swap_remove(step as usize % held.len());
                let actual = below(4);
                first.settle(actual);
                second.settle(actual);
                // A request is asked after what was settled before it, so this is told before time goes on.
                redis.peek(&[charge("bucket", "nobody", 1)]).await.unwrap();
                continue;
            }
            _ => (memory.acquire(&charges).await, redis.acquire(&charges).await),
        };
        let (ours, theirs) = (in_micros(ours.unwrap()), in_micros(theirs.unwrap()));
        assert_eq!(theirs, ours, "seed {seed}, step {step}, {charges:?}");
    }
    for (first, second) in held {
        first.keep();
        second.keep();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_answers_every_request_as_memory_does() {
    let programs = number("INFRA_RATELIMIT_PROGRAMS", 24);
    for seed in 0..programs {
        compare(u64::from(seed), 80).await;
    }
}

/// A number from the environment, for the full run.
fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Has 64 tasks ask for 4 keys and returns how many were admitted.
async fn contend(limiter: Arc<dyn RateLimiter>, n_decisions: u32) -> u32 {
    let admitted = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (limiter, admitted) = (Arc::clone(&limiter), Arc::clone(&admitted));
            tokio::spawn(async move {
                for _ in 0..n_decisions / 64 {
                    let charges = [charge("hot", &format!("key {}", task % 4), 1)];
                    let decision = limiter.acquire(&charges).await.unwrap();
                    admitted.fetch_add(u32::from(decision.is_admitted()), Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    admitted.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_on_four_keys_get_exactly_the_limit() {
    // Keys end by the server's time, in which a full run must not come to the end of theirs.
    let quota = Quota::new(500, Duration::from_hours(1)).unwrap();
    let frozen = Arc::new(ManualClock::new());
    let n_decisions = number("INFRA_RATELIMIT_DECISIONS", 10_000);
    let redis = RedisLimiter::connect(options(), Arc::<ManualClock>::clone(&frozen)).await.unwrap();
    let redis = Arc::new(redis.limit("hot", quota).unwrap());
    let memory = Arc::new(Limiter::new(frozen).limit("hot", quota));
    assert_eq!(contend(redis, n_decisions).await, 2_000);
    assert_eq!(contend(memory, 10 * n_decisions).await, 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_limiters_of_one_namespace_share_a_window_and_permits() {
    let options = options();
    let mut both = Vec::new();
    for _ in 0..2 {
        let limiter = RedisLimiter::connect(options.clone(), Arc::new(ManualClock::new())).await;
        let limiter = limiter.unwrap().limit("five", Limit::log(Window::per_second(5).unwrap()));
        let limiter = limiter.unwrap().limit("permits", Limit::concurrent(3).unwrap());
        both.push(limiter.unwrap());
    }
    let mut admitted = 0;
    for turn in 0..10 {
        let decision = both[turn % 2].acquire(&[charge("five", "ann", 1)]).await.unwrap();
        admitted += u32::from(decision.is_admitted());
    }
    assert_eq!(admitted, 5);
    let permits = [charge("permits", "ann", 1)];
    let error = both[0].acquire(&permits).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Invalid);
    let mut held = Vec::new();
    for turn in 0..4 {
        held.extend(both[turn % 2].reserve(&permits).await.unwrap().1);
    }
    assert_eq!(held.len(), 3);
    held.pop().unwrap().keep();
    held.pop().unwrap().settle(1);
    drop(held);
    // Each limiter tells of its own reservations before its next decision.
    for limiter in &both {
        limiter.peek(&permits).await.unwrap();
    }
    assert_eq!(both[0].peek(&permits).await.unwrap().remaining, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_in_redis_has_a_time_to_live() {
    let server = Server::start(Kind::Redis).await.unwrap();
    let options = Options::new(server.url(), "ttl").timeout(Duration::from_secs(20));
    let limiter = RedisLimiter::connect(options, SystemClock::shared()).await.unwrap();
    let limiter = every_limit()
        .into_iter()
        .fold(limiter, |limiter, (name, limit)| limiter.limit(name, limit).unwrap());
    let limiter = limiter.limit("held", Limit::concurrent(2).unwrap()).unwrap();
    let names = ["bucket", "fixed", "sliding", "log", "blocks", "held"];
    let charges = names.map(|name| charge(name, "ann", 1));
    let (_, held) = limiter.reserve(&charges).await.unwrap();
    drop(held.unwrap());
    limiter.peek(&charges).await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for name in names {
        let key = format!("{{ttl}}:{name}:ann");
        let lives: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
        assert!((1..=700_000).contains(&lives), "{key} lives {lives} ms");
    }
}

#[tokio::test]
async fn bad_charges_and_bad_addresses_are_refused_before_anything_is_asked() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let error = RedisLimiter::connect(Options::new("nonsense", "x"), Arc::clone(&clock)).await;
    assert_eq!(error.unwrap_err().kind(), &ErrorKind::Invalid);
    let limiter = RedisLimiter::connect(options(), clock).await.unwrap();
    let error = limiter.acquire(&[charge("nobody", "x", 1)]).await.unwrap_err();
    assert!(error.to_string().contains("limit nobody is not declared"), "{error}");
    let slow = Quota::new(1, Duration::from_hours(24 * 300)).unwrap();
    let nodes = NonZeroU32::new(2).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let two = RedisLimiter::connect(options().nodes(nodes), clock).await.unwrap();
    assert_eq!(two.limit("slow", slow).unwrap_err().kind(), &ErrorKind::Invalid);
}

/// A limiter of four nodes on a server of its own, with a limit of 40 that hardly refills.
async fn lonely(server: &Server, outage: Outage) -> RedisLimiter {
    let options = Options::new(server.url(), "lonely")
        .nodes(NonZeroU32::new(4).unwrap())
        .timeout(Duration::from_secs(5))
        .probe(Duration::from_millis(20))
        .outage(outage);
    let limiter = RedisLimiter::connect(options, SystemClock::shared()).await.unwrap();
    limiter.limit("all", Quota::new(40, Duration::from_hours(1)).unwrap()).unwrap()
}

async fn admitted(limiter: &RedisLimiter, most: u32) -> u32 {
    let mut admitted = 0;
    for _ in 0..most {
        let decision = limiter.acquire(&[charge("all", "ann", 1)]).await.unwrap();
        admitted += u32::from(decision.is_admitted());
    }
    admitted
}

/// Waits until the limiter knows what has become of the server.
async fn until(limiter: &RedisLimiter, is_lost: bool) {
    while limiter.is_lost() != is_lost {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_redis_enforces_its_share_and_adds_it_on_return() {
    let mut server = Server::start(Kind::Redis).await.unwrap();
    let limiter = lonely(&server, Outage::Share).await;
    assert_eq!(admitted(&limiter, 20).await, 20);
    server.kill().unwrap();
    // A quarter of what is left: the share knows that half was spent.
    assert_eq!(admitted(&limiter, 20).await, 5);
    assert!(limiter.is_lost());
    let one = [charge("all", "ann", 1)];
    assert!(!limiter.peek(&one).await.unwrap().is_admitted());
    let fresh = [charge("all", "bob", 10)];
    let (_, held) = limiter.reserve(&fresh).await.unwrap();
    assert!(!limiter.acquire(&[charge("all", "bob", 1)]).await.unwrap().is_admitted());
    drop(held);
    assert!(limiter.acquire(&[charge("all", "bob", 4)]).await.unwrap().is_admitted());
    server.restart().await.unwrap();
    until(&limiter, false).await;
    assert_eq!(admitted(&limiter, 40).await, 15, "20 and 5 of 40 are spent");
    assert_eq!(limiter.peek(&[charge("all", "bob", 1)]).await.unwrap().remaining, 35);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_everything_or_nothing_passes_if_that_is_declared() {
    let mut server = Server::start(Kind::Redis).await.unwrap();
    let open = lonely(&server, Outage::Open).await;
    let closed = lonely(&server, Outage::Closed).await;
    server.kill().unwrap();
    assert_eq!(admitted(&open, 50).await, 50);
    assert!(open.reserve(&[charge("all", "ann", 1)]).await.unwrap().1.is_some());
    let error = closed.acquire(&[charge("all", "ann", 1)]).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unavailable);
    let late = lonely(&server, Outage::Share).await;
    assert!(late.is_lost(), "a node that starts without Redis starts by itself");
    assert_eq!(admitted(&late, 50).await, 10);
}

/// What a node of the cluster printed.
#[derive(Debug)]
struct Node {
    admitted: u64,
    p99_of_lost: Duration,
    lost: u64,
}

fn start_node(url: &str, words: &str) -> Child {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/node");
    Command::new(&path)
        .arg(url)
        .args(words.split(' '))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn said(node: Child) -> Node {
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    Node { admitted: numbers[0], p99_of_lost: Duration::from_micros(numbers[6]), lost: numbers[5] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_key_get_exactly_the_capacity() {
    let namespace = format!("two-{:x}", Random::from_system().next_u64());
    let url = shared(Kind::Redis).unwrap();
    // Nothing comes back within an hour, so the clock stands still for these limits.
    let of_two = |words: String| {
        let nodes: Vec<_> = (0..2).map(|_| start_node(&url, &words)).collect();
        let nodes: Vec<_> = nodes.into_iter().map(said).collect();
        nodes.iter().map(|node| node.admitted).sum::<u64>()
    };
    assert_eq!(of_two(format!("{namespace}-b 1 300 3600000000 1.5 16 1500 20000")), 300);
    assert_eq!(of_two(format!("{namespace}-w 1 5 3600000000 1 16 1500 20000 log")), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_keep_the_limit_while_redis_dies_and_returns() {
    const RATE: u64 = 500;
    const BURST: u64 = 100;
    let outage = number("INFRA_RATELIMIT_OUTAGE_SECONDS", 2);
    let seconds = outage + 4;
    let mut server = Server::start(Kind::Redis).await.unwrap();
    let words = format!("five 5 {BURST} {} {seconds} 8 300 50", 1_000_000 / RATE);
    let nodes: Vec<_> = (0..5).map(|_| start_node(&server.url(), &words)).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(u64::from(outage))).await;
    server.restart().await.unwrap();
    let nodes: Vec<_> = nodes.into_iter().map(said).collect();
    let admitted: u64 = nodes.iter().map(|node| node.admitted).sum();
    let limit = BURST + RATE * u64::from(seconds);
    println!("{admitted} admitted of a limit of {limit}: {nodes:?}");
    assert!(nodes.iter().all(|node| 0 < node.lost), "every node noticed: {nodes:?}");
    // The timeout is 50 ms; in CI ten times that, for a machine that is busy: no decision waits for the outage.
    let bound = Duration::from_millis(if outage < 10 { 500 } else { 60 });
    assert!(nodes.iter().all(|node| node.p99_of_lost < bound), "{nodes:?}");
    assert!(limit * 9 <= admitted * 10 && admitted * 10 <= limit * 11, "{admitted} of {limit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_a_limit_of_its_own_on_every_node_that_is_told_and_in_an_outage() {
    let mut server = Server::start(Kind::Redis).await.unwrap();
    let limiter = lonely(&server, Outage::Share).await;
    let premium = Quota::new(80, Duration::from_hours(1)).unwrap();
    limiter.assign("all", "ann", premium).unwrap();
    assert_eq!(admitted(&limiter, 60).await, 60);
    let bob = [charge("all", "bob", 41)];
    assert_eq!(limiter.peek(&bob).await.unwrap().verdict, Verdict::Never);
    let otherwise = limiter.assign("all", "ann", Limit::log(Window::per_second(5).unwrap()));
    assert_eq!(otherwise.unwrap_err().kind(), &ErrorKind::Invalid);
    let undeclared = limiter.assign("nobody", "ann", premium);
    assert_eq!(undeclared.unwrap_err().kind(), &ErrorKind::Invalid);
    server.kill().unwrap();
    assert_eq!(admitted(&limiter, 20).await, 5, "a quarter of the 20 that are left");
    server.restart().await.unwrap();
    until(&limiter, false).await;
    // The server has lost what was spent; this node adds what passed without it.
    assert_eq!(limiter.peek(&[charge("all", "ann", 1)]).await.unwrap().capacity, 80);
    limiter.unassign("all", "ann").unwrap();
    assert_eq!(limiter.peek(&[charge("all", "ann", 1)]).await.unwrap().capacity, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_changes_keeps_what_was_spent_and_makes_no_burst() {
    let (clock, options) = (ManualClock::new(), options());
    let second = |capacity| Quota::new(capacity, Duration::from_secs(1)).unwrap();
    let mut both = Vec::new();
    for _ in 0..2 {
        let limiter = RedisLimiter::connect(options.clone(), Arc::new(clock.clone())).await;
        both.push(limiter.unwrap().limit("one", second(10)).unwrap());
    }
    let [told, untold] = both.as_slice() else { panic!("two nodes") };
    let take = |cost| [charge("one", "ann", cost)];
    assert!(told.acquire(&take(9)).await.unwrap().is_admitted());
    let (_, held) = told.reserve(&take(1)).await.unwrap();
    assert!(!untold.acquire(&take(1)).await.unwrap().is_admitted());
    told.change("one", second(15)).unwrap();
    assert!(told.acquire(&take(5)).await.unwrap().is_admitted(), "what is more, and no more");
    assert_eq!(told.clone().acquire(&take(1)).await.unwrap().retry_after(), Some(SECOND));
    // What a node that is not told decides changes nothing of what was spent.
    assert!(!untold.acquire(&take(1)).await.unwrap().is_admitted());
    drop(held);
    assert!(told.acquire(&take(1)).await.unwrap().is_admitted(), "what was given back");
    assert_eq!(told.acquire(&take(1)).await.unwrap().retry_after(), Some(SECOND), "15 are spent");
    // Two seconds at the old rate, then an hour for each.
    clock.advance(SECOND * 2);
    told.change("one", Quota::new(15, Duration::from_hours(1)).unwrap()).unwrap();
    clock.advance(SECOND * 60);
    assert!(told.acquire(&take(2)).await.unwrap().is_admitted());
    let refused = told.acquire(&take(1)).await.unwrap();
    assert_eq!(refused.retry_after(), Some(Duration::from_mins(59)));
    // As many are gone of a window, and no more than there can be.
    told.change("one", Limit::log(Window::per_minute(12).unwrap())).unwrap();
    let refused = told.acquire(&take(1)).await.unwrap();
    assert_eq!((refused.capacity, refused.retry_after()), (12, Some(SECOND * 60)));
    clock.advance(SECOND * 60);
    assert!(told.acquire(&take(12)).await.unwrap().is_admitted());
    let error = told.change("nobody", second(1)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_counts_as_long_as_it_is_held_and_a_dead_node_gives_its_own_back() {
    let permits = Limit::concurrent(2).unwrap();
    let options = options().time(Time::Server).lease(Duration::from_millis(900));
    let open = async move |options: Options| {
        let limiter = RedisLimiter::connect(options, SystemClock::shared()).await.unwrap();
        limiter.limit("permits", permits).unwrap()
    };
    let one = [charge("permits", "ann", 1)];
    let keeps = open(options.clone()).await;
    let (_, kept) = keeps.reserve(&one).await.unwrap();
    // A node that dies renews nothing and gives nothing back.
    let dying = Runtime::new().unwrap();
    let asked = one.clone();
    let dies = dying.spawn(async move { open(options).await.reserve(&asked).await.unwrap().1 });
    let lost = dies.await.unwrap();
    dying.shutdown_background();
    assert!(!keeps.peek(&one).await.unwrap().is_admitted(), "both are out");
    while !keeps.peek(&one).await.unwrap().is_admitted() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    assert_eq!(keeps.peek(&one).await.unwrap().remaining, 0, "one is still out");
    drop(kept);
    assert_eq!(keeps.peek(&one).await.unwrap().remaining, 1, "and comes back when it is let go");
    drop(lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_that_were_taken_without_redis_count_when_it_is_back_and_come_back_too() {
    let mut server = Server::start(Kind::Redis).await.unwrap();
    let limiter = lonely(&server, Outage::Share).await;
    let limiter = limiter.limit("permits", Limit::concurrent(8).unwrap()).unwrap();
    let take = |cost| [charge("permits", "ann", cost)];
    let (_, before) = limiter.reserve(&take(3)).await.unwrap();
    server.kill().unwrap();
    let (decision, meanwhile) = limiter.reserve(&take(2)).await.unwrap();
    assert!(decision.is_admitted() && decision.capacity == 2, "a quarter of eight: {decision:?}");
    assert!(limiter.reserve(&take(1)).await.unwrap().1.is_none());
    server.restart().await.unwrap();
    until(&limiter, false).await;
    // The leases are renewed right after; until then what was taken alone is not counted yet.
    while limiter.peek(&take(4)).await.unwrap().is_admitted() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(limiter.peek(&take(3)).await.unwrap().is_admitted(), "five of eight are out");
    drop(meanwhile);
    assert!(limiter.peek(&take(5)).await.unwrap().is_admitted());
    drop(before);
    assert!(limiter.peek(&take(8)).await.unwrap().is_admitted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_forgets_what_was_spent_and_a_block_for_every_node() {
    let options = options();
    let mut both = Vec::new();
    for _ in 0..2 {
        let limiter = RedisLimiter::connect(options.clone(), Arc::new(ManualClock::new())).await;
        let window = Window::per_second(2).unwrap();
        let blocks = Limit::fixed(window).block(Duration::from_mins(5));
        both.push(limiter.unwrap().limit("blocks", blocks).unwrap());
    }
    let one = [charge("blocks", "ann", 1)];
    for admits in [true, true, false] {
        assert_eq!(both[0].acquire(&one).await.unwrap().is_admitted(), admits);
    }
    assert_eq!(both[1].acquire(&one).await.unwrap().retry_after(), Some(Duration::from_mins(5)));
    both[0].reset("blocks", "ann").await.unwrap();
    assert!(both[1].acquire(&one).await.unwrap().is_admitted());
    let undeclared = both[0].reset("nobody", "ann").await.unwrap_err();
    assert_eq!(undeclared.kind(), &ErrorKind::Invalid);
}
