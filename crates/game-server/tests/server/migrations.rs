//! A hundred real games brought from the first schema of a room to the second and the third, and back.
//!
//! The second schema keeps statistics of the seats beside the room, the third one moves the chat into a history.
//! `tests/golden/rooms.txt` holds digests of each game in each schema: who changes how a room is written without
//! a new schema version meets it. `BLESS_GOLDEN=1` writes it anew.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, sync::Arc};

use game_server::{
    domain::{Act, Actor, ChatText, Command, Event, Refusal, Room, Seat},
    simulate::play_game,
};
use infra_core::{
    Error, ErrorKind, SystemClock,
    codec::Payload,
    event::{Append, EventStore, Filter, NewEvent},
    id::{EventId, EventType, StreamName},
    machine::StateMachine,
    random::Random,
    snapshot::SnapshotStore,
    version::{Expected, Position},
};
use infra_persistence::state::{
    Action, Durable, DurableOptions, Migrations, Persistent, SnapshotPolicy, Strategy, Target,
    recover,
};
use infra_testkit::model::{ModelEvents, ModelSnapshots};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const GAMES: u64 = 100;
const SEED: u64 = 2_026;

/// What the second schema keeps of the seats.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Statistics {
    scores: Vec<i64>,
    rounds: u64,
}

/// What the third schema keeps of the past.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct History {
    chat: Vec<Value>,
}

/// A room of the second schema.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Second {
    room: Room,
    statistics: Statistics,
}

/// A room of the third schema.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Third {
    room: Room,
    statistics: Statistics,
    history: History,
}

fn value(state: &impl Serialize) -> Value {
    serde_json::to_value(state).unwrap()
}

fn statistics(room: &Value) -> Value {
    let scores = room["game"]["scores"].as_array().cloned().unwrap_or_default();
    json!({"scores": scores, "rounds": room["game"]["n_scored"].as_u64().unwrap_or(0)})
}

fn second(room: &Value) -> Value {
    json!({"statistics": statistics(room), "room": room})
}

fn third(mut second: Value) -> Value {
    let chat = std::mem::replace(&mut second["room"]["chat"], json!([]));
    second["history"] = json!({"chat": chat});
    second
}

fn back_to_second(mut third: Value) -> Value {
    third["room"]["chat"] = third["history"]["chat"].take();
    third.as_object_mut().unwrap().remove("history");
    third
}

fn migrations() -> Arc<Migrations> {
    let migrations = Migrations::new()
        .step(1, 2, |room| Ok(second(&room)), |mut second| Ok(second["room"].take()))
        .and_then(|all| {
            all.step(2, 3, |state| Ok(third(state)), |state| Ok(back_to_second(state)))
        });
    Arc::new(migrations.unwrap())
}

impl StateMachine for Third {
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;
    const NAME: &'static str = Room::NAME;
    const SCHEMA_VERSION: u32 = 3;

    fn decide(&self, command: Command) -> Result<Vec<Event>, Refusal> {
        self.room.decide(command)
    }

    fn evolve(&mut self, event: &Event) {
        self.room.evolve(event);
        // All that the other events change stays where it was.
        if !matches!(event, Event::Dealt { .. } | Event::RoundScored { .. } | Event::Chat { .. }) {
            return;
        }
        let (mut room, mut chat) = (value(&self.room), self.history.chat.clone());
        chat.append(room["chat"].as_array_mut().unwrap());
        let excess = chat.len().saturating_sub(game_server::domain::RECENT_CHAT);
        self.history.chat = chat.split_off(excess);
        self.statistics = serde_json::from_value(statistics(&room)).unwrap();
        self.room = serde_json::from_value(room).unwrap();
    }

    fn check(&self) -> Result<(), String> {
        self.room.check()
    }
}

impl Persistent for Third {
    fn kind(event: &Event) -> &'static str {
        Room::kind(event)
    }

    fn phase(&self) -> &'static str {
        Persistent::phase(&self.room)
    }
}

/// A game as the first schema stored it: events, and a snapshot of two thirds of them.
struct Stored {
    stream: StreamName,
    events: Arc<dyn EventStore>,
    snapshots: Arc<ModelSnapshots>,
    happened: Vec<Event>,
}

impl Stored {
    async fn game(number: u64) -> Self {
        let clock = SystemClock::shared();
        let events: Arc<dyn EventStore> = Arc::new(ModelEvents::new(clock.clone()));
        let snapshots = Arc::new(ModelSnapshots::new());
        let stream = StreamName::new(format!("room-{number}")).unwrap();
        let mut happened = play_game(SEED, number).unwrap().events;
        let said = ChatText::new(format!("good game {number}")).unwrap();
        happened.push(Event::Chat { seat: Seat::First, text: said, cause: None });
        let stored = Self { stream, events, snapshots, happened };
        let middle = stored.happened.len() * 2 / 3;
        stored.append(0, middle).await;
        let (mut room, _) =
            Durable::<Room>::open(stored.stream.clone(), stored.options()).await.unwrap();
        room.snapshot().await.unwrap();
        stored.append(middle, stored.happened.len()).await;
        stored
    }

    async fn append(&self, from: usize, to: usize) {
        let (clock, random) = (SystemClock::shared(), Random::seeded(from as u64));
        let events = self.happened[from..to].iter().map(|event| {
            let kind = EventType::new(event.name()).unwrap();
            NewEvent::new(
                EventId::generate(clock.wall(), &random),
                kind,
                Payload::json(1, event).unwrap(),
            )
        });
        let append = Append::to(self.stream.clone(), Expected::Any, events.collect());
        self.events.append(append).await.unwrap();
    }

