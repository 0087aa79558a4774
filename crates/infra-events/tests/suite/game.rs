//! A small game: enough of one to be created, started, played and completed.

use std::sync::Arc;

use infra_core::{
    Result, SystemClock,
    codec::Payload,
    event::{Append, EventStore, NewEvent},
    id::{EventId, EventType, StreamName},
    machine::{DomainEvent, StateMachine},
    random::Random,
    version::{Expected, Position},
};
use infra_core::{clock::Timestamp, event::RecordedEvent};
use infra_events::{MemoryEventStore, projection::Projection};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Game {
    pub(crate) room: String,
    pub(crate) players: Vec<String>,
    pub(crate) is_started: bool,
    pub(crate) phase: String,
    pub(crate) winner: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Create(&'static str, Vec<String>),
    Start(String),
    Change(&'static str),
    Complete(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    GameCreated { room: String, players: Vec<String> },
    GameStarted { by: String },
    PhaseChanged { to: String },
    GameCompleted { winner: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    AlreadyCreated,
    NotCreated,
    NotStarted,
    AlreadyStarted,
    NoPlayer,
    Over,
}

impl DomainEvent for Event {
    fn name(&self) -> &'static str {
        match self {
            Self::GameCreated { .. } => "game_created",
            Self::GameStarted { .. } => "game_started",
            Self::PhaseChanged { .. } => "phase_changed",
            Self::GameCompleted { .. } => "game_completed",
        }
    }
}

impl StateMachine for Game {
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;
    const NAME: &'static str = "game";
    const SCHEMA_VERSION: u32 = 1;

    fn decide(&self, command: Command) -> Result<Vec<Event>, Refusal> {
        if self.winner.is_some() {
            return Err(Refusal::Over);
        }
        let is_created = !self.room.is_empty();
        let event = match command {
            Command::Create(..) if is_created => return Err(Refusal::AlreadyCreated),
            Command::Create(room, players) => Event::GameCreated { room: room.into(), players },
            _ if !is_created => return Err(Refusal::NotCreated),
            Command::Start(_) if self.is_started => return Err(Refusal::AlreadyStarted),
            Command::Start(by) if !self.players.contains(&by) => return Err(Refusal::NoPlayer),
            Command::Start(by) => Event::GameStarted { by },
            _ if !self.is_started => return Err(Refusal::NotStarted),
            Command::Change(to) => Event::PhaseChanged { to: to.into() },
            Command::Complete(winner) if !self.players.contains(&winner) => {
                return Err(Refusal::NoPlayer);
            }
            Command::Complete(winner) => Event::GameCompleted { winner },
        };
        Ok(vec![event])
    }

    fn evolve(&mut self, event: &Event) {
        match event.clone() {
            Event::GameCreated { room, players } => (self.room, self.players) = (room, players),
            Event::GameStarted { .. } => self.is_started = true,
            Event::PhaseChanged { to } => self.phase = to,
            Event::GameCompleted { winner } => self.winner = Some(winner),
        }
    }
}

pub(crate) fn players(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(crate) fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

pub(crate) fn memory() -> Arc<dyn EventStore> {
    Arc::new(MemoryEventStore::new(SystemClock::shared()))
}

/// Returns an event of the game as it is appended.
pub(crate) fn stored(event: &Event) -> NewEvent {
    let id = EventId::generate(Timestamp::from_millis(1), &Random::from_system());
    let event_type = EventType::new(event.name()).unwrap();
    NewEvent::new(id, event_type, Payload::json(1, event).unwrap())
}

pub(crate) async fn append(store: &dyn EventStore, game: &str, event: Event) -> Position {
    let append = Append::to(stream(game), Expected::Any, vec![stored(&event)]);
    store.append(append).await.unwrap().position
}

pub(crate) fn created(names: &[&str]) -> Event {
    Event::GameCreated { room: "room1".into(), players: players(names) }
}

/// How many games there are, and how many each player has been in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statistics(pub(crate) &'static str);

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) total: u64,
    pub(crate) active: i64,
    pub(crate) completed: u64,
}

impl Projection for Statistics {
    type View = Count;

    fn name(&self) -> &str {
        self.0
    }

    fn keys(&self, event: &RecordedEvent) -> Vec<String> {
        match event.event.payload.decode::<Event>() {
            Ok(Event::GameCreated { players, .. }) => {
                let players = players.into_iter().map(|player| format!("player/{player}"));
                players.chain(["all".to_owned()]).collect()
            }
            Ok(Event::GameStarted { .. } | Event::PhaseChanged { .. }) => Vec::new(),
            Ok(Event::GameCompleted { .. }) => vec!["all".to_owned()],
            Err(_) => vec![format!("stream/{}", event.stream)],
        }
    }

    fn apply(&self, _key: &str, view: &mut Count, event: &RecordedEvent) -> Result<()> {
        match event.event.payload.decode::<Event>()? {
            Event::GameCreated { .. } => {
                view.total += 1;
                view.active += 1;
            }
            Event::GameCompleted { .. } => {
                view.active -= 1;
                view.completed += 1;
            }
            Event::GameStarted { .. } | Event::PhaseChanged { .. } => {}
        }
        Ok(())
    }
}
