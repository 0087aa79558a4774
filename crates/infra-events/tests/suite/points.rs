//! The power goes at each named point of the writer, the roll of a segment, the writing of an index
//! and the move to the archive: before and after every operation on every kind of file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use infra_core::{
    ErrorKind, Result,
    event::{Append, Direction, EventStore},
    version::{Expected, Version},
};
use infra_events::{Check, LogEventStore, Options};
use infra_testkit::seed::Seed;

use crate::{
    crash::{numbered, setting},
    game::{Event, stored, stream},
    power::{Files, Points, PowerDisk},
};

async fn open(
    folder: &Path,
    (files, points): (&Files, &Points),
    check: Check,
) -> Result<LogEventStore> {
    let options = Options::new(folder)
        .segment_bytes(4_096)
        .witness_interval(Duration::ZERO)
        .check(check)
        .disk(Arc::new(PowerDisk::at(files, points)));
    Ok(LogEventStore::open(options).await?.0)
}

/// What was told of each writer's events: the last that was acknowledged, and the last offered.
type Told = BTreeMap<u64, (u64, u64)>;

/// Writes, closes, opens and writes again, until the power goes.
async fn play(folder: &Path, disk: (&Files, &Points), told: &mut Told) -> Result<()> {
    for _ in 0..2 {
        let log = open(folder, disk, Check::Unsealed).await?;
        for step in 0..40 {
            let (acked, offered) = told.entry(step % 4).or_default();
            let event = stored(&numbered(*acked + 1));
            *offered = *acked + 1;
            let name = stream(&format!("w{}", step % 4));
            let expected = Expected::Any;
            if let Err(error) = log.append(Append::to(name, expected, vec![event])).await {
                log.close().await;
                return Err(error);
            }
            *acked += 1;
        }
        log.close().await;
    }
    Ok(())
}

/// Looks whether what was acknowledged is there, and nothing that was not offered.
async fn audit(log: &LogEventStore, told: &Told, what: &str) {
    for (writer, (acked, offered)) in told {
        let name = stream(&format!("w{writer}"));
        let read = log.read_stream(&name, Version::new(1), Direction::Forward, 1_000).await;
        let events: Vec<Event> =
            read.unwrap().iter().map(|event| event.event.payload.decode().unwrap()).collect();
        let found = events.len() as u64;
        assert!((*acked..=*offered).contains(&found), "{what}: {found} of {acked} to {offered}");
        assert!(events.into_iter().eq((1..=found).map(numbered)), "{what}: {writer}");
    }
}

/// The operations whose both sides are points.
const OPERATIONS: [&str; 14] = [
    "create witness",
    "create segment",
    "resize segment",
    "allocate segment",
    "write segment",
    "write frames",
    "sync segment",
    "sync folder",
    "write witness",
    "sync witness",
    "create index",
    "resize index",
    "write index",
    "sync index",
];

fn points() -> BTreeSet<String> {
    let both = |what| ["before", "after"].map(|when| format!("{when} {what}"));
    OPERATIONS.into_iter().flat_map(both).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_power_goes_at_each_named_point_of_writer_roll_and_index_and_nothing_is_lost() {
    let whole = Points::default();
    let folder = tempfile::tempdir().unwrap();
    play(folder.path(), (&Files::default(), &whole), &mut Told::new()).await.unwrap();
    let passed = whole.passed();
    assert_eq!(passed.keys().cloned().collect::<BTreeSet<_>>(), points(), "every point has a name");
    let each = setting("INFRA_EVENTS_POINTS", 4);
    for (point, times) in passed {
        for number in 0..each.min(times) {
            let nth = 1 + number * times / each.min(times);
            cut_at(&point, nth).await;
        }
    }
}

async fn cut_at(point: &str, nth: u64) {
    let what = format!("{point}, time {nth}");
    let (folder, files, mut told) = (tempfile::tempdir().unwrap(), Files::default(), Told::new());
    let cut = Points::armed(point, nth);
    let ended = play(folder.path(), (&files, &cut), &mut told).await;
    // An index is nobody's concern: the log may end well without it.
    assert!(cut.is_off() && (ended.is_err() || what.contains("index")), "{what}");
    PowerDisk::at(&files, &Points::default()).power_goes(&mut Seed(nth).dice());
    let on = Points::default();
    for check in [Check::Unsealed, Check::Everything] {
        let log = open(folder.path(), (&files, &on), check).await;
        let log = log.unwrap_or_else(|error| panic!("{what}, {check:?}: {error}"));
        audit(&log, &told, &what).await;
        log.append(Append::to(stream("next"), Expected::Any, vec![stored(&numbered(1))]))
            .await
            .unwrap();
        log.close().await;
    }
}

#[cfg(feature = "archive")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_the_archive_that_is_cut_at_any_point_loses_and_doubles_nothing() {
    use infra_events::archive::ArchivedEventStore;
    use parking_lot::Mutex;

    use crate::archive::{Lying, everything, model};

    // Opening writes the witness and syncs the last segment once; then the moved stream is truncated.
    let power = [
        ("before write frames", 1),
        ("after write frames", 1),
        ("before sync segment", 2),
        ("after sync segment", 2),
        ("after write witness", 2),
    ];
    let cuts = (0..2).map(|call| (None, Some(call))).chain(power.map(|point| (Some(point), None)));
    for (point, call) in cuts {
        let what = format!("{point:?}, call {call:?} of the archive");
        let (folder, files) = (tempfile::tempdir().unwrap(), Files::default());
        let log = open(folder.path(), (&files, &Points::default()), Check::Unsealed).await.unwrap();
        for number in 1..=20 {
            let name = stream(&format!("game-{}", number % 2));
            let append = Append::to(name, Expected::Any, vec![stored(&numbered(number))]);
            log.append(append).await.unwrap();
        }
        let before = everything(&log).await;
        log.close().await;
        drop(log);
        let cut = point.map_or_else(Points::default, |(name, nth)| Points::armed(name, nth));
        let inner = Arc::new(open(folder.path(), (&files, &cut), Check::Unsealed).await.unwrap());
        let objects = model();
        let fails_at = Mutex::new(call);
        let failing = Lying { inner: Arc::clone(&objects), lies: false, fails_at };
        let below = Arc::<LogEventStore>::clone(&inner);
        let store = ArchivedEventStore::open(below, Arc::new(failing), "events").await;
        let moved = store.unwrap().archive(&stream("game-1")).await;
        let kind = moved.map_err(|error| error.kind().clone());
        let is_told = matches!(kind, Err(ErrorKind::Unavailable | ErrorKind::Indeterminate));
        assert!(is_told && cut.is_off() == point.is_some(), "{what}: {kind:?}");
        inner.close().await;
        drop(inner);
        PowerDisk::at(&files, &Points::default()).power_goes(&mut Seed(1).dice());
        let on = Points::default();
        let inner = Arc::new(open(folder.path(), (&files, &on), Check::Everything).await.unwrap());
        let store = ArchivedEventStore::open(inner, objects, "events").await.unwrap();
        assert_eq!(everything(&store).await, before, "{what}");
        store.archive(&stream("game-1")).await.unwrap();
        assert_eq!(everything(&store).await, before, "{what}: repeated");
        assert!(store.is_archived(&stream("game-1")).await.unwrap(), "{what}");
    }
}
