//! Warming: in order, bounded, reported, and never bringing back what was removed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use infra_cache::{
    HeavyHitters, Loaded, Options, Tiered, TieredBuilder, WarmOutcome, WarmTask, Warmer,
};
use infra_core::{Error, ErrorKind, Result, SystemClock, backoff::Backoff, lifecycle::Shutdown};
use infra_testkit::seed::Seed;
use parking_lot::Mutex;
use rand::RngExt as _;

use super::{Breakable, SECOND, origin::Origin, over, remote};

fn alone() -> Tiered<u64> {
    TieredBuilder::new(Options::new(1_000), SystemClock::shared()).build()
}

#[expect(clippy::unnecessary_wraps, reason = "what a task returns")]
fn entries(keys: &[&str]) -> Result<HashMap<String, Loaded<u64>>> {
    Ok(keys.iter().map(|key| ((*key).to_owned(), Loaded::new(1))).collect())
}

fn warmer(cache: &Tiered<u64>, tasks: impl IntoIterator<Item = WarmTask<u64>>) -> Warmer<u64> {
    Warmer::new(cache.clone(), tasks, SystemClock::shared()).unwrap()
}

#[tokio::test]
async fn a_task_fills_both_tiers_and_what_the_cache_holds_is_counted() {
    let second = remote();
    for cache in [alone(), over(&second).build()] {
        let task = WarmTask::new("critical_config", || async {
            let mut loaded = entries(&["config:app", "config:db"])?;
            // It says that there is a third, which holds for no time.
            loaded.insert("config:none".to_owned(), Loaded::new(1).ttl(Duration::ZERO));
            Ok(loaded)
        });
        let report = warmer(&cache, [task.priority(10)]).warm().await;
        assert_eq!((report.executed(), report.entries()), (1, 2), "{report:?}");
        assert_eq!(cache.get("config:app").await.unwrap(), Some(1));
    }
    let other: Tiered<u64> = over(&second).build();
    assert_eq!(other.get("config:db").await.unwrap(), Some(1), "warm for all processes");
    let report = warmer(&other, [WarmTask::new("none", || async { entries(&[]) })]).warm().await;
    assert_eq!((report.executed(), report.entries()), (1, 0));
}

