//! What the archive holds: whole, found again, small, and removed when its time has come.

use super::*;

#[tokio::test]
async fn a_completed_game_comes_back_from_files_as_it_was_and_a_changed_byte_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let archive: Arc<dyn ArchiveStore> = Arc::new(Archive::in_folder(folder.path()).unwrap());
    let documents = Arc::new(infra_persistence::memory(SystemClock::shared()).unwrap());
    let vault = Vault::new(Arc::clone(&archive));
    let (hybrid, archivist) = Hybrid::open(documents, vault, options(10)).await.unwrap();
    let over = game("game-123", Phase::Over);
    hybrid.save(over.clone(), Expected::Absent).await.unwrap();
    assert_eq!(archivist.run_due().await, 1);
    let archived = hybrid.archived_as(b"game-123").await.unwrap().unwrap();
    assert!(
        0 < archived.stored && archived.length == serde_json::to_vec(&over).unwrap().len() as u64
    );
    let file = folder.path().join(&archived.object);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes.len() as u64, archived.stored);
    assert_eq!(hybrid.usage().entries, 0, "it has left memory");
    let found = hybrid.get(b"game-123").await.unwrap().unwrap();
    assert_eq!(*found.entity, over);
    // A copy of memory's own hides what happens to the file: a second repository has none.
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&file, changed).unwrap();
    let documents = Arc::clone(&archive);
    drop(documents);
    hybrid.restore(b"game-123").await.map(|_| ()).unwrap_err();
    std::fs::write(&file, &bytes).unwrap();
    hybrid.restore(b"game-123").await.unwrap();
    assert!(!file.exists(), "a restored game leaves no object");
    let found = hybrid.get(b"game-123").await.unwrap().unwrap();
    assert_eq!(*found.entity, over);
}

#[tokio::test(start_paused = true)]
async fn archived_games_are_found_by_time_and_tag_in_pages_and_purged_exactly_by_age() {
    let bench = Bench::new(options(100), Duration::ZERO).await;
    let start = bench.archive.clock.wall();
    for number in 0..10_u32 {
        let mut over = game(&format!("game-{number}"), Phase::Over);
        over.room = format!("room-{}", number % 2);
        bench.hybrid.save(over, Expected::Any).await.unwrap();
        bench.archivist().run_due().await;
        pass(HOUR).await;
    }
    let ask = async |query: ArchiveQuery| -> Vec<String> {
        let found = bench.hybrid.archived(query).await.unwrap();
        found.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
    };
    let (mut query, mut paged) = (ArchiveQuery { limit: 3, ..ArchiveQuery::default() }, Vec::new());
    loop {
        let page = bench.hybrid.archived(query.clone()).await.unwrap();
        let Some((key, last)) = page.last() else { break };
        query.after = Some((last.archived, key.clone()));
        paged.extend(page.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()));
    }
    let all: Vec<String> = (0..10).map(|number| format!("game-{number}")).collect();
    assert_eq!(paged, all);
    let from = Some(start.plus(3 * HOUR));
    let tagged =
        ArchiveQuery { tag: Some("room-1".to_owned()), from, limit: 9, ..ArchiveQuery::default() };
    assert_eq!(ask(tagged.clone()).await, ["game-3", "game-5", "game-7", "game-9"]);
    let before = Some(start.plus(5 * HOUR));
    assert_eq!(ask(ArchiveQuery { before, ..tagged.clone() }).await, ["game-3"]);
    assert!(ask(ArchiveQuery { limit: 0, ..tagged }).await.is_empty());
    let report = bench.hybrid.lifecycle().await.unwrap();
    assert_eq!((report.archived, report.live, report.waiting), (10, 0, 0));
    assert!(start <= report.oldest.unwrap() && report.oldest.unwrap() < report.newest.unwrap());
    // Ten hours later game-0 is ten hours old and game-9 one: a retention of 7 h takes game-0 to -2,
    // and game-3, which is exactly as old as that, stays.
    let purged = bench.hybrid.purge(7 * HOUR).await.unwrap();
    assert_eq!(purged.entities, 3);
    assert_eq!(ask(ArchiveQuery { limit: 99, ..ArchiveQuery::default() }).await, all[3..]);
    assert_eq!(bench.archive.names().await.len(), 7, "objects go with their names");
    assert!(bench.read("game-0").await.is_none());
    pass(MS).await;
    assert_eq!(bench.hybrid.purge(7 * HOUR).await.unwrap().entities, 1);
    assert_eq!(bench.hybrid.purge(Duration::ZERO).await.unwrap().entities, 6, "zero keeps none");
    assert_eq!(bench.hybrid.lifecycle().await.unwrap(), infra_persistence::Lifecycle::default());
    assert!(bench.archive.names().await.is_empty());
}

