//! Streams that are moved to files and to the bucket of a real S3 server, and read as before.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Clock, Error, ErrorKind, SystemClock,
    archive::ArchiveStore,
    codec::Payload,
    event::{Append, Direction, EventStore, Filter, NewEvent, RecordedEvent},
    id::{EventId, EventType, StreamName},
    random::Random,
    version::{Expected, Position, Version},
};
use infra_events::{LogEventStore, Options, archive::ArchivedEventStore};
use infra_persistence::{Archive, S3Options};
use infra_testkit::{
    seed::Seed,
    server::{BUCKET, Kind, Server},
};
use rand::RngExt as _;

const GAMES: usize = 5;

fn game(number: usize) -> StreamName {
    StreamName::new(format!("game-{number}")).unwrap()
}

/// Appends to games by chance.
async fn play(store: &dyn EventStore, seed: Seed, n_events: u64) {
    let (mut dice, random) = (seed.dice(), Random::seeded(seed.0));
    for number in 0..n_events {
        let id = EventId::generate(SystemClock::new().wall(), &random);
        let kind = EventType::new(if number % 3 == 0 { "played" } else { "said" }).unwrap();
        let event = NewEvent::new(id, kind, Payload::json(1, &number).unwrap());
        let to = game(dice.random_range(0..GAMES));
        store.append(Append::to(to, Expected::Any, vec![event])).await.unwrap();
    }
}

async fn everything(store: &dyn EventStore, filter: &Filter) -> Vec<RecordedEvent> {
    let (mut events, mut after) = (Vec::new(), Position::ZERO);
    loop {
        let page = store.read_all(after, filter, 7).await.unwrap();
        events.extend(page.events);
        after = page.read_to;
        if page.is_end {
            return events;
        }
    }
}

/// Moves games one after the other; reads across the border are those from before, also after a restart.
async fn reads_stay(archive: Arc<dyn ArchiveStore>) {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LogEventStore::open(Options::new(folder.path())).await.unwrap();
    let inner: Arc<dyn EventStore> = Arc::new(log);
    play(inner.as_ref(), Seed(1), 80).await;
    let mut store = open(&inner, &archive).await;
    let played =
        Filter { event_types: vec![EventType::new("played").unwrap()], ..Filter::default() };
    for number in 0..GAMES - 1 {
        let (all, some) =
            (everything(&store, &Filter::default()).await, everything(&store, &played).await);
        store.archive(&game(number)).await.unwrap();
        let left = inner.read_stream(&game(number), Version::new(1), Direction::Forward, 9).await;
        assert_eq!(left.unwrap(), [], "it is in the archive alone");
        if number % 2 == 1 {
            store = open(&inner, &archive).await;
        }
        assert_eq!(everything(&store, &Filter::default()).await, all, "game {number}");
        assert_eq!(everything(&store, &played).await, some, "game {number}");
        let back = Version::new(3);
        let read = store.read_stream(&game(number), back, Direction::Backward, 9).await.unwrap();
        let of_game = all.iter().filter(|event| event.stream == game(number));
        let last: Vec<_> = of_game.filter(|event| event.version <= back).cloned().rev().collect();
        assert_eq!(read, last);
        play(&store, Seed(10 + number as u64), 9).await;
    }
}

async fn open(inner: &Arc<dyn EventStore>, archive: &Arc<dyn ArchiveStore>) -> ArchivedEventStore {
    ArchivedEventStore::open(Arc::clone(inner), Arc::clone(archive), "events").await.unwrap()
}

/// Flips bits of what was archived, then takes it away: each read over it is refused by its name.
async fn damage_is_named(archive: Arc<dyn ArchiveStore>) {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LogEventStore::open(Options::new(folder.path())).await.unwrap();
    let inner: Arc<dyn EventStore> = Arc::new(log);
    play(inner.as_ref(), Seed(2), 40).await;
    open(&inner, &archive).await.archive(&game(1)).await.unwrap();
    let name = archive.list("events", "", 9).await.unwrap().pop().unwrap().name;
    let body = archive.get(&name).await.unwrap().unwrap();
    let refused = async || {
        let store = open(&inner, &archive).await;
        let read = store.read_stream(&game(1), Version::new(1), Direction::Forward, 9).await;
        let error = read.unwrap_err();
        let folder = name.rsplit_once('/').unwrap().0;
        assert!(error.to_string().contains(folder), "{error}");
        error.kind().clone()
    };
    for at in (0..body.len()).step_by(body.len() / 12) {
        let mut flipped = body.to_vec();
        flipped[at] ^= 4;
        archive.replace(&name, flipped.into()).await.unwrap();
        let kind = refused().await;
        assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported), "{at}: {kind:?}");
    }
    archive.delete(&name).await.unwrap();
    assert_eq!(refused().await, ErrorKind::Corrupt);
}

fn bucket(server: &Server, prefix: &str) -> Arc<dyn ArchiveStore> {
    let options =
        S3Options::new(BUCKET).prefix(prefix).endpoint(format!("http://{}", server.addr()));
    let options = options.region("eu-north-1").credentials("any", "secret").retries(0);
    Arc::new(Archive::in_bucket(&options.patience(Duration::from_secs(20))).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_in_files_are_read_as_before_and_damage_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let archive = |name: &str| Arc::new(Archive::in_folder(folder.path().join(name)).unwrap());
    reads_stay(archive("whole")).await;
    damage_is_named(archive("damaged")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_in_a_bucket_are_read_as_before_and_damage_is_refused_by_name() {
    let server = Server::start(Kind::S3).await.unwrap();
    reads_stay(bucket(&server, "whole")).await;
    damage_is_named(bucket(&server, "damaged")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_met_a_killed_bucket_removed_nothing_and_is_repeated() {
    let mut server = Server::start(Kind::S3).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LogEventStore::open(Options::new(folder.path())).await.unwrap();
    let inner: Arc<dyn EventStore> = Arc::new(log);
    play(inner.as_ref(), Seed(3), 40).await;
    let before = everything(inner.as_ref(), &Filter::default()).await;
    let archive = bucket(&server, "killed");
    let store = open(&inner, &archive).await;
    store.archive(&game(0)).await.unwrap();
    server.kill().unwrap();
    let may_be_repeated =
        |error: &Error| error.is_transient() || *error.kind() == ErrorKind::Indeterminate;
    let refused = store.archive(&game(1)).await.unwrap_err();
    assert!(may_be_repeated(&refused), "{refused}");
    let kept = inner.read_stream(&game(1), Version::new(1), Direction::Forward, 99).await.unwrap();
    let of_game = before.iter().filter(|event| event.stream == game(1));
    assert_eq!(kept, of_game.cloned().collect::<Vec<_>>(), "nothing was removed");
    server.restart().await.unwrap();
    // A connection of before the kill may fail one more call.
    let repeated = async {
        while let Err(error) = store.archive(&game(1)).await {
            assert!(may_be_repeated(&error), "{error}");
        }
    };
    tokio::time::timeout(Duration::from_secs(30), repeated).await.unwrap();
    assert_eq!(everything(&open(&inner, &archive).await, &Filter::default()).await, before);
}
