//! Writing through: the source first, and the cache never shows what the source does not have.

use std::sync::Arc;

use infra_cache::{Edit, Loaded, Options, Tiered, TieredBuilder, WriteThrough};
use infra_core::{ErrorKind, SystemClock};
use infra_testkit::seed::Seed;
use rand::RngExt as _;
use tokio::task::JoinSet;

use super::{
    origin::{Fault, Origin},
    over, remote,
};

fn alone() -> Tiered<u64> {
    TieredBuilder::new(Options::new(100).forget_errors(), SystemClock::shared()).build()
}

#[tokio::test]
async fn a_save_is_in_source_and_cache_when_it_returns_and_a_delete_in_neither() {
    let origin = Arc::new(Origin::default());
    let values = WriteThrough::new(alone(), Arc::clone(&origin) as _);
    values.save("key1", 1).await.unwrap();
    assert_eq!((values.get("key1").await.unwrap(), origin.value("key1")), (Some(1), Some(1)));
    assert_eq!(*origin.writes.lock(), [[Edit::save("key1", 1)]]);
    assert!(origin.loads.lock().is_empty(), "it was kept, so it was not loaded");
    values.save("key2", Loaded::new(2).tagged("red")).await.unwrap();
    assert_eq!(values.cache().invalidate_tag("red").await.unwrap(), 1);
    let all = ["key1", "key2", "key3"].map(str::to_owned);
    let found = values.get_many(&all).await.unwrap();
    assert_eq!(found, [("key1".to_owned(), 1), ("key2".to_owned(), 2)].into());
    assert_eq!(origin.loads.lock().len(), 1);
    values.delete("key1").await.unwrap();
    assert_eq!((values.get("key1").await.unwrap(), origin.value("key1")), (None, None));
    assert!(format!("{values:?}").contains("WriteThrough"));
}

/// Whatever becomes of a write, a read gives what the source has.
#[tokio::test]
async fn a_write_that_fails_at_any_step_leaves_nothing_in_the_cache_that_the_source_does_not_have()
{
    for shared in [false, true] {
        let origin = Arc::new(Origin::default());
        let second = remote();
        let cache = if shared { over(&second).build() } else { alone() };
        let values: WriteThrough<u64> = WriteThrough::new(cache, Arc::clone(&origin) as _);
        values.save("a", 1).await.unwrap();
        values.get("a").await.unwrap();
        for (number, fault) in
            [Fault::Down, Fault::Unanswered, Fault::Refused, Fault::Panics].into_iter().enumerate()
        {
            origin.fail([fault]);
            let error = values.save("a", 10 + number as u64).await.unwrap_err();
            if fault == Fault::Panics {
                assert_eq!(*error.kind(), ErrorKind::Internal);
            }
            assert_eq!(values.cache().get("a").await.unwrap(), None, "{fault:?}");
            assert_eq!(values.get("a").await.unwrap(), origin.value("a"), "{fault:?}");
        }
        assert_eq!(origin.value("a"), Some(11), "the one that was not answered");
    }
}

#[tokio::test]
async fn a_second_tier_that_cannot_be_told_is_an_error_that_says_what_was_saved() {
    let origin = Arc::new(Origin::default());
    let cache: Tiered<u64> = over(&(super::Breakable::new(true) as _)).build();
    let values = WriteThrough::new(cache, Arc::clone(&origin) as _);
    let error = values.save("a", 1).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Indeterminate);
    assert!(error.is_transient() && error.to_string().contains("it is saved"), "{error}");
    assert_eq!(origin.value("a"), Some(1));
}

#[tokio::test]
async fn a_save_goes_on_when_its_caller_goes() {
    let origin = Arc::new(Origin::default());
    let values = WriteThrough::new(alone(), Arc::clone(&origin) as _);
    {
        let mut save = std::pin::pin!(values.save("a", 1));
        let first =
            std::future::poll_fn(|context| std::task::Poll::Ready(save.as_mut().poll(context)));
        assert!(first.await.is_pending());
    }
    while origin.value("a").is_none() || values.cache().get("a").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

/// Many writers and readers of few keys, in one process and as if in two.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_key_end_with_the_cache_as_the_source() {
    for seed in Seed::each(8) {
        let origin = Arc::new(Origin::default());
        let second = remote();
        // Two that share a cache and a second tier know no more of each other than two processes.
        let (cache, count) =
            if seed.0 % 2 == 0 { (alone(), 1) } else { (over(&second).build(), 2) };
        let make = |_| WriteThrough::new(cache.clone(), Arc::clone(&origin) as _);
        let repositories: Vec<WriteThrough<u64>> = (0..count).map(make).collect();
        let mut tasks = JoinSet::new();
        for (task, values) in (0..8_u64).zip(repositories.iter().cycle().cloned()) {
            let mut dice = Seed(seed.0 * 100 + task).dice();
            tasks.spawn(async move {
                for step in 0..60 {
                    let key = ["a", "b"][dice.random_range(0..2)];
                    match dice.random_range(0..5) {
                        0 | 1 => values.save(key, task * 1_000 + step).await.unwrap(),
                        2 => values.delete(key).await.unwrap(),
                        _ => drop(values.get(key).await.unwrap()),
                    }
                }
            });
        }
        tasks.join_all().await;
        for values in &repositories {
            for key in ["a", "b"] {
                assert_eq!(values.get(key).await.unwrap(), origin.value(key), "{seed} {key}");
            }
        }
    }
}