    fn options(&self) -> DurableOptions {
        let (events, snapshots) = (self.events.clone(), self.snapshots.clone());
        DurableOptions::new(Strategy::Hybrid { events, snapshots }, SystemClock::shared())
            .policy(SnapshotPolicy::never())
            .migrations(migrations())
    }

    fn fold<M: StateMachine<Event = Event>>(&self) -> M {
        let mut machine = M::default();
        self.happened.iter().for_each(|event| machine.evolve(event));
        machine
    }

    /// Everything that is stored.
    async fn all(
        &self,
    ) -> (Vec<infra_core::event::RecordedEvent>, Vec<infra_core::snapshot::Snapshot>) {
        let events =
            self.events.read_all(Position::ZERO, &Filter::default(), 100_000).await.unwrap();
        let mut snapshots = Vec::new();
        for version in self.snapshots.versions(&self.stream).await.unwrap() {
            snapshots.push(self.snapshots.latest(&self.stream, version).await.unwrap().unwrap());
        }
        (events.events, snapshots)
    }
}

fn digest(state: &impl Serialize) -> String {
    let digest = Sha256::digest(serde_json::to_vec(state).unwrap());
    let first = digest.first_chunk().copied().unwrap();
    format!("{:016x}", u64::from_be_bytes(first))
}

#[tokio::test]
async fn a_hundred_games_go_to_the_third_schema_and_back_as_the_golden_file_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rooms.txt");
    let mut lines = String::new();
    for number in 0..GAMES {
        let stored = Stored::game(number).await;
        let room: Room = stored.fold();
        let migrations = migrations();
        let in_second = migrations.migrate(value(&room), 1, 2).unwrap();
        let in_third = migrations.migrate(value(&room), 1, 3).unwrap();
        assert_eq!(
            migrations.migrate(in_third.clone(), 3, 1).unwrap(),
            value(&room),
            "game {number}"
        );
        assert_eq!(migrations.migrate(in_third.clone(), 3, 2).unwrap(), in_second, "game {number}");
        assert_eq!(
            migrations.migrate(in_second.clone(), 2, 1).unwrap(),
            value(&room),
            "game {number}"
        );
        // A program of the third schema reads the snapshot of the first one, and the events after it.
        let back =
            recover::<Third>(&stored.stream, &stored.options(), Target::Latest).await.unwrap();
        assert_eq!((back.report.snapshot.is_some(), back.report.skipped.len()), (true, 0));
        assert_eq!(back.machine, stored.fold::<Third>(), "game {number}");
        assert_eq!(value(&back.machine), in_third, "game {number}");
        let in_second: Second = serde_json::from_value(in_second).unwrap();
        let digests = [digest(&room), digest(&in_second), digest(&back.machine)].join(" ");
        writeln!(lines, "{number} {digests}").unwrap();
    }
    if std::env::var("BLESS_GOLDEN").is_ok() {
        std::fs::write(&file, &lines).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap();
    let differing: BTreeMap<_, _> =
        golden.lines().zip(lines.lines()).filter(|(a, b)| a != b).collect();
    assert!(differing.is_empty() && golden.len() == lines.len(), "{differing:?}");
}

#[tokio::test]
async fn a_migration_that_fails_in_the_middle_leaves_everything_as_it_was() {
    let stored = Stored::game(0).await;
    let before = stored.all().await;
    let failing = Migrations::new()
        .step(1, 2, |room| Ok(second(&room)), Ok)
        .and_then(|all| all.step(2, 3, |_| Err(Error::invalid("move chat", "planted")), Ok))
        .unwrap();
    let options = stored.options().migrations(Arc::new(failing.clone()));
    let failed = failing.migrate(value(&stored.fold::<Room>()), 1, 3).unwrap_err();
    assert!(failed.to_string().contains("step from schema 2 to 3"), "{failed}");
    // The snapshot is of no use then; the events are, and that is said.
    let back = recover::<Third>(&stored.stream, &options, Target::Latest).await.unwrap();
    assert_eq!((back.report.snapshot, back.report.skipped.len()), (None, 1));
    assert_eq!(back.machine, stored.fold::<Third>());
    // So it is opened from the events alone, and opening it writes nothing.
    let (opened, report) = Durable::<Third>::open(stored.stream.clone(), options).await.unwrap();
    assert_eq!((report.snapshot, report.skipped.len()), (None, 1));
    assert_eq!(report.replayed, stored.happened.len() as u64);
    assert_eq!(opened.state(), &stored.fold::<Third>());
    drop(opened);
    assert_eq!(stored.all().await, before);
}

#[tokio::test]
async fn a_program_of_the_first_schema_refuses_what_the_third_one_wrote_before_it_writes() {
    let stored = Stored::game(1).await;
    let (mut room, _) =
        Durable::<Third>::open(stored.stream.clone(), stored.options()).await.unwrap();
    let host = room.state().room.player_at(Seat::First).unwrap();
    let said = Act::Chat { text: ChatText::new("again?").unwrap() };
    room.execute(&Action::new("chat"), Command::of(Actor::Player(host), said)).await.unwrap();
    assert_eq!(room.state().history.chat.len(), 2);
    drop(room);
    let before = stored.all().await;
    let refused = Durable::<Room>::open(stored.stream.clone(), stored.options()).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Unsupported, "{refused}");
    assert!(refused.to_string().contains("newer version"), "{refused}");
    assert_eq!(stored.all().await, before);
}
