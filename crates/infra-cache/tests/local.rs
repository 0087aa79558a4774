//! Single-flight loads, fenced fills and expiry, on a manual clock and with many tasks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::indexing_slicing,
    clippy::similar_names,
    clippy::large_futures,
    clippy::too_many_lines,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use infra_cache::{BytesCache, Loaded, LocalCache, Options, Origin};
use infra_core::{
    Error, ErrorKind, Result,
    cache::{Cache as _, CacheExt as _},
};
use infra_testkit::clock::ManualClock;
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
    assert_eq!(cache.get_or_load(&1, || async { Ok(7) }).await.unwrap(), 7);
    clock.advance(Duration::from_nanos(999_999_999));
    assert_eq!(cache.get(&1), Some(7));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.get_or_load(&1, || async { Ok(8) }).await.unwrap(), 8);
    cache.put_for(2, 9, None);
    clock.advance(SECOND * 1_000_000);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(9)));
    cache.put_for(2, 9, Some(Duration::ZERO));
    assert_eq!(cache.get(&2), None, "a time of zero removes what was there");
}

/// Sends many callers for one key at once; returns how many loads there were and the answers.
async fn stampede(
    cache: &LocalCache<u32, u64>,
    callers: usize,
    fails: bool,
) -> (u32, Vec<Option<u64>>) {
    let loads = Arc::new(AtomicU32::new(0));
    let all = Arc::new(Barrier::new(callers));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (cache, loads, all) = (cache.clone(), Arc::clone(&loads), Arc::clone(&all));
        tasks.spawn(async move {
            all.wait().await;
            let load = || async move {
                loads.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                if fails { down() } else { Ok(7) }
            };
            cache.get_or_load(&1, load).await.ok()
        });
    }
    let answers = tasks.join_all().await;
    (loads.load(Ordering::SeqCst), answers)
}

