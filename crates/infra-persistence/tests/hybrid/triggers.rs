//! When entities are handed over, in which order and how often.

use super::*;

#[tokio::test(start_paused = true)]
async fn each_trigger_hands_over_exactly_at_its_boundary() {
    let options = options(4).completed(Some(HOUR)).interval(Duration::from_mins(1)).idle(2 * HOUR);
    let mut bench = Bench::new(options.clone(), Duration::ZERO).await;
    bench.start();
    bench.save("over", Phase::Over).await;
    bench.save("playing", Phase::Playing).await;
    bench.save("left", Phase::Abandoned).await;
    pass(HOUR.checked_sub(2 * MS).unwrap()).await;
    assert!(!bench.is_archived("over").await);
    pass(4 * MS).await;
    assert!(bench.is_archived("over").await, "completed an hour ago");
    pass(HOUR.checked_sub(4 * MS).unwrap()).await;
    assert!(!bench.is_archived("left").await);
    pass(Duration::from_secs(61)).await;
    assert!(bench.is_archived("left").await, "idle for two hours, seen within the interval");
    pass(100 * HOUR).await;
    assert!(!bench.is_archived("playing").await, "active ones are never archived by age");
    let refused = bench.hybrid.archive(b"playing", Priority::Critical).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Invalid);
    bench.save("by-hand", Phase::Abandoned).await;
    bench.hybrid.archive(b"by-hand", Priority::Low).await.unwrap();
    pass(MS).await;
    assert!(bench.is_archived("by-hand").await, "by hand");

    let mut bench =
        Bench::new(self::options(4).completed(None).pressure(50).concurrency(1, HOUR), MS).await;
    for id in ["a", "b", "c", "d"] {
        bench.save(id, Phase::Over).await;
        pass(MS).await;
    }
    bench.archivist().look().await.unwrap();
    bench.archivist().run_due().await;
    assert_eq!(
        bench.archive.order(),
        ["a", "b"],
        "as many as are above half of the limit, oldest first"
    );
    assert_eq!(bench.hybrid.usage().entries, 2);

    bench = Bench::new(options.drain(HOUR), Duration::ZERO).await;
    bench.save("at-the-end", Phase::Over).await;
    bench.start();
    pass(MS).await;
    assert!(!bench.is_archived("at-the-end").await);
    bench.shutdown.close(HOUR).await;
    let games = infra_core::id::Collection::new("games").unwrap();
    let found = bench.documents.get(&games, b"at-the-end");
    assert_eq!(found.await.unwrap().unwrap().payload.schema, u32::MAX, "shutdown drains");
}

