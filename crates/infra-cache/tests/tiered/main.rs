//! Memory, a second tier and a backplane between two processes' caches.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::too_many_lines,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod behind;
mod documents;
mod origin;
mod rules;
mod through;
mod warm;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use infra_cache::{BytesCache, Glob, Loaded, Options, Origin, Outage, Tiered, TieredBuilder};
use infra_core::{
    Error, ErrorKind, Result, SystemClock,
    cache::{Cache, Looked, Put, Ticket},
    health::{HealthCheck as _, Status},
    lease::Leases,
    lifecycle::Shutdown,
    pubsub::{PubSub, Subject},
};
use infra_testkit::model::{ModelLeases, ModelPubSub};
use parking_lot::Mutex;

const SECOND: Duration = Duration::from_secs(1);

fn remote() -> Arc<dyn Cache> {
    Arc::new(BytesCache::new(Options::new(1_000), SystemClock::shared()))
}

fn over(remote: &Arc<dyn Cache>) -> TieredBuilder {
    let options = Options::new(100).ttl(SECOND * 60);
    TieredBuilder::new(options, SystemClock::shared()).remote(Arc::clone(remote))
}

async fn origin_of(cache: &Tiered<u64>, key: &str) -> (Option<u64>, Origin) {
    let read = cache.read_or_load(key, || async { Ok(Loaded::new(99)) }).await.unwrap();
    (read.value, read.origin)
}

