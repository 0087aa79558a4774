//! Streams that end, are archived, and are read as before.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    ErrorKind, Result, SystemClock,
    archive::{ArchiveStore, ObjectInfo},
    clock::Timestamp,
    event::{Append, Direction, EventStore, Filter, RecordedEvent},
    id::EventType,
    lifecycle::Shutdown,
    version::{Expected, Position, Version},
};
use infra_events::{
    LogEventStore, MemoryEventStore, Options, Retention,
    archive::{ArchivedEventStore, Archivist},
};
use infra_testkit::{clock::ManualClock, model::ModelArchive, seed::Seed};
use parking_lot::Mutex;
use rand::RngExt as _;

use crate::game::{Event, append, created, memory, stored, stream};

pub(crate) fn model() -> Arc<ModelArchive> {
    Arc::new(ModelArchive::new(SystemClock::shared()))
}

pub(crate) async fn open(
    inner: &Arc<dyn EventStore>,
    archive: &Arc<ModelArchive>,
) -> ArchivedEventStore {
    let archive = Arc::<ModelArchive>::clone(archive);
    ArchivedEventStore::open(Arc::clone(inner), archive, "events").await.unwrap()
}

pub(crate) async fn everything(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let mut events = Vec::new();
    let mut after = Position::ZERO;
    loop {
        let page = store.read_all(after, &Filter::default(), 5).await.unwrap();
        events.extend(page.events);
        after = page.read_to;
        if page.is_end {
            return events;
        }
    }
}

async fn whole(store: &dyn EventStore, name: &str) -> Vec<RecordedEvent> {
    store.read_stream(&stream(name), Version::new(1), Direction::Forward, 1_000).await.unwrap()
}