#[tokio::test(start_paused = true)]
async fn batches_and_flights_are_bounded_and_a_full_queue_refuses() {
    let options = options(100).batch(3, Duration::from_millis(500)).concurrency(2, HOUR).queue(5);
    let mut bench = Bench::new(options, Duration::from_millis(10)).await;
    bench.archive.shut();
    bench.start();
    for number in 0..2 {
        bench.save(&number.to_string(), Phase::Over).await;
    }
    pass(Duration::from_millis(499)).await;
    assert_eq!(bench.archive.writes.lock().len(), 0, "two wait for a third, for half a second");
    bench.save("2", Phase::Over).await;
    pass(MS / 2).await;
    assert_eq!(bench.archive.writes.lock().len(), 2, "the first batch goes at once, two at a time");
    for number in 3..5 {
        bench.save(&number.to_string(), Phase::Over).await;
    }
    let full = bench.hybrid.save(game("5", Phase::Over), Expected::Any).await.unwrap_err();
    assert_eq!(*full.kind(), ErrorKind::Overloaded);
    assert!(bench.read("5").await.is_none(), "what is refused is not stored");
    pass(HOUR / 2).await;
    assert_eq!(bench.archive.writes.lock().len(), 2, "nothing more while both are under way");
    bench.archive.open();
    pass(Duration::from_secs(1)).await;
    let mut order = bench.archive.order();
    order.sort();
    assert_eq!(order, ["0", "1", "2", "3", "4"]);
    assert_eq!(bench.archive.most.load(Ordering::SeqCst), 2);
    for number in 0..5 {
        assert!(bench.is_archived(&number.to_string()).await);
    }
    assert_eq!(bench.hybrid.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn turns_go_by_priority_then_first_come_first_served_and_none_starves() {
    let options = options(100).completed(None).concurrency(1, HOUR).ageing(Duration::from_secs(30));
    let bench = Bench::new(options, Duration::ZERO).await;
    let mix = [
        ("l1", Priority::Low),
        ("c1", Priority::Critical),
        ("n1", Priority::Normal),
        ("h1", Priority::High),
        ("c2", Priority::Critical),
        ("l2", Priority::Low),
        ("h2", Priority::High),
    ];
    for (id, priority) in mix {
        bench.save(id, Phase::Over).await;
        bench.hybrid.archive(id.as_bytes(), priority).await.unwrap();
    }
    bench.archivist().run_due().await;
    assert_eq!(bench.archive.order(), ["c1", "c2", "h1", "h2", "n1", "l1", "l2"]);
    // A low one waits at most three agings behind critical ones that come all the time.
    bench.save("low", Phase::Over).await;
    bench.hybrid.archive(b"low", Priority::Low).await.unwrap();
    for second in 0..120 {
        let id = format!("critical-{second}");
        bench.save(&id, Phase::Over).await;
        bench.hybrid.archive(id.as_bytes(), Priority::Critical).await.unwrap();
        pass(Duration::from_secs(1)).await;
    }
    bench.archivist().run_due().await;
    let order = bench.archive.order();
    let turn = order.iter().position(|id| id == "low").unwrap() - mix.len();
    assert!((89..=91).contains(&turn), "the low one came in turn {turn}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_on_time_and_becomes_a_dead_letter_that_is_still_readable() {
    let options = options(100).retries(3, Backoff::exponential(Duration::from_secs(1)));
    let mut bench = Bench::new(options, Duration::ZERO).await;
    bench.archive.failures.lock().extend(vec![ErrorKind::Unavailable; 4]);
    bench.save("bad", Phase::Over).await;
    bench.start();
    pass(Duration::from_millis(500)).await;
    let started = bench.archive.writes.lock()[0].1;
    // Another one is not held up by the pause.
    let failures = std::mem::take(&mut *bench.archive.failures.lock());
    bench.save("good", Phase::Over).await;
    pass(10 * MS).await;
    assert!(bench.is_archived("good").await);
    *bench.archive.failures.lock() = failures;
    pass(Duration::from_secs(20)).await;
    let attempts: Vec<u128> = bench
        .archive
        .writes
        .lock()
        .iter()
        .filter(|(name, _)| name.contains("/bad/"))
        .map(|(_, at)| at.since(started).as_millis() / 100)
        .collect();
    assert_eq!(attempts, [0, 10, 30, 70], "tenths of a second: pauses of 1, 2 and 4 seconds");
    let letters = bench.hybrid.dead_letters(None, 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts, &letters[0].key[..]), (1, 4, &b"bad"[..]));
    assert_eq!(bench.read("bad").await.unwrap(), game("bad", Phase::Over));
    assert_eq!(bench.hybrid.waiting(), 0);
    // By hand it goes its way again.
    bench.archive.failures.lock().clear();
    bench.hybrid.archive(b"bad", Priority::Normal).await.unwrap();
    pass(10 * MS).await;
    assert!(bench.is_archived("bad").await);
    assert!(bench.hybrid.dead_letters(None, 10).await.unwrap().is_empty());
    // What cannot pass is not tried again.
    bench.archive.failures.lock().push(ErrorKind::Denied);
    bench.save("refused", Phase::Over).await;
    pass(HOUR).await;
    assert_eq!(bench.hybrid.dead_letters(None, 10).await.unwrap()[0].attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn active_reads_and_writes_never_wait_for_the_archive() {
    let mut bench = Bench::new(options(1_000), Duration::ZERO).await;
    bench.start();
    bench.archive.shut();
    bench.save("over", Phase::Over).await;
    pass(MS).await;
    assert_eq!(bench.archive.flying.load(Ordering::SeqCst), 1, "the archive is busy");
    let before = bench.archive.clock.wall();
    for number in 0..500 {
        let id = format!("active-{}", number % 50);
        bench.save(&id, Phase::Playing).await;
        assert!(bench.read(&id).await.is_some());
    }
    assert_eq!(bench.archive.clock.wall(), before, "no time passed");
    assert_eq!(bench.read("over").await.unwrap().phase, Phase::Over);
    assert_eq!(bench.hybrid.usage().active, 50);
}

#[tokio::test(start_paused = true)]
async fn what_the_consumer_did_not_acknowledge_is_handed_over_after_the_next_start() {
    let bench = Bench::new(options(100), 10 * MS).await;
    for number in 0..5 {
        bench.save(&number.to_string(), Phase::Over).await;
        bench.save(&number.to_string(), Phase::Over).await;
    }
    // Ended between the write of an object and its acknowledgement.
    let cut = tokio::time::timeout(10 * MS, bench.archivist().run_due()).await;
    assert!(cut.is_err());
    assert!(!bench.archive.names().await.is_empty() || bench.hybrid.waiting() == 5);
    let again =
        Bench::over(Arc::clone(&bench.documents), Arc::clone(&bench.archive), options(100)).await;
    assert_eq!(again.hybrid.waiting(), 5, "one for each game, whatever was saved how often");
    assert_eq!(again.archivist().run_due().await, 5);
    assert_eq!((again.hybrid.waiting(), again.archive.names().await.len()), (0, 5));
    let third =
        Bench::over(Arc::clone(&bench.documents), Arc::clone(&bench.archive), options(100)).await;
    assert_eq!(third.hybrid.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_read_resets_the_idle_time_and_the_archives_own_look_does_not() {
    let options = options(10).idle(HOUR).interval(Duration::from_mins(1));
    let mut bench = Bench::new(options, Duration::ZERO).await;
    bench.start();
    for id in ["read", "unread"] {
        bench.save(id, Phase::Abandoned).await;
    }
    pass(HOUR / 2).await;
    assert!(bench.read("read").await.is_some());
    pass(Duration::from_secs(1_799)).await;
    assert!(!bench.is_archived("unread").await);
    pass(Duration::from_mins(1) + 2 * MS).await;
    assert!(bench.is_archived("unread").await, "within the idle time and one interval");
    assert!(!bench.is_archived("read").await);
    pass(HOUR / 2).await;
    assert!(bench.is_archived("read").await);
}

#[tokio::test(start_paused = true)]
async fn as_many_games_are_archived_as_were_completed_however_small_the_queue() {
    let mut bench = Bench::new(options(100).queue(2), MS).await;
    bench.start();
    let mut refused = 0;
    for number in 0..20 {
        let over = game(&number.to_string(), Phase::Over);
        while let Err(error) = bench.hybrid.save(over.clone(), Expected::Any).await {
            assert!(error.is_transient(), "{error}");
            refused += 1;
            pass(MS).await;
        }
        assert!(bench.read(&number.to_string()).await.is_some());
    }
    pass(Duration::from_secs(1)).await;
    assert!(0 < refused, "the queue pushes back");
    assert_eq!(bench.hybrid.lifecycle().await.unwrap().archived, 20);
}

#[test]
fn options_that_contradict_themselves_are_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for wrong in [
            options(0),
            options(1).batch(0, Duration::ZERO),
            options(1).concurrency(0, HOUR),
            options(1).queue(0),
            options(1).interval(Duration::ZERO),
            options(1).pressure(0),
            options(1).pressure(101),
        ] {
            let documents = Arc::new(ModelDocuments::new(SystemClock::shared()));
            let vault = Vault::new(Arc::new(Archive::in_memory()));
            let said = Hybrid::<Game>::open(documents, vault, wrong).await.map(|_| ());
            assert_eq!(said.map_err(|error| error.kind().clone()), Err(ErrorKind::Invalid));
        }
    });
}
