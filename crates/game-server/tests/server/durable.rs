//! The real game as a durable machine on the real stores: loaded by other processes, and killed on its way.
//!
//! `GAME_KILLS=all` kills after every command of the game instead of every few.

use std::{
    env,
    fs::File,
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command as Process, Stdio},
    sync::Arc,
    time::Duration,
};

use game_server::domain::{
    Act, ActionNumber, Actor, Awaited, Command, Entropy, Event, Name, PlayerId, Room, Seat,
    Settings, Status, Style, Viewer, choose,
};
use infra_core::{
    SystemClock,
    event::{Direction, EventStore},
    id::StreamName,
    machine::StateMachine,
    random::Random,
    snapshot::SnapshotStore,
    version::Version,
};
use infra_events::LogEventStore;
use infra_persistence::{
    Documents, Snapshots,
    state::{
        Action, Durable, DurableOptions, Outcome, Persistent, Recovered, SnapshotPolicy, Strategy,
        Target, recover,
    },
};
use infra_testkit::model::{ModelEvents, ModelSnapshots};

const FOLDER: &str = "GAME_FOLDER";

/// The game of most of these tests.
const GAME: u8 = 23;

fn stream() -> StreamName {
    StreamName::new("room-TEST12").unwrap()
}

/// Returns what is asked of a room next; it follows from the room and the game's number alone, so that a game
/// can be repeated. `None` once it is over.
fn next(room: &Room, game: u8) -> Option<Command> {
    let host = PlayerId::from_uuid(uuid::Uuid::from_u128(7));
    let mut seed = [game; 32];
    seed[..8].copy_from_slice(&room.offset().to_le_bytes());
    let entropy = Entropy::new(seed);
    let number = room.last_action(host).map_or(1, |last| last.get() + 1);
    let numbered = |act| Command::numbered(host, ActionNumber::new(number), act);
    match room.status() {
        None => {
            let (name, settings) = (Name::new("Mei").unwrap(), Settings::default());
            Some(Command::of(Actor::Player(host), Act::Create { name, settings }))
        }
        Some(Status::Waiting | Status::Ready) => Some(numbered(Act::Start { entropy })),
        Some(Status::InGame) => {
            let due = room.due().unwrap();
            let Awaited::Person(seat) = due.awaited else { return Some(due.command(entropy)) };
            let view = room.view(Viewer::Seat(seat)).unwrap().game.unwrap();
            let chosen = choose(&view, seat, Style::default()).unwrap();
            Some(numbered(chosen.into_act(entropy)))
        }
        Some(Status::Completed | Status::Abandoned) => None,
    }
}

/// Returns the rooms after 0, 1, 2... events of the game that nothing interrupts, and its events.
fn uninterrupted() -> (Vec<Room>, Vec<Event>) {
    let (mut rooms, mut events) = (vec![Room::default()], Vec::new());
    while let Some(command) = next(rooms.last().unwrap(), GAME) {
        for event in rooms.last().unwrap().decide(command).unwrap() {
            let mut room = rooms.last().unwrap().clone();
            room.evolve(&event);
            rooms.push(room);
            events.push(event);
        }
    }
    (rooms, events)
}

/// The real log beside the real documents.
struct Stores {
    log: Arc<LogEventStore>,
    documents: Arc<Documents>,
    options: DurableOptions,
}

impl Stores {
    async fn open(folder: &Path) -> Self {
        let (log, report) =
            LogEventStore::open(infra_events::Options::new(folder.join("events"))).await.unwrap();
        assert!(report.lost.is_none(), "{report:?}");
        let documents = infra_persistence::Options::new(folder.join("documents"));
        let (documents, report) = infra_persistence::embedded(documents).await.unwrap();
        assert_eq!(report.lost, 0);
        let (log, documents) = (Arc::new(log), Arc::new(documents));
        let strategy = Strategy::Hybrid {
            events: log.clone(),
            snapshots: Arc::new(Snapshots::new(documents.clone()).unwrap()),
        };
        let policy = SnapshotPolicy::never().every(40).on_shutdown().keep(3);
        let options = DurableOptions::new(strategy, SystemClock::shared()).policy(policy);
        Self { log, documents, options }
    }

