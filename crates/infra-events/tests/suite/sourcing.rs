//! Aggregates and their repository.

use std::sync::Arc;

use infra_core::{
    ErrorKind, SystemClock,
    codec::Payload,
    event::{Append, Direction, EventStore, RecordedEvent},
    id::EventType,
    machine::{DomainEvent, StateMachine, Upcaster, Upcasters},
    version::{Expected, Version},
};
use infra_events::{
    LogEventStore, Options,
    sourcing::{Aggregate, Execution, Repository, given},
};
use infra_testkit::seed::Seed;
use rand::RngExt as _;

use crate::game::{Command, Event, Game, Refusal, created, memory, players, stored, stream};

fn repository(store: Arc<dyn EventStore>) -> Repository<Game> {
    Repository::new(store, SystemClock::shared())
}

fn create() -> Command {
    Command::Create("room1", players(&["p1", "p2", "p3", "p4"]))
}

fn upcasters() -> Upcasters {
    Upcasters::new(Game::SCHEMA_VERSION)
}

#[test]
fn creating_raises_one_event_and_creating_twice_changes_nothing() {
    let mut game = Aggregate::<Game>::new(stream("game-1"));
    game.handle(create()).unwrap();
    assert_eq!((game.version(), game.uncommitted().len()), (Version::new(1), 1));
    assert_eq!(game.uncommitted(), [created(&["p1", "p2", "p3", "p4"])]);
    let before = game.state().clone();
    assert_eq!(game.handle(create()).unwrap_err(), Refusal::AlreadyCreated);
    assert_eq!((game.state(), game.version()), (&before, Version::new(1)));
    given::<Game>([]).when(create()).then([created(&["p1", "p2", "p3", "p4"])]);
    given::<Game>([created(&["p1"])]).when(create()).then_refused(&Refusal::AlreadyCreated);
}

/// A command by chance; about half of them do not fit.
fn command(dice: &mut impl rand::Rng) -> Command {
    let player = |number: u32| format!("p{number}");
    match dice.random_range(0..8) {
        0 | 1 => create(),
        2 | 3 => Command::Start(player(dice.random_range(1..6))),
        4..7 => Command::Change(["PREPARATION", "DECLARATION", "TURN"][dice.random_range(0..3)]),
        _ => Command::Complete(player(dice.random_range(1..6))),
    }
}

#[test]
fn accepted_commands_are_events_are_versions_and_refused_ones_change_nothing() {
    for seed in Seed::each(200) {
        let mut dice = seed.dice();
        let mut game = Aggregate::<Game>::new(stream("game-1"));
        let mut accepted = 0;
        for _ in 0..dice.random_range(0..30) {
            let before = game.state().clone();
            match game.handle(command(&mut dice)) {
                Ok(()) => accepted += 1,
                Err(_) => assert_eq!(*game.state(), before, "{seed}"),
            }
        }
        assert_eq!(game.version(), Version::new(accepted), "{seed}");
        assert_eq!(game.uncommitted().len() as u64, accepted, "{seed}");
        let mut folded = Game::default();
        game.uncommitted().iter().for_each(|event| folded.evolve(event));
        assert_eq!(folded, *game.state(), "{seed}");
    }
}

/// Plays a game by chance in a store, among others.
async fn played(store: &Arc<dyn EventStore>, name: &str, seed: Seed) -> Aggregate<Game> {
    let (mut dice, games) = (seed.dice(), repository(Arc::clone(store)));
    let mut game = games.load(&stream(name)).await.unwrap();
    let _refused = game.handle(create());
    for _ in 0..20 {
        let _refused = game.handle(command(&mut dice));
    }
    games.save(&mut game).await.unwrap();
    game
}

async fn history(store: &Arc<dyn EventStore>, name: &str) -> Vec<RecordedEvent> {
    let from = Version::new(1);
    store.read_stream(&stream(name), from, Direction::Forward, 1_000).await.unwrap()
}

