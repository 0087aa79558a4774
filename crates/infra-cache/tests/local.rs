//! Single-flight loads, fenced fills and expiry, on a manual clock and with many tasks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use infra_cache::{BytesCache, LocalCache, Options};
use infra_core::{Error, ErrorKind, Result, cache::Cache};
use infra_testkit::{clock::ManualClock, seed::Seed};
use tokio::{sync::Barrier, task::JoinSet};

const SECOND: Duration = Duration::from_secs(1);

fn cache(options: Options) -> (ManualClock, LocalCache<u32, u64>) {
    let clock = ManualClock::new();
    (clock.clone(), LocalCache::new(options, Arc::new(clock)))
}

fn down<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unavailable, "load"))
}

#[tokio::test]
async fn a_value_is_fresh_until_its_deadline_and_not_at_it() {
    let (clock, cache) = cache(Options::new(10).ttl(SECOND));
    assert_eq!(cache.get_or_load(&1, async || Ok(7)).await.unwrap(), 7);
    clock.advance(Duration::from_nanos(999_999_999));
    assert_eq!(cache.get(&1), Some(7));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.get_or_load(&1, async || Ok(8)).await.unwrap(), 8);
    cache.put_for(2, 9, None);
    clock.advance(SECOND * 1_000_000);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(9)));
    cache.put_for(2, 9, Some(Duration::ZERO));
    assert_eq!(cache.get(&2), None, "a time of zero removes what was there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_share_one_load_also_of_a_failing_origin() {
    for failing in [false, true] {
        let (_, cache) = cache(Options::new(10));
        let loads = Arc::new(AtomicU32::new(0));
        let all = Arc::new(Barrier::new(1_000));
        let mut callers = JoinSet::new();
        for _ in 0..1_000 {
            let (cache, loads, all) = (cache.clone(), Arc::clone(&loads), Arc::clone(&all));
            callers.spawn(async move {
                all.wait().await;
                let load = async || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    if failing { down() } else { Ok(7) }
                };
                cache.get_or_load(&1, load).await.ok()
            });
        }
        let answers = callers.join_all().await;
        assert_eq!(loads.load(Ordering::SeqCst), 1, "failing: {failing}");
        assert!(answers.iter().all(|answer| *answer == (!failing).then_some(7)));
        assert_eq!(cache.get(&1).is_some(), !failing, "an error is not kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_of_different_keys_run_side_by_side() {
    let (_, cache) = cache(Options::new(100));
    let all = Arc::new(Barrier::new(50));
    let mut callers = JoinSet::new();
    for key in 0..50 {
        let (cache, all) = (cache.clone(), Arc::clone(&all));
        callers.spawn(async move {
            // No load ends before all have begun.
            let load = async || {
                all.wait().await;
                Ok(u64::from(key))
            };
            cache.get_or_load(&key, load).await.unwrap()
        });
    }
    let mut loaded = callers.join_all().await;
    loaded.sort_unstable();
    assert_eq!(loaded, (0..50).collect::<Vec<_>>());
}

/// A way to supersede a load, and what is there then.
type Way = (&'static str, fn(&LocalCache<u32, u64>), Option<u64>);

#[tokio::test]
async fn what_was_invalidated_while_it_was_loaded_is_not_kept() {
    let (_, cache) = cache(Options::new(10));
    let ways: [Way; 3] = [
        (
            "invalidate",
            |cache| {
                cache.invalidate(&1);
            },
            None,
        ),
        ("clear", LocalCache::clear, None),
        ("put", |cache| cache.put(1, 99), Some(99)),
    ];
    for (what, change, kept) in ways {
        cache.clear();
        let inner = cache.clone();
        let loaded = cache.get_or_load(&1, async || {
            change(&inner);
            // Who asks after the change begins a load of its own, and has the newer value.
            if kept.is_none() {
                assert_eq!(inner.get_or_load(&1, async || Ok(2)).await.unwrap(), 2);
                inner.invalidate(&1);
            }
            Ok(1)
        });
        assert_eq!(loaded.await.unwrap(), 1, "{what}: who waited has what was loaded");
        assert_eq!(cache.get(&1), kept, "{what}");
    }
}

#[tokio::test]
async fn a_dropped_leader_hands_over_and_the_last_one_leaves_nothing() {
    let (_, cache) = cache(Options::new(10));
    let never = cache.get_or_load(&1, async || std::future::pending().await);
    let follower = cache.get_or_load(&1, async || Ok(7));
    let mut never = Box::pin(never);
    let mut follower = Box::pin(follower);
    let both = async {
        tokio::select! {
            biased;
            _ = &mut never => panic!("it never ends"),
            _ = &mut follower => panic!("it waits for the leader"),
            () = std::future::ready(()) => {}
        }
    };
    both.await;
    drop(never);
    assert_eq!(follower.await.unwrap(), 7, "the follower loads itself");
    let abandoned = cache.get_or_load(&2, async || std::future::pending().await);
    assert!(tokio::time::timeout(Duration::from_millis(1), abandoned).await.is_err());
    assert_eq!(cache.get_or_load(&2, async || Ok(8)).await.unwrap(), 8);
}

#[tokio::test]
async fn an_older_value_is_served_while_the_origin_fails_but_not_for_ever() {
    let (clock, cache) = cache(Options::new(10).ttl(SECOND).stale_on_error(SECOND * 10));
    cache.put(1, 7);
    clock.advance(SECOND * 2);
    assert_eq!(cache.get(&1), None, "a plain get is fresh or nothing");
    assert_eq!(cache.get_or_load(&1, async || down()).await.unwrap(), 7);
    assert_eq!(cache.get_or_load(&1, async || Ok(8)).await.unwrap(), 8);
    clock.advance(SECOND * 11);
    let error = cache.get_or_load(&1, async || down()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable);
    cache.put(2, 7);
    clock.advance(SECOND * 2);
    cache.invalidate(&2);
    assert!(cache.get_or_load(&2, async || down()).await.is_err(), "invalidated is not stale");
}

#[tokio::test]
async fn the_capacity_holds_and_zero_keeps_nothing() {
    let (_, small) = cache(Options::new(100));
    (0..10_000).for_each(|key| small.put(key, 1));
    assert!(small.len() <= 100, "{}", small.len());
    small.clear();
    assert!(small.is_empty());
    let (_, none) = cache(Options::new(0));
    assert_eq!(none.get_or_load(&1, async || Ok(7)).await.unwrap(), 7);
    assert_eq!(none.len(), 0);
    let (_, fleeting) = cache(Options::new(10).ttl(Duration::ZERO));
    fleeting.put(1, 7);
    assert_eq!(fleeting.get(&1), None);
}

/// A writer changes the origin and then invalidates; no reader that begins after that may see
/// anything older, whatever loads are on their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reader_sees_what_was_replaced_before_it_began() {
    for seed in Seed::each(8) {
        let (_, cache) = cache(Options::new(10));
        let origin = Arc::new(AtomicU64::new(0));
        let published = Arc::new(AtomicU64::new(0));
        let mut readers = JoinSet::new();
        for _ in 0..8 {
            let (cache, origin, published) =
                (cache.clone(), Arc::clone(&origin), Arc::clone(&published));
            readers.spawn(async move {
                for _ in 0..500 {
                    let least = published.load(Ordering::SeqCst);
                    let load = async || {
                        let value = origin.load(Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        Ok(value)
                    };
                    let seen = cache.get_or_load(&1, load).await.unwrap();
                    assert!(least <= seen, "{seed}: {seen} after {least} was published");
                }
            });
        }
        for value in 1..=300 {
            origin.store(value, Ordering::SeqCst);
            cache.invalidate(&1);
            published.store(value, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
        while let Some(read) = readers.join_next().await {
            read.unwrap();
        }
    }
}

#[tokio::test]
async fn the_port_keeps_each_value_for_its_own_time() {
    let clock = ManualClock::new();
    let cache = BytesCache::new(Options::new(10), Arc::new(clock.clone()));
    let one = Bytes::from_static(b"1");
    cache.put("a", one.clone(), Some(SECOND)).await.unwrap();
    cache.put("b", one.clone(), None).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), Some(one.clone()));
    clock.advance(SECOND);
    assert_eq!(cache.get_many(&["a", "b", "c"]).await.unwrap(), [None, Some(one.clone()), None]);
    assert!(!cache.remove("a").await.unwrap(), "what is over was not there");
    assert!(cache.remove("b").await.unwrap());
    cache.put("b", one, None).await.unwrap();
    cache.clear().await.unwrap();
    assert_eq!(cache.get("b").await.unwrap(), None);
}