#[tokio::test]
async fn a_second_tier_that_is_lost_is_warmed_around_or_reported_as_the_options_say() {
    let lost = Breakable::new(true) as Arc<dyn infra_core::cache::Cache>;
    let task = || WarmTask::new("a", || async { entries(&["a"]) });
    let around: Tiered<u64> = over(&lost).build();
    assert_eq!(warmer(&around, [task()]).warm().await.entries(), 1);
    assert!(around.local().contains(&"a".to_owned()));
    let strict: Tiered<u64> = over(&lost).outage(infra_cache::Outage::Fail).build();
    let report = warmer(&strict, [task()]).warm().await;
    assert!(matches!(report.of("a"), Some(WarmOutcome::Failed(error)) if error.is_transient()));
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_while_it_is_loaded_is_not_brought_back() {
    let second = remote();
    for cache in [alone(), over(&second).build()] {
        let removing = cache.clone();
        let task = WarmTask::new("users", move || {
            let cache = removing.clone();
            async move {
                let loaded = entries(&["a", "b", "c"])?;
                cache.invalidate("a").await?;
                cache.put("b", Loaded::new(2)).await?;
                Ok(loaded)
            }
        });
        let report = warmer(&cache, [task]).warm().await;
        assert_eq!(cache.get("a").await.unwrap(), None);
        assert_eq!(cache.get("b").await.unwrap(), Some(2));
        assert_eq!(cache.get("c").await.unwrap(), Some(1));
        assert_eq!(report.entries(), 1);
    }
}

#[tokio::test]
async fn a_task_runs_after_what_it_needs_despite_its_priority() {
    let cache = alone();
    let order: Arc<Mutex<Vec<&str>>> = Arc::default();
    let (first, second) = (Arc::clone(&order), Arc::clone(&order));
    let users = WarmTask::new("users", move || {
        first.lock().push("users");
        async { Ok(HashMap::from([("users:count".to_owned(), Loaded::new(100))])) }
    });
    let reading = cache.clone();
    let posts = WarmTask::new("posts", move || {
        second.lock().push("posts");
        let cache = reading.clone();
        async move {
            let users = cache.get("users:count").await?.unwrap_or_default();
            Ok(HashMap::from([("posts:count".to_owned(), Loaded::new(users * 10))]))
        }
    });
    let tasks = [posts.priority(10).after("users"), users.priority(5)];
    let report = warmer(&cache, tasks).concurrency(1).warm().await;
    assert_eq!((report.executed(), order.lock().clone()), (2, vec!["users", "posts"]));
    assert_eq!(cache.get("posts:count").await.unwrap(), Some(1_000));
}

#[test]
fn tasks_that_cannot_run_are_refused_when_they_are_taken() {
    let task = |name: &str| WarmTask::<u64>::new(name, || async { entries(&[]) });
    for (tasks, why) in [
        (vec![task("a").after("b"), task("b").after("a"), task("c")], "wait for each other: a, b"),
        (vec![task("a").after("none")], "`none`, which is no task"),
        (vec![task("a"), task("a")], "two tasks `a`"),
    ] {
        let error = Warmer::new(alone(), tasks, SystemClock::shared()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_hangs_or_panics_is_reported_and_only_what_stands_on_it_is_skipped() {
    let cache = alone();
    let good = |name: &'static str| WarmTask::new(name, move || async move { entries(&[name]) });
    let down = WarmTask::new("down", || async { Err(Error::new(ErrorKind::Unavailable, "load")) });
    let hangs = WarmTask::new("hangs", || async { std::future::pending().await });
    let panics = WarmTask::new("panics", || async { panic!("as planned") });
    let tasks = [
        down,
        hangs.timeout(SECOND),
        panics,
        good("free"),
        good("on down").after("down").after("free"),
        good("on that").after("on down"),
        good("on free").after("free"),
    ];
    let report = warmer(&cache, tasks).warm().await;
    let kind = |name: &str| match report.of(name).unwrap() {
        WarmOutcome::Failed(error) => error.kind().name().to_owned(),
        WarmOutcome::Done { entries } => entries.to_string(),
        WarmOutcome::Skipped { because_of } => format!("skipped: {because_of}"),
    };
    let names = ["down", "hangs", "panics", "free", "on down", "on that", "on free"];
    let kinds = names.map(kind);
    let skipped = "skipped: down";
    let expected = [
        ErrorKind::Unavailable.name(),
        ErrorKind::Timeout.name(),
        ErrorKind::Internal.name(),
        "1",
        skipped,
        skipped,
        "1",
    ];
    assert_eq!(kinds, expected);
    assert_eq!((report.executed(), report.entries(), report.tasks.len()), (5, 2, 7));
    assert!(report.of("nobody").is_none());
}

#[tokio::test(start_paused = true)]
async fn no_more_tasks_run_at_a_time_than_allowed() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let task = |number: usize| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        WarmTask::new(number.to_string(), move || {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(SECOND).await;
                now.fetch_sub(1, Ordering::SeqCst);
                entries(&[])
            }
        })
    };
    warmer(&alone(), (0..20).map(task)).concurrency(3).warm().await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_task_keeps_its_period_though_it_fails_and_is_tried_again_in_between() {
    let starts: Arc<Mutex<Vec<u128>>> = Arc::default();
    let began = tokio::time::sleep(Duration::ZERO).deadline();
    let noted = Arc::clone(&starts);
    let task = WarmTask::new("boards", move || {
        let mut starts = noted.lock();
        let at = tokio::time::sleep(Duration::ZERO).deadline().duration_since(began);
        starts.push(at.as_millis() / 100);
        let is_down = (2..=4).contains(&starts.len());
        async move {
            if is_down { Err(Error::new(ErrorKind::Unavailable, "load")) } else { entries(&["a"]) }
        }
    });
    let once = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&once);
    let other = WarmTask::new("once", move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { entries(&[]) }
    });
    let warmer = warmer(&alone(), [task.every(SECOND * 10), other])
        .pause(Backoff::exponential(SECOND).capped_at(SECOND * 60));
    let shutdown = Shutdown::new();
    shutdown.spawn(warmer.run(shutdown.stop()));
    tokio::time::sleep(SECOND * 45).await;
    let ended = shutdown.close(SECOND).await;
    assert_eq!(ended.finished, 1);
    // At 0; at 10, failed; 1 and 2 s later, failed again; 4 s later; then by the period as ever.
    assert_eq!(*starts.lock(), [0, 100, 110, 130, 170, 200, 300, 400]);
    assert_eq!(once.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_task_that_fails_at_the_start_is_tried_again_before_its_period() {
    let starts: Arc<Mutex<Vec<u128>>> = Arc::default();
    let began = tokio::time::sleep(Duration::ZERO).deadline();
    let noted = Arc::clone(&starts);
    let task = WarmTask::new("boards", move || {
        let mut starts = noted.lock();
        let at = tokio::time::sleep(Duration::ZERO).deadline().duration_since(began);
        starts.push(at.as_millis() / 100);
        let is_down = starts.len() == 1;
        async move {
            if is_down { Err(Error::new(ErrorKind::Unavailable, "load")) } else { entries(&["a"]) }
        }
    });
    let warmer = warmer(&alone(), [task.every(SECOND * 10)])
        .pause(Backoff::exponential(SECOND).capped_at(SECOND * 60));
    let shutdown = Shutdown::new();
    shutdown.spawn(warmer.run(shutdown.stop()));
    tokio::time::sleep(SECOND * 25).await;
    shutdown.close(SECOND).await;
    assert_eq!(*starts.lock(), [0, 10, 100, 200]);
}

#[tokio::test]
async fn the_keys_that_were_read_most_are_warmed_and_others_are_not() {
    let origin = Arc::new(Origin::default());
    let log = ["user:1", "user:2", "post:1", "user:1", "user:3", "user:1", "user:2", "post:1"];
    origin.values.lock().extend(log.map(|key| (key.to_owned(), 1)));
    let reads = Arc::new(Mutex::new(HeavyHitters::new(100)));
    for key in log {
        reads.lock().note(&key.to_owned());
    }
    let cache = alone();
    let most = move || reads.lock().top(2);
    let task = WarmTask::keys("frequent", most, Arc::clone(&origin) as _, 1);
    let report = warmer(&cache, [task]).warm().await;
    assert_eq!(report.entries(), 2);
    // The second and third are read as often; the one that was seen first is warmed.
    let held =
        ["user:1", "user:2", "post:1", "user:3"].map(|key| cache.local().contains(&key.to_owned()));
    assert_eq!(held, [true, true, false, false]);
}

#[tokio::test]
async fn after_a_clearing_what_the_cache_saw_read_most_is_warmed_as_a_plain_count_says() {
    for seed in Seed::each(10) {
        let mut dice = seed.dice();
        let origin = Arc::new(Origin::default());
        origin.values.lock().extend((0..50).map(|key| (key.to_string(), key)));
        let options = Options::new(1_000).frequent(50);
        let cache: Tiered<u64> = TieredBuilder::new(options, SystemClock::shared()).build();
        let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
        for step in 0..500 {
            let key =
                (dice.random_range(0..50_u32) * dice.random_range(0..50_u32) / 50).to_string();
            let _ = cache.local().get(&key);
            counts.entry(key).or_insert((0, step)).0 += 1;
        }
        let mut naive: Vec<_> = counts.into_iter().collect();
        naive.sort_by_key(|(_, (count, first))| (std::cmp::Reverse(*count), *first));
        let reading = cache.clone();
        let most = move || reading.local().frequent(10);
        let task = WarmTask::keys("frequent", most, Arc::clone(&origin) as _, 3);
        assert_eq!(warmer(&cache, [task]).warm().await.entries(), 10, "{seed}");
        let mut held: Vec<String> = cache.local().entries().into_iter().map(|it| it.0).collect();
        let mut expected: Vec<String> = naive.into_iter().take(10).map(|it| it.0).collect();
        held.sort_unstable();
        expected.sort_unstable();
        assert_eq!(held, expected, "{seed}");
        assert!(origin.loads.lock().iter().all(|keys| keys.len() <= 3), "in batches");
    }
}

#[tokio::test]
async fn keys_are_warmed_in_batches_of_which_four_are_loaded_at_a_time() {
    let origin = Arc::new(Origin::default());
    origin.values.lock().extend((0..20).map(|key| (key.to_string(), key)));
    let keys = || (0..20).map(|key| key.to_string()).collect();
    let task = WarmTask::keys("frequent", keys, Arc::clone(&origin) as _, 2);
    assert_eq!(warmer(&alone(), [task]).warm().await.entries(), 20);
    assert_eq!((origin.loads.lock().len(), origin.most.load(Ordering::SeqCst)), (10, 4));
}

#[tokio::test]
async fn a_source_that_fails_while_keys_are_warmed_is_reported() {
    #[derive(Debug)]
    struct Down;

    #[async_trait::async_trait]
    impl infra_cache::Source<u64> for Down {
        async fn load(&self, _keys: Vec<String>) -> Result<HashMap<String, Loaded<u64>>> {
            Err(Error::new(ErrorKind::Unavailable, "load"))
        }

        async fn write(&self, _edits: Vec<infra_cache::Edit<u64>>) -> Result<()> {
            Ok(())
        }
    }

    let task = WarmTask::keys("frequent", || vec!["a".to_owned()], Arc::new(Down), 10);
    let report = warmer(&alone(), [task]).warm().await;
    assert!(matches!(report.of("frequent"), Some(WarmOutcome::Failed(_))), "{report:?}");
    assert_eq!((report.executed(), report.entries()), (1, 0));
}
