//! The tier and the leases on real Redis: contracts, counters, and what the server may suffer.

#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::similar_names,
    clippy::large_futures,
    clippy::too_many_lines,
    clippy::cast_possible_wrap,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use infra_cache::redis::{RedisCache, RedisLeases, RedisOptions};
use infra_core::{
    Error, ErrorKind, SystemClock,
    cache::{Cache, CacheExt as _, Put},
    health::{HealthCheck as _, Status},
    id::Scope,
    lease::Leases,
    version::FencingToken,
};
use infra_testkit::{
    contract::cache::{CAPACITY, wrong::Wrong},
    proxy::{FaultProxy, Faults},
    seed::Seed,
    server::{Kind, Server, shared},
};
use rand::RngExt as _;
use tokio::task::JoinSet;

const SECOND: Duration = Duration::from_secs(1);

/// Returns a prefix that no other test uses.
fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst))
}

/// On a busy machine a server may take long to answer; a test that is not about time waits.
fn options(url: &str, prefix: &str) -> RedisOptions {
    RedisOptions::new(url, prefix).timeout(SECOND * 10)
}

async fn connect(url: &str, prefix: &str) -> RedisCache {
    RedisCache::connect(options(url, prefix), SystemClock::shared()).await.unwrap()
}

async fn bounded() -> Arc<dyn Cache> {
    let options = options(&shared(Kind::Redis).unwrap(), &prefix()).capacity(CAPACITY as u64);
    Arc::new(RedisCache::connect(options, SystemClock::shared()).await.unwrap())
}

async fn leases_on(url: &str, prefix: &str) -> RedisLeases {
    RedisLeases::connect(options(url, prefix), SystemClock::shared()).await.unwrap()
}

async fn leases() -> Arc<dyn Leases> {
    Arc::new(leases_on(&shared(Kind::Redis).unwrap(), &prefix()).await)
}