/// Plays games by chance.
async fn play(store: &dyn EventStore, seed: Seed, events: usize) {
    let mut dice = seed.dice();
    for number in 0..events {
        let game = format!("game-{}", dice.random_range(0..5));
        let event = if dice.random_range(0..3) == 0 {
            created(&["p1", "p2"])
        } else {
            Event::PhaseChanged { to: number.to_string() }
        };
        append(store, &game, event).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_across_the_border_are_those_from_before() {
    for seed in Seed::each(6) {
        let folder = tempfile::tempdir().unwrap();
        let log = LogEventStore::open(Options::new(folder.path()).segment_bytes(4_096)).await;
        for inner in [memory(), Arc::new(log.unwrap().0) as Arc<dyn EventStore>] {
            let (mut dice, archive) = (seed.dice(), model());
            let mut store = open(&inner, &archive).await;
            play(&store, seed, 60).await;
            for round in 0..4 {
                let before = everything(&store).await;
                let game = format!("game-{}", dice.random_range(0..5));
                let archived = store.archive(&stream(&game)).await.unwrap();
                assert_eq!(whole(inner.as_ref(), &game).await, [], "{archived:?}, {seed}");
                assert_eq!(everything(&store).await, before, "round {round}, {seed}");
                if round == 1 {
                    store = open(&inner, &archive).await;
                }
                compare(&store, &before, &game, seed).await;
                play(&store, Seed(seed.0 * 10 + round), 9).await;
            }
        }
    }
}

/// Holds reads of a stream and filtered pages to plain filters over all events.
async fn compare(store: &dyn EventStore, all: &[RecordedEvent], game: &str, seed: Seed) {
    let mut dice = seed.dice();
    let of_game: Vec<_> = all.iter().filter(|e| e.stream == stream(game)).cloned().collect();
    assert_eq!(whole(store, game).await, of_game, "{seed}");
    let info = store.stream_info(&stream(game)).await.unwrap();
    assert_eq!(
        info.map(|info| (info.first.get(), info.last.get())),
        of_game.last().map(|last| (1, last.version.get()))
    );
    for _ in 0..10 {
        let (from, limit) = (dice.random_range(0..20_u64), dice.random_range(0..9_usize));
        let from = Version::new(from);
        let forward = of_game.iter().filter(|event| from <= event.version);
        let backward = of_game.iter().rev().filter(|event| event.version <= from);
        for (direction, right) in [
            (Direction::Forward, forward.take(limit).cloned().collect::<Vec<_>>()),
            (Direction::Backward, backward.take(limit).cloned().collect()),
        ] {
            let read = store.read_stream(&stream(game), from, direction, limit).await.unwrap();
            assert_eq!(read, right, "{limit} {direction:?} from {from}, {seed}");
        }
        let (one, other) = (dice.random_range(0..all.len()), dice.random_range(0..all.len()));
        let filter = Filter {
            event_types: vec![EventType::new("game_created").unwrap()],
            recorded_from: Some(all[one].recorded),
            recorded_to: Some(all[other].recorded),
            ..Filter::default()
        };
        let right: Vec<_> = all.iter().filter(|event| filter.admits(event)).cloned().collect();
        let found = store.read_all(Position::ZERO, &filter, 1_000).await.unwrap();
        assert_eq!(found.events, right, "{filter:?}, {seed}");
    }
}

#[tokio::test]
async fn a_stream_is_known_by_its_whole_name_and_counts_only_its_own_events() {
    let archive = model();
    let inner = memory();
    let store = open(&inner, &archive).await;
    for number in 0..5 {
        for game in ["game/1", "game/2", "lobby/1"] {
            append(&store, game, Event::PhaseChanged { to: number.to_string() }).await;
        }
    }
    store.archive(&stream("game/1")).await.unwrap();
    let events = whole(&store, "game/1").await;
    assert_eq!(events.len(), 5);
    assert_eq!(store.stream_info(&stream("game/1")).await.unwrap().unwrap().last, Version::new(5));
    for (event, number) in events.iter().zip(0..) {
        let decoded: Event = event.event.payload.decode().unwrap();
        assert_eq!(decoded, Event::PhaseChanged { to: format!("{number}") }, "typed as before");
    }
    assert_eq!(whole(&store, "game/2").await.len(), 5);
    assert!(store.is_archived(&stream("game/1")).await.unwrap());
    assert!(!store.is_archived(&stream("game/2")).await.unwrap());
    let kind = store.archive(&stream("nobody")).await.unwrap_err().kind().clone();
    assert_eq!(kind, ErrorKind::NotFound);
}

async fn names(archive: &ModelArchive) -> Vec<String> {
    let listed = archive.list("events", "", 1_000).await.unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

#[tokio::test]
async fn a_damaged_or_missing_segment_is_refused_by_name() {
    let (archive, inner) = (model(), memory());
    let store = open(&inner, &archive).await;
    play(&store, Seed(1), 40).await;
    store.archive(&stream("game-1")).await.unwrap();
    let name = names(&archive).await.pop().unwrap();
    let body = archive.get(&name).await.unwrap().unwrap();
    for at in (0..body.len()).step_by(7) {
        let mut flipped = body.to_vec();
        flipped[at] ^= 4;
        archive.replace(&name, flipped.into()).await.unwrap();
        let fresh = open(&inner, &archive).await;
        let game = stream("game-1");
        let read = fresh.read_stream(&game, Version::new(1), Direction::Forward, 9).await;
        let error = read.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
        let all = fresh.read_all(Position::ZERO, &Filter::default(), 100).await;
        assert!(all.is_err(), "a page over it is refused as well");
    }
    archive.delete(&name).await.unwrap();
    let read = store.read_stream(&stream("game-1"), Version::new(1), Direction::Forward, 9).await;
    let error = read.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&name), "{error}");
}

/// An archive that gives back something else than it was given, or fails at one call.
#[derive(Debug)]
pub(crate) struct Lying {
    pub(crate) inner: Arc<ModelArchive>,
    pub(crate) lies: bool,
    pub(crate) fails_at: Mutex<Option<usize>>,
}

impl Lying {
    fn call(&self) -> Result<()> {
        let mut fails_at = self.fails_at.lock();
        let Some(left) = fails_at.as_mut() else { return Ok(()) };
        if *left == 0 {
            *fails_at = None;
            return Err(infra_core::Error::new(ErrorKind::Unavailable, "archive"));
        }
        *left -= 1;
        Ok(())
    }
}

#[async_trait]
impl ArchiveStore for Lying {
    async fn create(&self, name: &str, body: Bytes) -> Result<()> {
        self.call()?;
        self.inner.create(name, body).await
    }

    async fn replace(&self, name: &str, body: Bytes) -> Result<()> {
        self.call()?;
        self.inner.replace(name, body).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.call()?;
        let body = self.inner.get(name).await?;
        Ok(body.map(|body| if self.lies { body.slice(..body.len() - 1) } else { body }))
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.inner.head(name).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.call()?;
        self.inner.delete(name).await
    }
}

#[tokio::test]
async fn nothing_is_removed_before_the_copy_is_verified_and_a_failed_move_can_be_repeated() {
    let inner = memory();
    play(inner.as_ref(), Seed(2), 40).await;
    let before = everything(inner.as_ref()).await;
    let lying = Lying { inner: model(), lies: true, fails_at: Mutex::new(None) };
    let lying = ArchivedEventStore::open(Arc::clone(&inner), Arc::new(lying), "events").await;
    let refused = lying.unwrap().archive(&stream("game-1")).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert_eq!(everything(inner.as_ref()).await, before, "the store below has everything");
    for step in 0..2 {
        let archive = model();
        let (objects, fails_at) = (Arc::clone(&archive), Mutex::new(Some(step)));
        let failing = Lying { inner: objects, lies: false, fails_at };
        let failing = ArchivedEventStore::open(Arc::clone(&inner), Arc::new(failing), "events");
        let failing = failing.await.unwrap();
        assert!(failing.archive(&stream("game-1")).await.is_err(), "call {step} fails");
        assert_eq!(everything(&failing).await, before);
        assert_eq!(everything(&open(&inner, &archive).await).await, before, "after a restart");
    }
    let archive = model();
    let store = open(&inner, &archive).await;
    store.archive(&stream("game-1")).await.unwrap();
    assert_eq!(everything(&store).await, before);
}

#[tokio::test]
async fn truncations_and_tombstones_reach_into_the_archive() {
    let (archive, inner) = (model(), memory());
    let store = open(&inner, &archive).await;
    for number in 0..6 {
        append(&store, "a", Event::PhaseChanged { to: number.to_string() }).await;
        append(&store, "b", Event::PhaseChanged { to: number.to_string() }).await;
        store.archive(&stream("a")).await.unwrap();
    }
    assert_eq!(names(&archive).await.len(), 6);
    store.truncate_before(&stream("a"), Version::new(4)).await.unwrap();
    for store in [store.clone(), open(&inner, &archive).await] {
        let versions: Vec<u64> = whole(&store, "a").await.iter().map(|e| e.version.get()).collect();
        assert_eq!(versions, [4, 5, 6]);
        assert_eq!(everything(&store).await.len(), 9);
        let info = store.stream_info(&stream("a")).await.unwrap().unwrap();
        assert_eq!(info.first, Version::new(4));
    }
    store.tombstone(&stream("a"), Expected::Exactly(Version::new(6))).await.unwrap();
    assert_eq!(whole(&store, "a").await, []);
    assert_eq!(names(&archive).await, Vec::<String>::new());
    assert_eq!(everything(&store).await.len(), 6);
    // A tombstone that was cut short between store and archive is completed at the next opening.
    store.archive(&stream("b")).await.unwrap();
    inner.tombstone(&stream("b"), Expected::Any).await.unwrap();
    let again = open(&inner, &archive).await;
    assert_eq!((everything(&again).await, names(&archive).await.len()), (vec![], 0));
}

#[tokio::test]
async fn what_is_nowhere_was_truncated_or_is_lost_and_these_two_are_told_apart() {
    let (archive, inner) = (model(), memory());
    let (store, other) = (open(&inner, &archive).await, open(&inner, &archive).await);
    for number in 0..6 {
        for game in ["truncated", "lost", "moved"] {
            append(&store, game, Event::PhaseChanged { to: number.to_string() }).await;
        }
    }
    let versions = async |store: &ArchivedEventStore, game: &str| {
        let events = whole(store, game).await;
        events.iter().map(|event| event.version.get()).collect::<Vec<_>>()
    };
    for before in [3, 5] {
        store.truncate_before(&stream("truncated"), Version::new(before)).await.unwrap();
    }
    assert_eq!(names(&archive).await.len(), 1, "the marker before is not needed any more");
    store.archive(&stream("moved")).await.unwrap();
    store.archive(&stream("lost")).await.unwrap();
    // Also for one that was opened before, as in another process.
    for store in [&store, &other, &open(&inner, &archive).await] {
        assert_eq!(versions(store, "truncated").await, [5, 6]);
        assert_eq!(versions(store, "moved").await, [1, 2, 3, 4, 5, 6]);
    }
    append(&store, "lost", Event::PhaseChanged { to: "on".into() }).await;
    let lost = names(&archive).await.into_iter().find(|name| name.contains("/lost/")).unwrap();
    archive.delete(&lost).await.unwrap();
    let fresh = open(&inner, &archive).await;
    for (from, direction) in
        [(1, Direction::Forward), (6, Direction::Forward), (9, Direction::Backward)]
    {
        let read = fresh.read_stream(&stream("lost"), Version::new(from), direction, 9).await;
        let error = read.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("events 1 to 6 of lost"), "{error}");
    }
    let sound = fresh.read_stream(&stream("lost"), Version::new(7), Direction::Forward, 9).await;
    assert_eq!(sound.unwrap().len(), 1, "what is there is read");
}

