//! Writers, readers, removals and the archive at once.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_completed_game_leaves_memory_once_it_is_archived_however_often_it_is_saved() {
    let mut bench = Bench::new(options(100), Duration::ZERO).await;
    bench.save("game-1", Phase::Playing).await;
    for _ in 0..4 {
        bench.save("game-1", Phase::Over).await;
    }
    assert_eq!((bench.hybrid.waiting(), bench.hybrid.usage().entries), (1, 1));
    bench.start();
    pass(MS).await;
    assert_eq!((bench.hybrid.waiting(), bench.hybrid.usage().entries), (0, 0));
    assert_eq!(bench.archive.names().await.len(), 1, "one object");
    let archived = bench.hybrid.archived_as(b"game-1").await.unwrap().unwrap();
    assert_eq!(archived.version, Version::new(5), "of the last version");
    assert_eq!(bench.read("game-1").await.unwrap(), game("game-1", Phase::Over));
    assert!(bench.read("game-10").await.is_none() && bench.read("game").await.is_none());
    // Saved again it is alive again, and archived again.
    bench.save("game-1", Phase::Over).await;
    pass(MS).await;
    assert_eq!(bench.archive.names().await.len(), 2, "the older one is left to reconcile");
    assert_eq!(bench.hybrid.reconcile(Duration::ZERO).await.unwrap().removed, 1);
    assert_eq!(bench.archive.names().await.len(), 1);
    assert_eq!(bench.read("game-1").await.unwrap(), game("game-1", Phase::Over));
}