    async fn room(&self) -> Durable<Room> {
        Durable::open(stream(), self.options.clone()).await.unwrap().0
    }

    async fn recover(&self) -> Recovered<Room> {
        recover(&stream(), &self.options, Target::Latest).await.unwrap()
    }

    async fn events(&self) -> Vec<Event> {
        let first = Version::new(1);
        let all = self.log.read_stream(&stream(), first, Direction::Forward, 10_000).await.unwrap();
        all.iter().map(|recorded| recorded.event.payload.decode().unwrap()).collect()
    }

    async fn close(self) {
        self.log.close().await;
        self.documents.close().await;
    }
}

/// Gives the room its next command; returns whether there was one.
async fn step(room: &mut Durable<Room>) -> bool {
    let Some(command) = next(room.state(), GAME) else { return false };
    let outcome = room.execute(&Action::new("step"), command).await.unwrap();
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    true
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// Starts this program again as one of the children below.
fn process(child: &str, folder: &Path) -> std::process::Child {
    let name = format!("durable::{child}");
    Process::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &name])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// A fresh process that loads the room and writes its whole state. As a test of its own it has nothing to do.
#[test]
fn child_that_loads() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    run(async {
        let stores = Stores::open(folder).await;
        let room = stores.recover().await.machine;
        std::fs::write(folder.join("loaded"), serde_json::to_vec(&room).unwrap()).unwrap();
        stores.close().await;
    });
}

/// A process that plays, and says after each command how far the room is, until it is killed or the game is
/// over. As a test of its own it has nothing to do.
#[test]
fn child_that_plays() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    run(async {
        let stores = Stores::open(folder).await;
        let mut room = stores.room().await;
        let mut acks = File::options().append(true).create(true).open(folder.join("acks")).unwrap();
        while step(&mut room).await {
            // One write call a line: what was written is the system's, also when the process is killed.
            acks.write_all(format!("{}\n", room.version()).as_bytes()).unwrap();
        }
        room.close().await.unwrap();
        stores.close().await;
    });
}

#[test]
fn a_fresh_process_loads_the_whole_state_after_every_phase_of_a_played_game() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Room::default();
    let mut phases = Vec::new();
    while model.status() != Some(Status::Completed) {
        let before = model.phase_name();
        run(async {
            let stores = Stores::open(folder.path()).await;
            let mut room = stores.room().await;
            assert_eq!(room.state(), &model);
            while room.state().phase_name() == before && step(&mut room).await {}
            model = room.state().clone();
            room.close().await.unwrap();
            stores.close().await;
        });
        phases.push(model.phase_name());
        let mut child = process("child_that_loads", folder.path());
        assert!(child.wait().unwrap().success());
        let loaded = std::fs::read(folder.path().join("loaded")).unwrap();
        assert_eq!(serde_json::from_slice::<Room>(&loaded).unwrap(), model, "{phases:?}");
    }
    for phase in ["waiting", "declaration", "turn", "completed"] {
        assert!(phases.contains(&phase), "{phases:?}");
    }
    assert_eq!(model, *uninterrupted().0.last().unwrap(), "played on by a process for each phase");
}

/// A room's phase by the name that the log of transitions has.
trait PhaseName {
    fn phase_name(&self) -> &'static str;
}

impl PhaseName for Room {
    fn phase_name(&self) -> &'static str {
        Persistent::phase(self)
    }
}