#[tokio::test]
async fn an_ended_stream_is_archived_in_time_leaves_memory_and_is_still_seen() {
    let clock = ManualClock::new();
    let inner: Arc<dyn EventStore> = Arc::new(MemoryEventStore::new(Arc::new(clock.clone())));
    let archive = model();
    let store = open(&inner, &archive).await;
    let make = || {
        Archivist::new(store.clone(), Arc::new(clock.clone()))
            .ended_by(EventType::new("game_completed").unwrap())
            .after(Duration::from_mins(1))
    };
    let mut archivist = make();
    append(&store, "game-1", created(&["p1"])).await;
    append(&store, "game-2", created(&["p1"])).await;
    append(&store, "game-1", Event::GameCompleted { winner: "p1".into() }).await;
    let before = everything(&store).await;
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(archivist.sweep().await.unwrap(), 0, "not due yet");
    assert_eq!(archivist.pending(), 1);
    clock.advance(Duration::from_millis(1));
    assert_eq!(archivist.sweep().await.unwrap(), 1);
    assert_eq!(whole(inner.as_ref(), "game-1").await, [], "it has left the store below");
    assert_eq!(whole(&store, "game-1").await.len(), 2);
    assert_eq!(everything(&store).await, before, "projections see it");
    assert_eq!(make().sweep().await.unwrap(), 0, "after a restart nothing is archived again");
    // Told to stop, it archives what waits, due or not.
    append(&store, "game-2", Event::GameCompleted { winner: "p1".into() }).await;
    let shutdown = Shutdown::new();
    let (archivist, stop) = (make(), shutdown.stop());
    shutdown.spawn(async move { archivist.run(stop).await });
    let ended = shutdown.close(Duration::from_secs(20)).await;
    assert_eq!((ended.panicked, ended.aborted), (0, 0));
    assert!(store.is_archived(&stream("game-2")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_archivist_outlives_an_archive_that_fails() {
    let (inner, archive) = (memory(), model());
    let fails_at = Mutex::new(Some(0));
    let lying = Arc::new(Lying { inner: Arc::clone(&archive), lies: false, fails_at });
    let objects = Arc::<Lying>::clone(&lying);
    let store = ArchivedEventStore::open(Arc::clone(&inner), objects, "events").await.unwrap();
    let over = || Event::GameCompleted { winner: "p1".into() };
    let start = || {
        let shutdown = Shutdown::new();
        let archivist = Archivist::new(store.clone(), SystemClock::shared())
            .ended_by(EventType::new("game_completed").unwrap())
            .drain_within(Duration::from_secs(1));
        let stop = shutdown.stop();
        shutdown.spawn(async move { archivist.run(stop).await });
        shutdown
    };
    append(&store, "game-1", over()).await;
    let shutdown = start();
    // The first try fails after an hour, and one of the next ones does not.
    tokio::time::sleep(Duration::from_hours(2)).await;
    assert_eq!(*lying.fails_at.lock(), None, "it was tried");
    assert!(store.is_archived(&stream("game-1")).await.unwrap());
    // What cannot be archived at the end is left as it is, and found at the next start.
    append(&store, "game-2", over()).await;
    *lying.fails_at.lock() = Some(0);
    assert_eq!(shutdown.close(Duration::from_secs(20)).await.panicked, 0);
    assert!(!store.is_archived(&stream("game-2")).await.unwrap());
    assert_eq!(whole(&store, "game-2").await.len(), 1);
    assert_eq!(start().close(Duration::from_secs(20)).await.panicked, 0);
    assert!(store.is_archived(&stream("game-2")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_from_the_start_sees_archived_and_live_events() {
    use futures_util::StreamExt as _;
    use infra_core::event::SubscriptionItem;
    let store = open(&memory(), &model()).await;
    play(&store, Seed(4), 30).await;
    store.archive(&stream("game-1")).await.unwrap();
    let mut subscription = store.subscribe(Position::ZERO, Filter::default()).await.unwrap();
    play(&store, Seed(5), 30).await;
    let right = everything(&store).await;
    let mut seen = Vec::new();
    while seen.len() < right.len() {
        let item = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await;
        if let SubscriptionItem::Event(event) = item.unwrap().unwrap().unwrap() {
            seen.push(*event);
        }
    }
    assert_eq!(seen, right);
}

#[tokio::test]
async fn retention_keeps_the_newest_and_the_youngest() {
    let clock = ManualClock::new();
    let store = MemoryEventStore::new(Arc::new(clock.clone()));
    let name = stream("game-1");
    for number in 0..10_u64 {
        let event = stored(&Event::PhaseChanged { to: number.to_string() });
        store.append(Append::to(name.clone(), Expected::Any, vec![event])).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    let now = || infra_core::Clock::wall(&clock);
    let apply = async |retention: Retention| retention.apply(&store, &name, now()).await.unwrap();
    assert_eq!(apply(Retention::all()).await, 0);
    assert_eq!(apply(Retention::all().newest(8)).await, 2);
    assert_eq!(apply(Retention::all().newest(8)).await, 0);
    // Event n was recorded at second n, and it is second 10.
    assert_eq!(apply(Retention::all().younger_than(Duration::from_secs(5))).await, 4);
    let left: Vec<u64> = whole(&store, "game-1").await.iter().map(|e| e.version.get()).collect();
    assert_eq!(left, [7, 8, 9, 10]);
    assert_eq!(apply(Retention::all().newest(0)).await, 4);
    let nobody = Retention::all().apply(&store, &stream("nobody"), Timestamp::EPOCH).await;
    assert_eq!(nobody.unwrap(), 0);
}