/// One step of a random life: what happens to which game.
#[derive(Debug, Clone, Copy)]
enum Step {
    Save(u8, u8),
    Remove(u8),
    Archive,
    Restore(u8),
    Reopen,
    Fail,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12_u8, 0..3_u8).prop_map(|(id, phase)| Step::Save(id, phase)),
        2 => (0..12_u8).prop_map(Step::Remove),
        3 => Just(Step::Archive),
        1 => (0..12_u8).prop_map(Step::Restore),
        1 => Just(Step::Reopen),
        1 => Just(Step::Fail),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Ids begin one another (`game-1`, `game-10`, `game-11`), memory holds three, and the service may
    /// be dropped in the middle of a hand-over.
    #[test]
    fn whatever_happens_each_game_is_readable_from_one_place_and_no_deleted_one_comes_back(
        steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let documents: Arc<dyn DocumentStore> = Arc::new(ModelDocuments::new(SystemClock::shared()));
            let archive = Watched::new(10 * MS);
            let options = || options(3).batch(2, Duration::ZERO);
            let mut bench = Bench::over(Arc::clone(&documents), Arc::clone(&archive), options()).await;
            let mut model: BTreeMap<String, Game> = BTreeMap::new();
            for (number, step) in (0_u32..).zip(steps) {
                match step {
                    Step::Save(id, phase) => {
                        let phase = [Phase::Abandoned, Phase::Over, Phase::Playing][usize::from(phase)];
                        let wanted = Game { turns: number, ..game(&format!("game-{id}"), phase) };
                        match bench.hybrid.save(wanted.clone(), Expected::Any).await {
                            Ok(_) => drop(model.insert(wanted.id.clone(), wanted)),
                            Err(error) => assert_eq!(*error.kind(), ErrorKind::Overloaded),
                        }
                    }
                    Step::Remove(id) => {
                        let id = format!("game-{id}");
                        bench.hybrid.remove(id.as_bytes(), Expected::Any).await.unwrap();
                        model.remove(&id);
                    }
                    Step::Archive => drop(bench.archivist().run_due().await),
                    Step::Restore(id) => {
                        let id = format!("game-{id}");
                        let said = bench.hybrid.restore(id.as_bytes()).await;
                        assert_eq!(said.is_ok(), model.contains_key(&id));
                    }
                    Step::Reopen => {
                        // Dropped in the middle: the object may be there, its name not yet.
                        let cut = tokio::time::timeout(5 * MS, bench.archivist().run_due()).await;
                        drop(cut);
                        bench = Bench::over(Arc::clone(&documents), Arc::clone(&archive), options()).await;
                    }
                    Step::Fail => archive.failures.lock().push(ErrorKind::Unavailable),
                }
                for id in (0..12).map(|id| format!("game-{id}")) {
                    assert_eq!(bench.read(&id).await.as_ref(), model.get(&id), "{id} after step {number}");
                }
            }
            archive.failures.lock().clear();
            pass(HOUR).await;
            bench.archivist().run_due().await;
            bench.hybrid.reconcile(Duration::ZERO).await.unwrap();
            let report = bench.hybrid.lifecycle().await.unwrap();
            let over = model.values().filter(|game| game.phase == Phase::Over).count();
            assert_eq!(report.live + report.archived, model.len() as u64);
            assert_eq!(report.waiting + report.dead, 0);
            assert!(report.archived <= model.len() as u64 && over as u64 <= model.len() as u64);
            assert_eq!(archive.names().await.len() as u64, report.archived, "no object is left over");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn five_active_games_stay_three_completed_ones_go_and_a_sixth_is_refused() {
    let mut bench = Bench::new(options(5), Duration::ZERO).await;
    for id in ["over-1", "over-2", "over-3"] {
        bench.save(id, Phase::Over).await;
    }
    for number in 0..5 {
        bench.save(&format!("active-{number}"), Phase::Playing).await;
    }
    bench.start();
    pass(MS).await;
    let usage = bench.hybrid.usage();
    assert_eq!((usage.entries, usage.active), (5, 5));
    for id in ["over-1", "over-2", "over-3"] {
        assert!(bench.is_archived(id).await);
        assert_eq!(bench.read(id).await.unwrap(), game(id, Phase::Over));
    }
    let sixth = bench.hybrid.save(game("active-5", Phase::Playing), Expected::Any).await;
    let refused = sixth.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Overloaded);
    assert!(refused.to_string().contains("5 entities of at most 5"), "{refused}");
    assert_eq!(bench.hybrid.usage().refused, 1);
    assert!(bench.read("active-5").await.is_none(), "nothing of it is stored");

    let limits = Limits::entries(5).overflow(Overflow::Wait(Duration::from_secs(5)));
    let bench = Bench::new(HybridOptions::new(limits), Duration::ZERO).await;
    for number in 0..5 {
        bench.save(&format!("active-{number}"), Phase::Playing).await;
    }
    let late = bench.hybrid.save(game("active-5", Phase::Playing), Expected::Any).await;
    assert_eq!(*late.unwrap_err().kind(), ErrorKind::Overloaded, "after five seconds");
    let hybrid = bench.hybrid.clone();
    let waiting =
        tokio::spawn(
            async move { hybrid.save(game("active-6", Phase::Playing), Expected::Any).await },
        );
    pass(Duration::from_secs(1)).await;
    bench.save("active-2", Phase::Over).await;
    waiting.await.unwrap().unwrap();
    assert_eq!(bench.hybrid.usage().active, 5);
}