#[tokio::test]
async fn a_rebuilt_aggregate_is_the_live_one_from_any_snapshot() {
    let store = memory();
    for seed in Seed::each(20) {
        let name = format!("game-{}", seed.0);
        let live = played(&store, &name, seed).await;
        let events = history(&store, &name).await;
        let rebuilt = Aggregate::<Game>::rebuild(stream(&name), &events, &upcasters()).unwrap();
        assert_eq!((rebuilt.state(), rebuilt.version()), (live.state(), live.version()), "{seed}");
        assert!(rebuilt.uncommitted().is_empty());
        for cut in 0..=events.len() {
            let (early, late) = events.split_at(cut);
            let mut snapshot = Aggregate::<Game>::new(stream(&name));
            snapshot.replay(early, &upcasters()).unwrap();
            let (state, version) = (snapshot.state().clone(), snapshot.version());
            let mut resumed = Aggregate::resume(stream(&name), state, version);
            resumed.replay(late, &upcasters()).unwrap();
            assert_eq!(resumed.state(), live.state(), "{seed}, cut at {cut}");
            let at = repository(Arc::clone(&store)).load_at(&stream(&name), version).await;
            assert_eq!(at.unwrap().state(), snapshot.state(), "{seed}, at version {version}");
        }
    }
}

#[tokio::test]
async fn a_history_that_is_empty_gapped_foreign_or_unknown_is_a_typed_error() {
    let store = memory();
    played(&store, "game-1", Seed(3)).await;
    let events = history(&store, "game-1").await;
    let kind = |name: &str, events: &[RecordedEvent]| {
        let rebuilt = Aggregate::<Game>::rebuild(stream(name), events, &upcasters());
        rebuilt.map(|_| ()).unwrap_err().kind().clone()
    };
    assert_eq!(kind("game-1", &[]), ErrorKind::NotFound);
    assert_eq!(kind("game-2", &events), ErrorKind::Invalid);
    assert_eq!(kind("game-1", &events[1..]), ErrorKind::Corrupt);
    let mut gapped = events.clone();
    gapped.remove(1);
    assert_eq!(kind("game-1", &gapped), ErrorKind::Corrupt);
    let mut unknown = events.clone();
    unknown[0].event.payload = Payload::json(1, "nobody knows this").unwrap();
    assert_eq!(kind("game-1", &unknown), ErrorKind::Corrupt);
    let mut renamed = events.clone();
    renamed[0].event.event_type = EventType::new("game_opened").unwrap();
    assert_eq!(kind("game-1", &renamed), ErrorKind::Corrupt);
    let mut future = events;
    future[0].event.payload.schema = 2;
    assert_eq!(kind("game-1", &future), ErrorKind::Unsupported);
}

/// A room was called `table` in schema version 0.
#[derive(Debug)]
struct TableToRoom(EventType);

impl Upcaster for TableToRoom {
    fn event_type(&self) -> &EventType {
        &self.0
    }

    fn reads_version(&self) -> u32 {
        0
    }

    fn upcast(&self, payload: Payload) -> infra_core::Result<Payload> {
        let (room, players): (String, Vec<String>) = payload.decode()?;
        Payload::json(1, &Event::GameCreated { room, players })
    }
}