/// How many callers a stampede has.
const HERD: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_callers_share_one_load() {
    let (_, cache) = cache(Options::new(10));
    let (loads, answers) = stampede(&cache, HERD, false).await;
    assert_eq!(loads, 1);
    assert_eq!(answers, vec![Some(7); HERD]);
    assert_eq!(cache.get(&1), Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_callers_of_a_failing_origin_share_one_load_and_its_error() {
    let (clock, cache) = cache(Options::new(10));
    let (loads, answers) = stampede(&cache, HERD, true).await;
    assert_eq!(loads, 1);
    assert_eq!(answers, vec![None; HERD]);
    assert_eq!(cache.get(&1), None, "nothing is kept but the error");
    let (loads, _) = stampede(&cache, HERD, true).await;
    assert_eq!(loads, 0, "who asks within the error's time hears it again");
    clock.advance(Duration::from_millis(100));
    let (loads, _) = stampede(&cache, HERD, true).await;
    assert_eq!(loads, 1, "then one asks anew");
    clock.advance(Duration::from_millis(199));
    assert_eq!(stampede(&cache, 10, true).await.0, 0, "the second error is told for twice as long");
    clock.advance(Duration::from_millis(1));
    assert_eq!(stampede(&cache, 10, false).await.0, 1);
    assert_eq!(cache.get(&1), Some(7), "the origin is back");
    cache.invalidate(&1);
    assert_eq!(stampede(&cache, 10, true).await.0, 1);
    clock.advance(Duration::from_millis(100));
    assert_eq!(stampede(&cache, 10, true).await.0, 1, "after a success the time begins anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_callers_share_one_load_though_the_first_of_them_is_gone() {
    let (_, cache) = cache(Options::new(10));
    let loads = Arc::new(AtomicU32::new(0));
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let (leading, counted) = (cache.clone(), Arc::clone(&loads));
    let leader = tokio::spawn(async move {
        let load = || async move {
            counted.fetch_add(1, Ordering::SeqCst);
            begun.send(()).unwrap();
            ends.await.unwrap();
            Ok(7)
        };
        leading.get_or_load(&1, load).await
    });
    begins.await.unwrap();
    let mut followers = JoinSet::new();
    for _ in 0..HERD {
        let (cache, loads) = (cache.clone(), Arc::clone(&loads));
        followers.spawn(async move {
            let load = || async move {
                loads.fetch_add(1, Ordering::SeqCst);
                Ok(8)
            };
            cache.get_or_load(&1, load).await.unwrap()
        });
    }
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    end.send(()).unwrap();
    assert_eq!(followers.join_all().await, vec![7; HERD]);
    assert_eq!(loads.load(Ordering::SeqCst), 1, "nobody loads again what the first one began");
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
            let load = || async move {
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

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_leaves_its_load_to_end_and_nothing_behind() {
    let (_, cache) = cache(Options::new(10).loads(3).load_timeout(SECOND));
    let slow = || async {
        tokio::time::sleep(SECOND / 2).await;
        Ok(7)
    };
    let given_up = tokio::time::timeout(SECOND / 10, cache.get_or_load(&1, slow)).await;
    assert!(given_up.is_err());
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(cache.get(&1), Some(7), "the load went on");
    for key in 10..13 {
        let never = cache.get_or_load(&key, std::future::pending);
        assert!(tokio::time::timeout(SECOND / 10, never).await.is_err());
    }
    let refused = cache.get_or_load(&13, || async { Ok(1) }).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Overloaded, "three loads are on their way");
    tokio::time::sleep(SECOND).await;
    assert_eq!(cache.get_or_load(&13, || async { Ok(1) }).await.unwrap(), 1, "their time is over");
    let late = cache.get_or_load(&10, || async { Ok(1) }).await.unwrap_err();
    assert_eq!(*late.kind(), ErrorKind::Timeout, "which is an error like any other");
}

#[tokio::test]
async fn a_load_that_panics_is_an_error_of_all_who_wait_and_poisons_nothing() {
    let (clock, cache) = cache(Options::new(10));
    let error = cache.get_or_load(&1, || async { panic!("a bug of the caller's") }).await;
    assert_eq!(*error.unwrap_err().kind(), ErrorKind::Internal);
    clock.advance(SECOND);
    assert_eq!(cache.get_or_load(&1, || async { Ok(7) }).await.unwrap(), 7);
}

/// A way to supersede a load, and what is there then.
type Way = (&'static str, fn(&LocalCache<u32, u64>), Option<u64>);

#[tokio::test]
async fn what_was_removed_while_it_was_loaded_is_not_kept() {
    let ways: [Way; 5] = [
        ("key", |cache| assert!(!cache.invalidate(&1)), None),
        ("clear", LocalCache::clear, None),
        ("tag", |cache| cache.invalidate_tag("red"), None),
        ("tag, counted", |cache| assert_eq!(cache.remove_tag("red"), 0), None),
        ("put", |cache| cache.put(1, 99), Some(99)),
    ];
    for (what, change, kept) in ways {
        let (_, cache) = cache(Options::new(10));
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (end, ends) = tokio::sync::oneshot::channel::<()>();
        let before = cache.clone();
        let before = tokio::spawn(async move {
            let load = || async move {
                begun.send(()).unwrap();
                ends.await.unwrap();
                Ok(Loaded::new(1).tagged("red"))
            };
            before.read_or_load(&1, load).await.unwrap().value
        });
        begins.await.unwrap();
        change(&cache);
        let after = cache.clone();
        let after = tokio::spawn(async move {
            let load = || async { Ok(Loaded::new(2).tagged("red")) };
            after.read_or_load(&1, load).await.unwrap().value
        });
        tokio::task::yield_now().await;
        end.send(()).unwrap();
        assert_eq!(before.await.unwrap(), Some(1), "{what}: who waited has what was loaded");
        assert_eq!(after.await.unwrap(), kept.or(Some(2)), "{what}: who asked after the change");
        assert_eq!(cache.get(&1), kept.or(Some(2)), "{what}: what is kept");
        assert_eq!(cache.statistics().superseded, 1, "{what}");
    }
}

#[tokio::test]
async fn an_older_value_is_served_while_the_origin_fails_but_not_for_ever() {
    let (clock, cache) = cache(Options::new(10).ttl(SECOND).stale_on_error(SECOND * 10));
    cache.put(1, 7);
    clock.advance(SECOND * 2);
    assert_eq!(cache.get(&1), None, "a plain get is fresh or nothing");
    assert_eq!(cache.get_or_load(&1, || async { down() }).await.unwrap(), 7);
    let asked = cache.read_or_load(&1, || async { panic!("the origin is asked again") }).await;
    let read = asked.unwrap();
    assert_eq!((read.value, read.origin), (Some(7), Origin::Stale), "the error's time is not over");
    assert_eq!(read.age, SECOND * 2);
    clock.advance(SECOND);
    assert_eq!(cache.get_or_load(&1, || async { Ok(8) }).await.unwrap(), 8);
    clock.advance(SECOND * 11);
    let error = cache.get_or_load(&1, || async { down() }).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable);
    cache.put(2, 7);
    clock.advance(SECOND * 2);
    cache.invalidate(&2);
    assert!(cache.get_or_load(&2, || async { down() }).await.is_err(), "invalidated is not stale");
}

#[tokio::test]
async fn the_capacity_holds_and_zero_keeps_nothing() {
    let (_, small) = cache(Options::new(100));
    (0..10_000).for_each(|key| small.put(key, 1));
    assert!(small.len() <= 100, "{}", small.len());
    small.clear();
    assert!(small.is_empty());
    let (_, none) = cache(Options::new(0));
    assert_eq!(none.get_or_load(&1, || async { Ok(7) }).await.unwrap(), 7);
    assert_eq!(none.len(), 0);
    let (_, fleeting) = cache(Options::new(10).ttl(Duration::ZERO));
    fleeting.put(1, 7);
    assert_eq!(fleeting.get(&1), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_beyond_its_time_is_served_at_once_while_one_newer_is_loaded() {
    let options = Options::new(10).ttl(SECOND).stale_while_revalidate(SECOND);
    let (clock, cache) = cache(options);
    cache.put(1, 7);
    clock.advance(SECOND);
    let loads = Arc::new(AtomicU32::new(0));
    for _ in 0..10 {
        let counted = Arc::clone(&loads);
        let load = || async move {
            tokio::time::sleep(SECOND).await;
            Ok(Loaded::new(7 + u64::from(counted.fetch_add(1, Ordering::SeqCst) + 1)))
        };
        let read = cache.read_or_load(&1, load).await.unwrap();
        assert_eq!((read.value, read.origin), (Some(7), Origin::Stale));
    }
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!((cache.get(&1), loads.load(Ordering::SeqCst)), (Some(8), 1));
    clock.advance(SECOND * 2);
    let read = cache.read_or_load(&1, || async { Ok(Loaded::new(9)) }).await.unwrap();
    assert_eq!(
        (read.value, read.origin),
        (Some(9), Origin::Loaded),
        "beyond that it is waited for"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_read_late_in_its_time_is_refreshed_ahead() {
    let (clock, cache) = cache(Options::new(10).ttl(SECOND).refresh_ahead(80));
    cache.put(1, 7);
    clock.advance(Duration::from_millis(799));
    assert_eq!(cache.get_or_load(&1, || async { panic!("too early") }).await.unwrap(), 7);
    clock.advance(Duration::from_millis(1));
    assert_eq!(cache.get_or_load(&1, || async { Ok(8) }).await.unwrap(), 7);
    tokio::time::sleep(SECOND).await;
    assert_eq!(cache.get(&1), Some(8));
    clock.advance(Duration::from_millis(999));
    assert_eq!(cache.get(&1), Some(8), "with a time of its own");
    assert_eq!(cache.get_or_load(&1, || async { down() }).await.unwrap(), 8);
    tokio::time::sleep(SECOND).await;
    let again = cache.get_or_load(&1, || async { panic!("it failed a moment ago") });
    assert_eq!(again.await.unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_slow_load_is_waited_for_shortly_if_something_older_is_there() {
    let options = Options::new(10).ttl(SECOND).stale_on_error(SECOND * 10);
    let (clock, cache) = cache(options.soft_timeout(SECOND).hard_timeout(SECOND * 3));
    let slow = |value| {
        move || async move {
            tokio::time::sleep(SECOND * 5).await;
            Ok(value)
        }
    };
    let error = cache.get_or_load(&1, slow(7)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Timeout);
    tokio::time::sleep(SECOND * 3).await;
    assert_eq!(cache.get(&1), Some(7), "the load went on");
    clock.advance(SECOND * 2);
    let began = infra_core::SystemClock::new();
    assert_eq!(cache.get_or_load(&1, slow(8)).await.unwrap(), 7);
    assert_eq!(infra_core::Clock::now(&began).since_start(), SECOND);
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!(cache.get(&1), Some(8));
}

#[tokio::test]
async fn that_there_is_nothing_is_kept_for_a_time_of_its_own() {
    let (clock, cache) = cache(Options::new(10).absent_for(SECOND));
    let nothing = || async { Ok(None) };
    assert_eq!(cache.find_or_load(&1, nothing).await.unwrap(), None);
    assert_eq!(cache.find_or_load(&1, || async { panic!("it is known") }).await.unwrap(), None);
    assert_eq!((cache.get(&1), cache.look(&1).map(|read| read.value)), (None, Some(None)));
    clock.advance(SECOND);
    assert_eq!(cache.find_or_load(&1, || async { Ok(Some(7)) }).await.unwrap(), Some(7));
    let (_, forgetful) = self::cache(Options::new(10));
    assert_eq!(forgetful.find_or_load(&1, nothing).await.unwrap(), None);
    assert_eq!(forgetful.find_or_load(&1, || async { Ok(Some(7)) }).await.unwrap(), Some(7));
    let error = forgetful.get_or_load(&2, || async { down() }).await;
    assert_eq!(*error.unwrap_err().kind(), ErrorKind::Unavailable, "an outage is no absence");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_keys_are_asked_for_together_and_only_what_is_missing() {
    let (_, cache) = cache(Options::new(10));
    cache.put(1, 10);
    let asked = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let load = |keys: Vec<u32>| {
        let asked = Arc::clone(&asked);
        async move {
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            asked.lock().push(sorted);
            let exists = keys.into_iter().filter(|key| *key != 4);
            Ok(exists.map(|key| (key, Loaded::new(u64::from(key) * 10).tagged("all"))).collect())
        }
    };
    let found = cache.get_many_or_load(&[1, 2, 3, 4, 2], load).await.unwrap();
    assert_eq!(found, [(1, 10), (2, 20), (3, 30)].into());
    let mut tagged = cache.tagged("all");
    tagged.sort_unstable();
    assert_eq!(tagged, [2, 3]);
    cache.get_many_or_load(&[1, 2, 3], load).await.unwrap();
    assert_eq!(*asked.lock(), [vec![2, 3, 4]]);
    let error = cache.get_many_or_load(&[1, 9], |_| async { down() }).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable);
    // A load of one of the keys that is on its way is waited for, not repeated.
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let single = cache.clone();
    let single = tokio::spawn(async move {
        single
            .get_or_load(&7, || async move { ends.await.map(|()| 77).map_err(|_| panic!()) })
            .await
    });
    while cache.look(&8).is_none() {
        cache.put(8, 80);
        tokio::task::yield_now().await;
    }
    let both = cache.get_many_or_load(&[7, 8], load);
    let (both, ()) = tokio::join!(both, async {
        tokio::task::yield_now().await;
        end.send(()).unwrap();
    });
    assert_eq!(single.await.unwrap().unwrap(), both.unwrap()[&7]);
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