/// Talks to a server directly.
async fn raw(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn command(url: &str, words: &[&str]) -> redis::Value {
    let (name, rest) = words.split_first().unwrap();
    redis::cmd(name).arg(rest).query_async(&mut raw(url).await).await.unwrap()
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind().clone()
}

mod redis_keeps {
    infra_testkit::cache_contract!(real super::bounded());

    #[test]
    fn planted_bugs_are_caught_over_redis_too() {
        use infra_testkit::contract::cache::{self as suite, wrong::Bug};
        for (bug, catch) in
            [(Bug::Unfenced, "fenced"), (Bug::OldTags, "tagged"), (Bug::ScansAll, "scanned")]
        {
            let verdict = infra_testkit::contract::run(false, async {
                let wrong = super::Wrong::plant(super::bounded().await, bug);
                match catch {
                    "fenced" => suite::fenced(wrong).await,
                    "tagged" => suite::tagged(wrong).await,
                    _ => suite::scanned(wrong).await,
                }
            });
            assert!(verdict.is_err(), "{bug:?}");
        }
    }
}

mod leases_keep {
    infra_testkit::stamp!(
        infra_testkit::contract::lease,
        [one_owner, apart, exclusive, growing, late_is_lost, reentrant_never],
        timed [],
        super::leases()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_connection_puts_another_one_finds() {
    let (url, prefix) = (shared(Kind::Redis).unwrap(), prefix());
    let (one, two) = (connect(&url, &prefix).await, connect(&url, &prefix).await);
    let other = connect(&url, &format!("{prefix}-other")).await;
    one.put("key1", Bytes::from_static(b"1"), None).await.unwrap();
    assert_eq!(two.get("key1").await.unwrap(), Some(Bytes::from_static(b"1")));
    assert_eq!(other.get("key1").await.unwrap(), None, "a prefix has its own keys");
    assert!(two.remove("key1").await.unwrap());
    assert_eq!(one.get("key1").await.unwrap(), None);
    for refused in ["", "a{b"] {
        let refused = RedisCache::connect(RedisOptions::new(&url, refused), SystemClock::shared());
        assert_eq!(kind(refused.await), ErrorKind::Invalid);
    }
    let refused = RedisCache::connect(RedisOptions::new("no url", "a"), SystemClock::shared());
    assert_eq!(kind(refused.await), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_kept_in_milliseconds_and_cleared_by_a_put_without() {
    let (url, prefix) = (shared(Kind::Redis).unwrap(), prefix());
    let cache = connect(&url, &prefix).await;
    let left = async || -> i64 {
        let key = format!("{{{prefix}}}:v:key");
        redis::cmd("PTTL").arg(key).query_async(&mut raw(&url).await).await.unwrap()
    };
    for millis in [250, 1_000, 5_000] {
        cache.put("key", Bytes::new(), Some(Duration::from_millis(millis))).await.unwrap();
        let left = left().await;
        assert!(0 < left && left <= millis as i64, "{left} of {millis}");
        let found = cache.look(&["key"]).await.unwrap().found.pop().flatten().unwrap();
        assert!(found.left.unwrap() <= Duration::from_millis(millis));
    }
    cache.put("key", Bytes::new(), None).await.unwrap();
    assert_eq!(left().await, -1);
    cache.put("key", Bytes::new(), Some(Duration::from_micros(900))).await.unwrap();
    assert_eq!(left().await, -2, "less than a millisecond is none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_tasks_count_to_sixteen_thousand_without_losing_one() {
    let (url, prefix) = (shared(Kind::Redis).unwrap(), prefix());
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(connect(&url, &prefix).await);
    }
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let cache = connections[task % 4].clone();
        tasks.spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..1_000 {
                seen.push(cache.increment("counter", 1, None).await.unwrap());
            }
            seen
        });
    }
    let seen: Vec<i64> = tasks.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<i64> = seen.iter().copied().collect();
    assert_eq!((distinct.len(), distinct.last()), (16_000, Some(&16_000)));
    let cache = &connections[0];
    assert_eq!(cache.get("counter").await.unwrap(), Some(Bytes::from_static(b"16000")));
    assert_eq!(cache.increment("fresh", 0, Some(SECOND)).await.unwrap(), 0, "zero is a number");
    assert_eq!(cache.increment("fresh", 5, None).await.unwrap(), 5);
    assert_eq!(cache.increment("fresh", -2, None).await.unwrap(), 3);
    let left = cache.look(&["fresh"]).await.unwrap().found.pop().flatten().unwrap().left;
    assert!(left.is_some_and(|left| left <= SECOND), "counting on keeps the time: {left:?}");
    cache.put("text", Bytes::from_static(b"seven"), None).await.unwrap();
    assert_eq!(kind(cache.increment("text", 1, None).await), ErrorKind::Invalid);
    assert_eq!(cache.get("text").await.unwrap(), Some(Bytes::from_static(b"seven")));
    cache.put("most", Bytes::from(i64::MAX.to_string()), None).await.unwrap();
    assert_eq!(kind(cache.increment("most", 1, None).await), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_each_tag_are_those_of_the_live_values_that_carry_it() {
    const TAGS: [&str; 3] = ["red", "green", "blue"];
    for seed in Seed::each(6) {
        let mut dice = seed.dice();
        let cache = bounded().await;
        let mut model: HashMap<String, BTreeSet<&str>> = HashMap::new();
        for step in 0..60 {
            let key = format!("k{}", dice.random_range(0..12));
            match dice.random_range(0..8) {
                0..4 => {
                    let tags: BTreeSet<&str> = TAGS.into_iter().filter(|_| dice.random()).collect();
                    let mut put = Put::new(&key, key.clone());
                    put.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
                    cache.put_many(vec![put]).await.unwrap();
                    model.insert(key, tags);
                }
                4 => {
                    let was_there = model.remove(&key).is_some();
                    assert_eq!(cache.remove(&key).await.unwrap(), was_there, "{seed}, step {step}");
                }
                5 => {
                    let tag = TAGS[dice.random_range(0..3)];
                    let carry = model.values().filter(|tags| tags.contains(tag)).count();
                    assert_eq!(
                        cache.remove_tag(tag).await.unwrap(),
                        carry as u64,
                        "{seed}, step {step}"
                    );
                    model.retain(|_, tags| !tags.contains(tag));
                }
                6 if dice.random_ratio(1, 10) => {
                    cache.clear().await.unwrap();
                    model.clear();
                }
                _ => {
                    let put = Put::new(&key, "brief").ttl(Duration::from_millis(1)).tagged("red");
                    cache.put_many(vec![put]).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    model.remove(&key);
                }
            }
            for tag in TAGS {
                let found: BTreeSet<String> =
                    cache.tagged(tag).await.unwrap().into_iter().collect();
                let carry = model.iter().filter(|(_, tags)| tags.contains(tag));
                let expected: BTreeSet<String> = carry.map(|(key, _)| key.clone()).collect();
                assert_eq!(found, expected, "{seed}, step {step}, {tag}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purging_takes_away_what_is_not_found_any_more_and_nothing_else() {
    let (url, prefix) = (shared(Kind::Redis).unwrap(), prefix());
    let cache = connect(&url, &prefix).await;
    for number in 0..50 {
        cache.put(&format!("old {number}"), Bytes::new(), None).await.unwrap();
    }
    cache.clear().await.unwrap();
    cache.put("new", Bytes::from_static(b"1"), None).await.unwrap();
    assert_eq!(cache.purge().await.unwrap(), 50);
    assert_eq!(cache.purge().await.unwrap(), 0);
    assert_eq!(cache.get("new").await.unwrap(), Some(Bytes::from_static(b"1")));
}

/// Puts a value, and takes a ticket before it is removed again.
async fn removed(cache: &RedisCache) -> infra_core::cache::Ticket {
    cache.put("kept", Bytes::from_static(b"1"), None).await.unwrap();
    let ticket = cache.look(&["gone"]).await.unwrap().ticket;
    cache.put("gone", Bytes::from_static(b"old"), None).await.unwrap();
    cache.remove("gone").await.unwrap();
    ticket
}

/// Waits until the server answers again.
async fn back(cache: &RedisCache) {
    for _ in 0..2_000 {
        if cache.look(&[]).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server does not come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_a_typed_error_and_one_that_comes_back_serves_nothing_stale() {
    let mut server = Server::start(Kind::Redis).await.unwrap();
    let cache = connect(&server.url(), "a").await;
    let ticket = removed(&cache).await;
    assert_eq!(cache.check().await.status, Status::Up);
    server.kill().unwrap();
    let error = kind(cache.get("kept").await);
    assert!(matches!(error, ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
    assert!(cache.remove("kept").await.is_err() && cache.clear().await.is_err());
    assert_eq!(cache.check().await.status, Status::Degraded);
    server.restart().await.unwrap();
    back(&cache).await;
    assert_eq!(cache.get_many(&["kept", "gone"]).await.unwrap(), [None, None], "it begins cold");
    let fill = cache.fill(ticket, vec![Put::new("gone", "old")]).await.unwrap();
    assert_eq!(fill, 0, "a fill from before the restart");
    cache.put("kept", Bytes::from_static(b"2"), None).await.unwrap();
    assert_eq!(cache.get("kept").await.unwrap(), Some(Bytes::from_static(b"2")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_server_serves_nothing_and_takes_no_fill_from_before() {
    let server = Server::start(Kind::Redis).await.unwrap();
    let cache = connect(&server.url(), "a").await;
    let ticket = removed(&cache).await;
    command(&server.url(), &["FLUSHALL"]).await;
    assert_eq!(cache.fill(ticket, vec![Put::new("gone", "old")]).await.unwrap(), 0);
    assert_eq!(cache.get_many(&["kept", "gone"]).await.unwrap(), [None, None]);
    // What is left of a cache whose root alone was lost is not believed either.
    let ticket = removed(&cache).await;
    command(&server.url(), &["DEL", "{a}:root"]).await;
    assert_eq!(cache.fill(ticket, vec![Put::new("gone", "old")]).await.unwrap(), 0);
    assert_eq!(cache.get_many(&["kept", "gone"]).await.unwrap(), [None, None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_costs_one_time_out_and_then_none() {
    let server = Server::start(Kind::Redis).await.unwrap();
    let options = RedisOptions::new(server.url(), "a").timeout(Duration::from_millis(200));
    let clock = infra_testkit::clock::ManualClock::new();
    let cache = RedisCache::connect(options, Arc::new(clock.clone())).await.unwrap();
    cache.put("a", Bytes::new(), None).await.unwrap();
    server.freeze().unwrap();
    assert_eq!(kind(cache.get("a").await), ErrorKind::Timeout);
    // The circuit's pause is on a clock that stands still, so all of these are refused unsent.
    let began = SystemClock::new();
    for _ in 0..1_000 {
        assert_eq!(kind(cache.get("a").await), ErrorKind::Unavailable);
    }
    let took = infra_core::Clock::now(&began).since_start();
    assert!(took < SECOND * 100, "a thousand time-outs would take 200 s, these took {took:?}");
    clock.advance(SECOND);
    let mut herd = JoinSet::new();
    for _ in 0..100 {
        let cache = cache.clone();
        herd.spawn(async move { kind(cache.get("a").await) });
    }
    let is_outage = |kind| matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout);
    assert!(herd.join_all().await.into_iter().all(is_outage));
    server.thaw().unwrap();
    clock.advance(SECOND * 10);
    for _ in 0..100 {
        if cache.get("a").await.is_ok() {
            break;
        }
        clock.advance(SECOND * 10);
    }
    assert_eq!(cache.get("a").await.unwrap(), Some(Bytes::new()), "it kept its data");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_within_an_answer_leaves_a_write_indeterminate_and_heals() {
    let server = Server::start(Kind::Redis).await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let cache = connect(&format!("redis://{}", proxy.addr()), "a").await;
    let direct = connect(&server.url(), "a").await;
    let mut fates = BTreeSet::new();
    for cut in (0..8).map(|cut| 7_000 + cut * 7) {
        proxy.set(Faults { cut_after: Some(cut), ..Faults::default() });
        proxy.cut();
        for number in 0..200_u64 {
            let value = Bytes::from(number.to_string());
            match cache.put("a", value.clone(), None).await {
                Ok(()) => assert_eq!(direct.get("a").await.unwrap(), Some(value)),
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    fates.insert(error.kind().name());
                    break;
                }
            }
        }
        proxy.set(Faults::default());
        proxy.cut();
        back(&cache).await;
        let value = direct.get("a").await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), value, "both see the same");
    }
    assert!(fates.contains("indeterminate") || fates.contains("unavailable"), "{fates:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_its_memory_limit_no_policy_brings_back_what_was_removed() {
    let policies = [
        "noeviction",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ];
    let server = Server::start(Kind::Redis).await.unwrap();
    let url = server.url();
    for policy in policies {
        command(&url, &["CONFIG", "SET", "maxmemory", "0"]).await;
        command(&url, &["FLUSHALL"]).await;
        command(&url, &["CONFIG", "SET", "maxmemory-policy", policy]).await;
        let cache = connect(&url, "a").await;
        command(&url, &["CONFIG", "SET", "maxmemory", "4mb"]).await;
        let mut written: HashMap<String, u64> = HashMap::new();
        let mut refused = 0;
        let mut dice = Seed(7).dice();
        for step in 0..1_500_u64 {
            let key = format!("k{}", dice.random_range(0..300));
            let body = Bytes::from(format!("{step} {}", "x".repeat(20_000)));
            if dice.random_ratio(1, 3) {
                match cache.remove(&key).await {
                    Ok(_) => drop(written.remove(&key)),
                    Err(error) => panic!("{policy}: removing needs no memory: {error}"),
                }
            } else {
                let put = Put::new(&key, body).ttl(SECOND * 100);
                match cache.put_many(vec![put]).await {
                    Ok(()) => drop(written.insert(key.clone(), step)),
                    Err(error) => {
                        assert_eq!(*error.kind(), ErrorKind::Overloaded, "{policy}: {error}");
                        refused += 1;
                    }
                }
            }
            let asked = format!("k{}", dice.random_range(0..300));
            if let Some(found) = cache.get(&asked).await.unwrap() {
                let text = String::from_utf8(found.to_vec()).unwrap();
                let number = text.split(' ').next().unwrap().parse().ok();
                assert_eq!(number, written.get(&asked).copied(), "{policy}, step {step}: {asked}");
            }
        }
        assert!(refused == 0 || policy == "noeviction", "{policy} refuses {refused}");
        let leases = RedisLeases::connect(options(&url, "a"), SystemClock::shared()).await;
        assert_eq!(leases.is_ok(), policy == "noeviction", "{policy}: leases must not be evicted");
        if let Err(error) = leases {
            assert_eq!(*error.kind(), ErrorKind::Unsupported);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fencing_token_never_shrinks_whatever_the_server_forgets() {
    let mut server = Server::start(Kind::Redis).await.unwrap();
    let url = server.url();
    let scope = Scope::new("room").unwrap();
    let mut last = FencingToken::ZERO;
    for fate in ["nothing", "flushed", "restarted", "restarted without its data", "flushed again"] {
        match fate {
            "restarted" => server.restart().await.unwrap(),
            "restarted without its data" => {
                server.kill().unwrap();
                server = Server::start(Kind::Redis).await.unwrap();
            }
            "nothing" => {}
            _ => drop(command(&server.url(), &["FLUSHALL"]).await),
        }
        let leases = leases_on(&server.url(), "a").await;
        let held = leases.holder(&scope).await.unwrap();
        if let Some(held) = held {
            leases.release(held).await.unwrap();
        }
        for _ in 0..3 {
            let lease = leases.acquire(&scope, "ann", SECOND * 100).await.unwrap().unwrap();
            assert!(last < lease.token, "{fate}: {} after {last}", lease.token);
            last = lease.token;
            leases.release(lease).await.unwrap();
        }
        drop(leases.acquire(&scope, "ann", SECOND * 100).await.unwrap());
    }
    assert_ne!(url, server.url());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_want_a_lock_one_has_it_and_the_others_wait_as_long_as_they_say() {
    let (url, prefix) = (shared(Kind::Redis).unwrap(), prefix());
    let scope = Scope::new("resource").unwrap();
    let one = leases_on(&url, &prefix).await;
    let lease = one.acquire_within(&scope, "one", SECOND * 100, SECOND).await.unwrap();
    let two = leases_on(&url, &prefix).await;
    let wait = Duration::from_millis(100);
    let late = two.acquire_within(&scope, "two", SECOND * 100, wait).await;
    assert_eq!(kind(late), ErrorKind::Timeout);
    let foreign = infra_core::lease::Lease { token: lease.token.next(), ..lease.clone() };
    assert_eq!(kind(two.release(foreign).await), ErrorKind::LeaseLost, "another owner's");
    one.release(lease).await.unwrap();
    let inside = Arc::new(AtomicU32::new(0));
    let mut owners = JoinSet::new();
    for owner in 0..16 {
        let leases = leases_on(&url, &prefix).await;
        let (scope, inside) = (scope.clone(), Arc::clone(&inside));
        owners.spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..5 {
                let name = format!("owner {owner}");
                let lease =
                    leases.acquire_within(&scope, &name, SECOND * 60, SECOND * 60).await.unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                tokens.push(lease.token);
                leases.release(lease).await.unwrap();
            }
            tokens
        });
    }
    let tokens: Vec<_> = owners.join_all().await.into_iter().flatten().collect();
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), 80, "each has a token of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_renews_until_it_is_released_and_says_when_it_has_lost() {
    let mut server = Server::start(Kind::Redis).await.unwrap();
    let leases = leases_on(&server.url(), "a").await;
    let scope = Scope::new("room").unwrap();
    let ttl = Duration::from_millis(600);
    let lease = leases.acquire(&scope, "ann", ttl).await.unwrap().unwrap();
    let guard = leases.guard(lease.clone(), ttl);
    while guard.lease().unwrap().expires <= lease.expires {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(ttl * 2).await;
    assert_eq!(leases.acquire(&scope, "bob", ttl).await.unwrap(), None, "it is renewed");
    guard.release().await.unwrap();
    let lease = leases.acquire(&scope, "bob", ttl).await.unwrap().unwrap();
    let guard = leases.guard(lease, ttl);
    server.kill().unwrap();
    assert_eq!(*guard.lost().await.kind(), ErrorKind::LeaseLost);
    assert_eq!(kind(guard.lease()), ErrorKind::LeaseLost);
}