#[tokio::test]
async fn events_of_an_older_schema_are_brought_to_the_current_one() {
    let store = memory();
    let mut old = stored(&created(&[]));
    old.payload = Payload::json(0, &("table 7", players(&["p1"]))).unwrap();
    store.append(Append::to(stream("game-1"), Expected::Absent, vec![old])).await.unwrap();
    let step = TableToRoom(EventType::new("game_created").unwrap());
    let games = repository(store).upcasters(upcasters().with(step));
    let game = games.load(&stream("game-1")).await.unwrap();
    assert_eq!((game.state().room.as_str(), game.state().players.len()), ("table 7", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_saved_is_loaded_from_a_reopened_log_with_other_games_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || LogEventStore::open(Options::new(folder.path())).await.unwrap().0;
    let log = Arc::new(open().await);
    let store: Arc<dyn EventStore> = Arc::<LogEventStore>::clone(&log);
    let mut live = Vec::new();
    for seed in Seed::each(8) {
        live.push(played(&store, &format!("game-{}", seed.0), seed).await);
    }
    log.close().await;
    let games = repository(Arc::new(open().await));
    for game in live {
        let loaded = games.load(game.stream()).await.unwrap();
        assert_eq!((loaded.state(), loaded.version()), (game.state(), game.version()));
        assert_eq!(loaded.stored_version(), loaded.version());
    }
}

#[tokio::test]
async fn of_two_savers_one_wins_and_the_other_keeps_its_events() {
    let store = memory();
    let games = repository(Arc::clone(&store));
    let mut one = games.load(&stream("game-1")).await.unwrap();
    one.handle(create()).unwrap();
    games.save(&mut one).await.unwrap();
    assert!(one.uncommitted().is_empty());
    let mut other = games.load(&stream("game-1")).await.unwrap();
    one.handle(Command::Start("p1".into())).unwrap();
    other.handle(Command::Start("p2".into())).unwrap();
    games.save(&mut one).await.unwrap();
    let lost = games.save(&mut other).await.unwrap_err();
    assert!(matches!(lost.kind(), ErrorKind::Conflict { .. }), "{lost}");
    assert_eq!(other.uncommitted(), [Event::GameStarted { by: "p2".into() }]);
    assert_eq!(*games.refresh(&mut other).await.unwrap_err().kind(), ErrorKind::Invalid);
    let loaded = games.load(&stream("game-1")).await.unwrap();
    assert_eq!((loaded.state(), loaded.version()), (one.state(), Version::new(2)));
    assert_eq!(games.save(&mut one).await.unwrap().versions, [Version::new(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_many_callers_are_decided_one_after_the_other() {
    let store = memory();
    let games = Arc::new(repository(Arc::clone(&store)).tries(200));
    games.execute(&stream("game-1"), create()).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let games = Arc::clone(&games);
        callers.spawn(async move {
            let executed = games.execute(&stream("game-1"), Command::Start("p1".into())).await;
            matches!(executed.unwrap(), Execution::Accepted(_))
        });
    }
    let accepted = callers.join_all().await.into_iter().filter(|accepted| *accepted).count();
    assert_eq!(accepted, 1, "a game starts once");
    let mut changers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let games = Arc::clone(&games);
        changers.spawn(async move {
            games.execute(&stream("game-1"), Command::Change("TURN")).await.unwrap();
        });
    }
    changers.join_all().await;
    let game = games.load(&stream("game-1")).await.unwrap();
    assert_eq!(game.version(), Version::new(18), "no change is lost");
    let once = repository(store).tries(1);
    assert!(matches!(
        once.execute(&stream("game-1"), create()).await.unwrap(),
        Execution::Refused(Refusal::AlreadyCreated)
    ));
}

#[tokio::test]
async fn machines_have_versions_of_their_own_and_a_deleted_one_is_absent() {
    let store = memory();
    let games = repository(Arc::clone(&store));
    for number in 0..30_u64 {
        let name = stream(&format!("game-{}", number % 3));
        let command = match number / 3 {
            0 => create(),
            1 => Command::Start("p1".into()),
            _ => Command::Change("TURN"),
        };
        let Execution::Accepted(game) = games.execute(&name, command).await.unwrap() else {
            panic!("step {number} was refused")
        };
        assert_eq!(game.version(), Version::new(number / 3 + 1));
    }
    for game in 0..3 {
        let events = history(&store, &format!("game-{game}")).await;
        let versions: Vec<u64> = events.iter().map(|event| event.version.get()).collect();
        assert_eq!(versions, (1..=10).collect::<Vec<u64>>(), "no event is dropped");
        let types: Vec<_> = events.iter().take(3).map(|e| e.event.event_type.as_str()).collect();
        assert_eq!(types, ["game_created", "game_started", "phase_changed"]);
    }
    store.tombstone(&stream("game-1"), Expected::Exactly(Version::new(10))).await.unwrap();
    let gone = games.load(&stream("game-1")).await.unwrap();
    assert_eq!((gone.state(), gone.version()), (&Game::default(), Version::ZERO));
    let again = games.execute(&stream("game-1"), create()).await.unwrap_err();
    assert_eq!(*again.kind(), ErrorKind::Denied);
    assert_eq!(Event::GameCompleted { winner: "p1".into() }.name(), "game_completed");
}

#[tokio::test]
async fn a_stream_of_ten_thousand_events_is_rebuilt_whole() {
    let store = memory();
    let events = std::iter::once(created(&["p1"]))
        .chain([Event::GameStarted { by: "p1".into() }])
        .chain((0..9_998).map(|number| Event::PhaseChanged { to: number.to_string() }));
    let events = events.map(|event| stored(&event)).collect();
    store.append(Append::to(stream("game-1"), Expected::Absent, events)).await.unwrap();
    let game = repository(store).load(&stream("game-1")).await.unwrap();
    assert_eq!((game.version().get(), game.state().phase.as_str()), (10_000, "9997"));
}

#[test]
fn a_wrong_expectation_of_events_refusal_or_nothing_fails() {
    let fails = |test: fn()| std::panic::catch_unwind(test).is_err();
    assert!(fails(|| drop(given::<Game>([]).when(create()).then_nothing())));
    assert!(fails(|| drop(given::<Game>([]).when(create()).then([created(&["p1"])]))));
    assert!(fails(|| given::<Game>([]).when(create()).then_refused(&Refusal::Over)));
    assert!(fails(|| {
        drop(given::<Game>([created(&["p1"])]).when(create()).then_nothing());
    }));
    assert!(fails(|| {
        given::<Game>([created(&["p1"])]).when(create()).then_refused(&Refusal::Over);
    }));
    let made = given::<Game>([]).when(create()).then([created(&["p1", "p2", "p3", "p4"])]);
    made.then_state(|game| assert_eq!(game.room, "room1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_keeps_nothing_in_memory_reads_everything_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let clock = SystemClock::shared();
    let options = Options::new(folder.path()).queue(1).recent_bytes(0).clock(clock);
    let store = Arc::new(LogEventStore::open(options).await.unwrap().0);
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for place in 0..20 {
                    let event = Event::PhaseChanged { to: place.to_string() };
                    let game = stream(&format!("game-{number}"));
                    store
                        .append(Append::to(game, Expected::Any, vec![stored(&event)]))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for number in 0..8 {
        let game = stream(&format!("game-{number}"));
        let read =
            store.read_stream(&game, Version::new(1), Direction::Forward, 100).await.unwrap();
        let phases: Vec<Event> = read.iter().map(|e| e.event.payload.decode().unwrap()).collect();
        let expected = (0..20).map(|place| Event::PhaseChanged { to: place.to_string() });
        assert_eq!(phases, expected.collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn event_ids_can_be_repeated_and_a_version_beyond_the_end_is_the_end() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let store = memory();
        let repository =
            repository(Arc::clone(&store)).random(infra_core::random::Random::seeded(7));
        let game = stream("game-1");
        repository.execute(&game, create()).await.unwrap();
        let id = history(&store, "game-1").await[0].event.id;
        // The last 62 bits of an id are random, those before tell the time.
        ids.push(id.as_uuid().as_u128() & ((1 << 62) - 1));
        let early = repository.load_at(&game, Version::new(9)).await.unwrap();
        assert_eq!(early.stored_version(), Version::new(1));
        let nobody = repository.load_at(&stream("nobody"), Version::new(9)).await.unwrap();
        assert_eq!(nobody.stored_version(), Version::ZERO);
    }
    assert_eq!(ids[0], ids[1]);
}