#[test]
fn no_update_is_lost_among_writers_readers_and_the_archive() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let documents = Arc::new(infra_persistence::memory(SystemClock::shared()).unwrap());
        let archive = Watched::new(Duration::ZERO);
        let mut bench = Bench::over(documents, archive, options(2).batch(4, Duration::ZERO)).await;
        for id in 0..3 {
            let fresh = Game { turns: 0, ..game(&id.to_string(), Phase::Over) };
            bench.hybrid.save(fresh, Expected::Absent).await.unwrap();
        }
        bench.start();
        let mut tasks = JoinSet::new();
        for task in 0..6_u32 {
            let hybrid = bench.hybrid.clone();
            tasks.spawn(async move {
                let mut seen = [0; 3];
                for step in 0..60_u32 {
                    let id = (step + task) % 3;
                    let found = hybrid.get(id.to_string().as_bytes()).await.unwrap().unwrap();
                    assert!(seen[id as usize] <= found.entity.turns, "a reader goes back in time");
                    seen[id as usize] = found.entity.turns;
                    let mut next = (found.entity.as_ref().clone(), found.version);
                    loop {
                        next.0.turns += 1;
                        next.0.phase = if step % 2 == 0 { Phase::Over } else { Phase::Abandoned };
                        let expected = Expected::Exactly(next.1);
                        match hybrid.save(next.0.clone(), expected).await {
                            Ok(_) => break,
                            Err(error) => {
                                assert!(
                                    matches!(error.kind(), ErrorKind::Conflict { .. }),
                                    "{error}"
                                );
                            }
                        }
                        let found = hybrid.get(id.to_string().as_bytes()).await.unwrap().unwrap();
                        next = (found.entity.as_ref().clone(), found.version);
                    }
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let mut total = 0;
        for id in 0..3 {
            total += bench.read(&id.to_string()).await.unwrap().turns;
        }
        assert_eq!(total, 6 * 60, "each save counts once");
        bench.shutdown.close(Duration::from_secs(10)).await;
    });
}

#[tokio::test(start_paused = true)]
async fn a_newer_version_or_a_removal_outlives_an_archive_that_was_under_way() {
    let mut bench = Bench::new(options(100), Duration::ZERO).await;
    bench.archive.shut();
    bench.start();
    for id in ["changed", "removed", "revived"] {
        bench.save(id, Phase::Over).await;
    }
    pass(MS).await;
    assert_eq!(bench.archive.flying.load(Ordering::SeqCst), 3);
    let newer = Game { turns: 99, ..game("changed", Phase::Over) };
    bench.hybrid.save(newer.clone(), Expected::Any).await.unwrap();
    bench.hybrid.remove(b"removed", Expected::Any).await.unwrap();
    bench.save("revived", Phase::Playing).await;
    bench.archive.open();
    pass(Duration::from_secs(1)).await;
    assert_eq!(bench.read("changed").await.unwrap(), newer);
    assert!(bench.is_archived("changed").await);
    assert!(bench.read("removed").await.is_none());
    assert_eq!(bench.read("revived").await.unwrap().phase, Phase::Playing);
    assert!(!bench.is_archived("revived").await);
    assert_eq!(bench.archive.names().await.len(), 1, "objects of older versions are gone");
    assert_eq!(bench.hybrid.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_game_that_is_removed_and_saved_again_is_not_covered_by_an_archive_of_the_removed_one() {
    let mut bench = Bench::new(options(100), Duration::ZERO).await;
    bench.archive.shut();
    bench.start();
    let first = bench.hybrid.save(game("again", Phase::Over), Expected::Any).await.unwrap();
    pass(MS).await;
    assert_eq!(bench.archive.flying.load(Ordering::SeqCst), 1);
    bench.hybrid.remove(b"again", Expected::Any).await.unwrap();
    let newer = Game { turns: 99, ..game("again", Phase::Over) };
    let second = bench.hybrid.save(newer.clone(), Expected::Absent).await.unwrap();
    assert_eq!(first, second, "the version does not tell the two apart");
    bench.archive.open();
    pass(Duration::from_secs(1)).await;
    assert_eq!(bench.read("again").await.unwrap(), newer);
    assert!(bench.is_archived("again").await);
    assert_eq!((bench.archive.names().await.len(), bench.hybrid.waiting()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reconciliation_leaves_alone_what_a_hand_over_has_just_written() {
    let mut bench = Bench::new(options(100), Duration::ZERO).await;
    *bench.archive.lag.lock() = Duration::from_secs(10);
    bench.start();
    bench.save("late", Phase::Over).await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(bench.archive.names().await.len(), 1, "it is there, and its writer does not know");
    assert_eq!(bench.hybrid.reconcile(Duration::ZERO).await.unwrap().removed, 0);
    pass(Duration::from_secs(10)).await;
    assert!(bench.is_archived("late").await);
    assert_eq!(bench.read("late").await.unwrap(), game("late", Phase::Over));
    let reconciled = bench.hybrid.reconcile(Duration::ZERO).await.unwrap();
    assert_eq!((reconciled.named, reconciled.removed, reconciled.missing), (1, 0, 0));
}