/// What was acknowledged: in how many lines, and up to which event.
fn acknowledged(folder: &Path) -> (usize, usize) {
    let text = std::fs::read_to_string(folder.join("acks")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    (whole.lines().count(), whole.lines().last().map_or(0, |last| last.parse().unwrap()))
}

#[expect(clippy::disallowed_methods, reason = "another process is waited for, by its own time")]
fn pause() {
    std::thread::sleep(Duration::from_micros(200));
}

#[test]
fn a_game_whose_process_is_killed_again_and_again_ends_as_if_it_never_was() {
    let kills_each = env::var("GAME_KILLS").is_ok_and(|kills| kills == "all");
    let (rooms, events) = uninterrupted();
    let folder = tempfile::tempdir().unwrap();
    let random = Random::from_system();
    let acks = || acknowledged(folder.path());
    let (mut n_kills, mut n_from_snapshot) = (0, 0);
    loop {
        let n_steps = if kills_each { 1 } else { 8 + random.below(24) };
        let until = acks().0 + usize::try_from(n_steps).unwrap();
        let mut child = process("child_that_plays", folder.path());
        let is_over = loop {
            if let Some(ended) = child.try_wait().unwrap() {
                assert!(ended.success(), "it ended by itself: {ended:?}");
                break true;
            }
            if until <= acks().0 {
                break false;
            }
            pause();
        };
        if !is_over {
            child.kill().unwrap();
            // It may have come to the end of the game just before.
            n_kills += u32::from(child.wait().unwrap().signal() == Some(9));
        }
        let acknowledged = acks().1;
        run(async {
            let stores = Stores::open(folder.path()).await;
            let Recovered { machine, report, .. } = stores.recover().await;
            let version = usize::try_from(report.version.get()).unwrap();
            assert!(acknowledged <= version, "{acknowledged} was acknowledged: {report:?}");
            assert_eq!(machine, rooms[version], "after kill {n_kills}");
            assert_eq!((report.skipped.len(), report.broken), (0, None));
            n_from_snapshot += u32::from(report.snapshot.is_some());
            stores.close().await;
        });
        if is_over {
            break;
        }
    }
    assert!(4 < n_kills && 0 < n_from_snapshot, "{n_kills} kills, {n_from_snapshot} by snapshot");
    let stored = run(async {
        let stores = Stores::open(folder.path()).await;
        let read = stores.events().await;
        stores.close().await;
        read
    });
    assert_eq!(stored, events, "the same game, event by event");
    let seats = rooms.last().unwrap().view(Viewer::Seat(Seat::First)).unwrap();
    assert!(seats.result.is_some(), "and to its end");
    println!(
        "{n_kills} kills, {n_from_snapshot} recoveries by a snapshot, {} events",
        events.len()
    );
}

#[tokio::test]
async fn what_a_real_game_takes_is_bounded_and_told() {
    const GAMES: u8 = 6;
    let (mut state, mut snapshot, mut stored, mut n_events) = (0, 0, 0, 0);
    for game in 0..GAMES {
        let events = Arc::new(ModelEvents::new(SystemClock::shared()));
        let snapshots = Arc::new(ModelSnapshots::new());
        let strategy = Strategy::Hybrid { events: events.clone(), snapshots: snapshots.clone() };
        let options = DurableOptions::new(strategy, SystemClock::shared());
        let (mut room, _) = Durable::<Room>::open(stream(), options).await.unwrap();
        while let Some(command) = next(room.state(), game) {
            room.execute(&Action::new("step").by("player"), command).await.unwrap();
        }
        room.snapshot().await.unwrap();
        state += serde_json::to_vec(room.state()).unwrap().len();
        let newest = snapshots.latest(&stream(), Version::MAX).await.unwrap().unwrap();
        snapshot += newest.payload.body.len();
        let (first, all) = (Version::new(1), usize::MAX);
        let recorded = events.read_stream(&stream(), first, Direction::Forward, all).await.unwrap();
        n_events += recorded.len();
        stored += recorded.iter().map(|recorded| bytes_of(&recorded.event)).sum::<usize>();
    }
    let each = |sum: usize| sum / usize::from(GAMES);
    let (state, snapshot, stored, n_events) =
        (each(state), each(snapshot), each(stored), each(n_events));
    println!("a game: {n_events} events of {stored} bytes, state {state}, snapshot {snapshot}");
    assert!(state < 5_000 && snapshot < 2_500 && stored < 400 * n_events);
}

/// Returns the bytes of an event's type, payload and metadata.
fn bytes_of(event: &infra_core::event::NewEvent) -> usize {
    let metadata: usize = event.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    event.event_type.as_str().len() + event.payload.body.len() + metadata
}