#[tokio::test(start_paused = true)]
async fn a_value_comes_from_the_nearest_tier_that_has_it_and_never_outlives_the_farther_one() {
    let remote = remote();
    let (one, two): (Tiered<u64>, Tiered<u64>) =
        (over(&remote).remote_ttl(SECOND * 10).build(), over(&remote).build());
    assert_eq!(origin_of(&one, "a").await, (Some(99), Origin::Loaded));
    assert_eq!(origin_of(&one, "a").await, (Some(99), Origin::Local));
    tokio::time::sleep(SECOND * 4).await;
    assert_eq!(origin_of(&two, "a").await, (Some(99), Origin::Remote));
    assert_eq!(two.get("a").await.unwrap(), Some(99));
    tokio::time::sleep(SECOND * 6).await;
    assert_eq!(two.get("a").await.unwrap(), None, "its time was over there");
    assert_eq!(two.get("never").await.unwrap(), None);
    let newer: Tiered<u64> = over(&remote).schema(2).build();
    one.put("b", Loaded::new(7)).await.unwrap();
    assert_eq!(newer.get("b").await.unwrap(), None, "another schema's value is a miss");
    assert_eq!(two.get("b").await.unwrap(), Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_is_asked_for_exactly_what_neither_tier_has() {
    let remote = remote();
    let (one, two): (Tiered<u64>, Tiered<u64>) = (over(&remote).build(), over(&remote).build());
    let asked: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let recorded = Arc::clone(&asked);
    let load = move |mut keys: Vec<String>| {
        keys.sort_unstable();
        recorded.lock().push(keys.clone());
        async move {
            let exists = keys.into_iter().filter(|key| key != "key3");
            let loaded = exists.map(|key| (key, Loaded::new(1).tagged("all")));
            Ok::<HashMap<_, _>, Error>(loaded.collect())
        }
    };
    let keys =
        |names: &[&str]| -> Vec<String> { names.iter().map(|it| (*it).to_owned()).collect() };
    one.get_many_or_load(&keys(&["key1"]), load.clone()).await.unwrap();
    let found = one.get_many_or_load(&keys(&["key1", "key2", "key3"]), load.clone()).await.unwrap();
    assert_eq!(found, [("key1".to_owned(), 1), ("key2".to_owned(), 1)].into());
    two.get_many_or_load(&keys(&["key1", "key2"]), load).await.unwrap();
    assert_eq!(*asked.lock(), [keys(&["key1"]), keys(&["key2", "key3"])]);
    assert_eq!(one.invalidate_tag("all").await.unwrap(), 2, "the batch has its tags");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_while_it_is_loaded_is_kept_in_neither_tier() {
    let remote = remote();
    let (one, two): (Tiered<u64>, Tiered<u64>) = (over(&remote).build(), over(&remote).build());
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let loading = one.clone();
    let load = tokio::spawn(async move {
        let load = || async move {
            begun.send(()).unwrap();
            ends.await.unwrap();
            Ok(1)
        };
        loading.get_or_load("a", load).await.unwrap()
    });
    begins.await.unwrap();
    // Another process changes the source and removes what is cached.
    assert!(!two.invalidate("a").await.unwrap());
    end.send(()).unwrap();
    assert_eq!(load.await.unwrap(), 1);
    assert_eq!(two.get("a").await.unwrap(), None, "the late value was not kept for all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_removes_what_matches_in_both_tiers_and_nothing_else() {
    let cache: Tiered<u64> = over(&remote()).build();
    for key in ["user:1", "user:2", "post:1", "post:2"] {
        cache.put(key, Loaded::new(1)).await.unwrap();
    }
    let users = Glob::new("user:*").unwrap();
    assert_eq!(cache.keys(&users).await.unwrap(), ["user:1", "user:2"]);
    assert_eq!(cache.invalidate_matching(&users).await.unwrap(), 2);
    assert_eq!(cache.get("user:1").await.unwrap(), None);
    assert_eq!(cache.get("post:1").await.unwrap(), Some(1));
    assert_eq!(cache.invalidate_matching(&users).await.unwrap(), 0);
}

async fn listening(cache: &Tiered<u64>) {
    while !cache.local().contains(&"probe".to_owned()) {
        assert_eq!(cache.get_or_load("probe", || async { Ok(1) }).await.unwrap(), 1);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_reaches_the_other_process_and_silence_ends_the_trust_in_memory() -> Result<()> {
    let (remote, bus) = (remote(), Arc::new(ModelPubSub::new(100)));
    let make = || -> Tiered<u64> {
        let bus = Arc::clone(&bus) as Arc<dyn PubSub>;
        over(&remote).backplane(bus, "cache", SECOND).build()
    };
    let (one, two) = (make(), make());
    let shutdown = Shutdown::new();
    shutdown.spawn(one.backplane().run(shutdown.stop()));
    let other = Shutdown::new();
    other.spawn(two.backplane().run(other.stop()));
    listening(&one).await;
    listening(&two).await;
    one.put("a", Loaded::new(1)).await?;
    assert_eq!(two.get("a").await?, Some(1));
    assert!(two.local().contains(&"a".to_owned()));
    one.invalidate("a").await?;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!two.local().contains(&"a".to_owned()), "it heard of it");
    // The other one stops listening: what it has in memory is not read any more.
    one.put("a", Loaded::new(2)).await?;
    assert_eq!(two.get("a").await?, Some(2));
    other.close(SECOND).await;
    one.put("a", Loaded::new(3)).await?;
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(two.get("a").await?, Some(3));
    shutdown.close(SECOND).await;
    Ok(())
}

/// A second tier that can be lost.
#[derive(Debug)]
struct Breakable {
    inner: Arc<dyn Cache>,
    is_lost: AtomicBool,
}

impl Breakable {
    fn new(is_lost: bool) -> Arc<Self> {
        Arc::new(Self { inner: remote(), is_lost: AtomicBool::new(is_lost) })
    }

    fn tier(&self) -> Result<&dyn Cache> {
        if self.is_lost.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "ask second tier"));
        }
        Ok(&*self.inner)
    }
}

#[async_trait]
impl Cache for Breakable {
    async fn look(&self, keys: &[&str]) -> Result<Looked> {
        self.tier()?.look(keys).await
    }

    async fn put_many(&self, puts: Vec<Put>) -> Result<()> {
        self.tier()?.put_many(puts).await
    }

    async fn fill(&self, ticket: Ticket, puts: Vec<Put>) -> Result<u64> {
        self.tier()?.fill(ticket, puts).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<u64> {
        self.tier()?.remove_many(keys).await
    }

    async fn tagged(&self, tag: &str) -> Result<Vec<String>> {
        self.tier()?.tagged(tag).await
    }

    async fn remove_tag(&self, tag: &str) -> Result<u64> {
        self.tier()?.remove_tag(tag).await
    }

    async fn scan(&self, prefix: &str, cursor: u64) -> Result<(Vec<String>, u64)> {
        self.tier()?.scan(prefix, cursor).await
    }

    async fn clear(&self) -> Result<()> {
        self.tier()?.clear().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_second_tier_is_loaded_around_or_told_and_an_older_value_is_served_instead() {
    for outage in [Outage::Load, Outage::Fail] {
        let second = Breakable::new(false);
        let options = Options::new(100).ttl(SECOND).stale_on_error(SECOND * 60);
        let cache: Tiered<u64> = TieredBuilder::new(options, SystemClock::shared())
            .remote(Arc::clone(&second) as _)
            .outage(outage)
            .build();
        assert_eq!(origin_of(&cache, "a").await, (Some(99), Origin::Loaded));
        tokio::time::sleep(SECOND * 2).await;
        second.is_lost.store(true, Ordering::SeqCst);
        let (value, origin) = origin_of(&cache, "a").await;
        let fresh = cache.get_or_load("b", || async { Ok(1) }).await;
        let keys = ["c".to_owned()];
        let load = |keys: Vec<String>| async move {
            Ok(keys.into_iter().map(|key| (key, Loaded::new(1))).collect())
        };
        let many = cache.get_many_or_load(&keys, load).await;
        assert_eq!(value, Some(99));
        match outage {
            Outage::Load => {
                assert_eq!((origin, fresh.unwrap(), many.unwrap().len()), (Origin::Loaded, 1, 1));
            }
            Outage::Fail => {
                assert_eq!(origin, Origin::Stale);
                assert_eq!(*fresh.unwrap_err().kind(), ErrorKind::Unavailable);
                assert_eq!(*many.unwrap_err().kind(), ErrorKind::Unavailable);
            }
        }
        assert!(cache.invalidate("a").await.is_err() && cache.invalidate_tag("t").await.is_err());
        assert!(cache.clear().await.is_err() && cache.put("a", Loaded::new(1)).await.is_err());
        assert!(!cache.local().contains(&"a".to_owned()), "removed here all the same");
        second.is_lost.store(false, Ordering::SeqCst);
        tokio::time::sleep(SECOND * 10).await;
        assert_eq!(cache.get_or_load("b", || async { Ok(2) }).await.unwrap(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_one_loads_and_the_other_waits_as_long_as_it_says() {
    for (wait, loads) in [(SECOND * 10, 1), (Duration::from_millis(500), 2)] {
        let (second, counted) = (remote(), Arc::new(AtomicU64::new(0)));
        let leases: Arc<dyn Leases> = Arc::new(ModelLeases::new(SystemClock::shared()));
        let make = || -> Tiered<u64> {
            over(&second).exclusive(Arc::clone(&leases), "loads", wait).build()
        };
        let (one, two) = (make(), make());
        let load = || {
            let counted = Arc::clone(&counted);
            || async move {
                tokio::time::sleep(SECOND).await;
                Ok(counted.fetch_add(1, Ordering::SeqCst))
            }
        };
        let (first, other) =
            tokio::join!(one.get_or_load("a", load()), two.get_or_load("a", load()));
        assert_eq!(counted.load(Ordering::SeqCst), loads, "{wait:?}");
        assert_eq!(first.unwrap() == other.unwrap(), loads == 1);
        // The turn was given back, and a key too long for a lease is loaded by whoever comes.
        two.invalidate("a").await.unwrap();
        two.get_or_load("a", load()).await.unwrap();
        two.get_or_load(&"a".repeat(300), load()).await.unwrap();
        assert_eq!(counted.load(Ordering::SeqCst), loads + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_the_bus_and_what_nobody_can_read_empty_the_memory() {
    let (second, bus) = (remote(), Arc::new(ModelPubSub::new(2)));
    let port = Arc::clone(&bus) as Arc<dyn PubSub>;
    let cache: Tiered<u64> = over(&second).backplane(Arc::clone(&port), "cache", SECOND).build();
    assert_eq!(cache.check().await.status, Status::Degraded);
    let shutdown = Shutdown::new();
    shutdown.spawn(cache.backplane().run(shutdown.stop()));
    let subject = Subject::new("cache").unwrap();
    let say = async |text: &'static str, times: usize| {
        for _ in 0..times {
            bus.publish(&subject, text.into()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let beat = r#"{"from":1,"removed":{"beat":7}}"#;
    for (text, times, is_kept) in [
        (beat, 1, true),
        (beat, 9, false),
        ("no message", 1, false),
        (r#"{"from":1,"removed":{"keys":["b"]}}"#, 1, true),
        (r#"{"from":1,"removed":{"tag":"red"}}"#, 1, false),
        (r#"{"from":1,"removed":"everything"}"#, 1, false),
    ] {
        listening(&cache).await;
        assert_eq!(cache.check().await.status, Status::Up);
        let load = || async { Ok(Loaded::new(1).tagged("red")) };
        cache.read_or_load("a", load).await.unwrap();
        assert!(cache.local().contains(&"a".to_owned()));
        say(text, times).await;
        assert_eq!(cache.local().contains(&"a".to_owned()), is_kept, "{text} {times}");
    }
    shutdown.close(SECOND).await;
}