#[tokio::test]
async fn archives_are_a_fraction_of_the_games_and_less_with_a_dictionary_or_a_higher_level() {
    let long = |number: u32| {
        let mut long = game(&format!("game-{number}"), Phase::Over);
        long.rounds = (0..20)
            .map(|round| Round {
                number: round,
                declared: (0..4)
                    .map(|p| (format!("player {p}"), ((round * 7 + p + number) % 9) as u8))
                    .collect(),
                scores: (0..4)
                    .map(|p| (format!("player {p}"), i64::from(round * p * 13 + number) % 41 - 9))
                    .collect(),
            })
            .collect();
        long
    };
    let samples: Vec<Bytes> =
        (100..200).map(|number| serde_json::to_vec(&long(number)).unwrap().into()).collect();
    let mut sizes = Vec::new();
    for is_trained in [false, true] {
        let archive: Arc<dyn ArchiveStore> = Arc::new(Archive::in_memory());
        let vault = Vault::new(Arc::clone(&archive));
        let vault = if is_trained { vault.train(&samples, 8_192).await.unwrap() } else { vault };
        let documents = Arc::new(infra_persistence::memory(SystemClock::shared()).unwrap());
        let (hybrid, archivist) = Hybrid::open(
            Arc::<infra_persistence::Documents>::clone(&documents),
            vault,
            options(10),
        )
        .await
        .unwrap();
        for number in 0..10 {
            hybrid.save(long(number), Expected::Any).await.unwrap();
        }
        archivist.run_due().await;
        let report = hybrid.lifecycle().await.unwrap();
        assert!(report.stored * 10 < report.length * 7, "less than 70 %: {report:?}");
        sizes.push(report.stored);
        assert_eq!(hybrid.recompress(Duration::ZERO, 19).await.unwrap(), 10);
        let again = hybrid.lifecycle().await.unwrap();
        assert_eq!((again.archived, again.length), (10, report.length));
        assert!(again.stored <= report.stored, "{again:?}");
        assert_eq!(hybrid.recompress(Duration::ZERO, 19).await.unwrap(), 0, "once is enough");
        // Another vault, that was not trained, reads what was compressed with the dictionary.
        let (fresh, _) =
            Hybrid::<Game>::open(documents, Vault::new(archive), options(10)).await.unwrap();
        for number in 0..10 {
            let found = fresh.get(format!("game-{number}").as_bytes()).await.unwrap().unwrap();
            assert_eq!(*found.entity, long(number));
        }
    }
    assert!(sizes[1] < sizes[0], "with a dictionary {} bytes, without {}", sizes[1], sizes[0]);
    let few = Vault::new(Arc::new(Archive::in_memory())).train(&samples[..1], 8_192).await;
    assert_eq!(few.map(|_| ()).map_err(|error| error.kind().clone()), Err(ErrorKind::Invalid));
}

#[tokio::test(start_paused = true)]
async fn a_game_has_its_own_id_and_its_room_knows_the_one_that_is_played() {
    let mut bench = Bench::new(options(100), Duration::ZERO).await;
    let of_room = |id: &str, phase| Game { room: "ROOM01".to_owned(), ..game(id, phase) };
    let room = IndexName::new("room").unwrap();
    bench.hybrid.save(of_room("game-a", Phase::Playing), Expected::Absent).await.unwrap();
    let found = bench.hybrid.repository().find_unique(&room, b"ROOM01").await.unwrap().unwrap();
    assert_eq!(found.entity.id, "game-a");
    let second = bench.hybrid.save(of_room("game-b", Phase::Playing), Expected::Absent).await;
    assert!(matches!(second.unwrap_err().kind(), ErrorKind::Conflict { .. }), "one game at a time");
    assert_eq!(bench.hybrid.usage().active, 1);
    let repository = bench.hybrid.repository().clone();
    let over = Game {
        winner: Some("ann".to_owned()),
        ended: Some(Timestamp::from_millis(1_100)),
        ..of_room("game-a", Phase::Over)
    };
    for _ in 0..3 {
        bench.hybrid.save(over.clone(), Expected::Any).await.unwrap();
    }
    assert_eq!((bench.hybrid.usage().active, bench.hybrid.waiting()), (0, 1), "one hand-over");
    assert!(repository.find_unique(&room, b"ROOM01").await.unwrap().is_none());
    bench.hybrid.save(of_room("game-b", Phase::Playing), Expected::Absent).await.unwrap();
    bench.start();
    pass(MS).await;
    let report = bench.hybrid.lifecycle().await.unwrap();
    assert_eq!(
        (report.archived, report.live, report.waiting),
        (1, 1, 0),
        "counted when acknowledged"
    );
    let read = bench.read("game-a").await.unwrap();
    assert_eq!(read, over);
    let lasted = read.ended.unwrap().since(read.started);
    assert_eq!((read.winner.as_deref(), read.turns, lasted), (Some("ann"), 24, 100 * MS));
}
