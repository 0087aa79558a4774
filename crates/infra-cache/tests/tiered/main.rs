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

use std::{collections::HashMap, sync::Arc, time::Duration};

use infra_cache::{BytesCache, Glob, Loaded, Options, Origin, Tiered, TieredBuilder};
use infra_core::{Result, SystemClock, cache::Cache, lifecycle::Shutdown, pubsub::PubSub};
use infra_testkit::model::ModelPubSub;
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
            Ok::<HashMap<_, _>, infra_core::Error>(loaded.collect())
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

/// A second tier that nobody reaches.
#[derive(Debug)]
struct Lost;

fn lost<T>() -> Result<T> {
    Err(infra_core::Error::new(infra_core::ErrorKind::Unavailable, "ask second tier"))
}

#[async_trait::async_trait]
impl Cache for Lost {
    async fn look(&self, _keys: &[&str]) -> Result<infra_core::cache::Looked> {
        lost()
    }

    async fn put_many(&self, _puts: Vec<infra_core::cache::Put>) -> Result<()> {
        lost()
    }

    async fn fill(
        &self,
        _ticket: infra_core::cache::Ticket,
        _puts: Vec<infra_core::cache::Put>,
    ) -> Result<u64> {
        lost()
    }

    async fn remove_many(&self, _keys: &[&str]) -> Result<u64> {
        lost()
    }

    async fn tagged(&self, _tag: &str) -> Result<Vec<String>> {
        lost()
    }

    async fn remove_tag(&self, _tag: &str) -> Result<u64> {
        lost()
    }

    async fn scan(&self, _prefix: &str, _cursor: u64) -> Result<(Vec<String>, u64)> {
        lost()
    }

    async fn clear(&self) -> Result<()> {
        lost()
    }
}
