//! The machine that these tests play: a small game of rounds.

use std::collections::BTreeMap;

use infra_core::machine::StateMachine;
use infra_persistence::state::{Edge, Persistent};
use serde::{Deserialize, Serialize};

/// A phase of the game.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Phase {
    #[default]
    Idle,
    Playing,
    Scoring,
    Over,
}

/// What is asked of the game.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Start(Vec<String>),
    Play { player: String, points: u64 },
    EndRound,
    NextRound,
    Finish,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    Started { players: Vec<String> },
    Played { player: String, points: u64 },
    RoundEnded,
    RoundBegun,
    Finished,
}

/// The game.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Game {
    pub(crate) phase: Phase,
    pub(crate) round: u64,
    pub(crate) scores: BTreeMap<String, u64>,
    pub(crate) total: u64,
}

impl StateMachine for Game {
    type Command = Command;
    type Event = Event;
    type Refusal = &'static str;

    const NAME: &'static str = "game";
    const SCHEMA_VERSION: u32 = 2;

    fn decide(&self, command: Command) -> Result<Vec<Event>, &'static str> {
        match (self.phase, command) {
            (Phase::Idle, Command::Start(players)) => {
                Ok(vec![Event::Started { players }, Event::RoundBegun])
            }
            (Phase::Playing, Command::Play { player, points })
                if self.scores.contains_key(&player) =>
            {
                Ok(vec![Event::Played { player, points }])
            }
            (Phase::Playing, Command::Play { .. }) => Err("no such player"),
            (Phase::Playing, Command::EndRound) => Ok(vec![Event::RoundEnded]),
            (Phase::Scoring, Command::NextRound) => Ok(vec![Event::RoundBegun]),
            (Phase::Scoring, Command::Finish) => Ok(vec![Event::Finished]),
            (Phase::Over, Command::Finish) => Ok(vec![]),
            _ => Err("not in this phase"),
        }
    }

    fn evolve(&mut self, event: &Event) {
        match event {
            Event::Started { players } => {
                self.scores = players.iter().map(|player| (player.clone(), 0)).collect();
            }
            Event::Played { player, points } => {
                *self.scores.entry(player.clone()).or_default() += points;
                self.total += points;
            }
            Event::RoundEnded => self.phase = Phase::Scoring,
            Event::RoundBegun => {
                self.round += 1;
                self.phase = Phase::Playing;
            }
            Event::Finished => self.phase = Phase::Over,
        }
    }

    fn check(&self) -> Result<(), String> {
        let sum: u64 = self.scores.values().sum();
        if sum == self.total {
            Ok(())
        } else {
            Err(format!("scores sum to {sum}, not {}", self.total))
        }
    }
}

impl Persistent for Game {
    const EDGES: &'static [Edge] = &[
        Edge::new("idle", "started", "idle"),
        Edge::new("idle", "round-begun", "playing"),
        Edge::new("playing", "played", "playing"),
        Edge::new("playing", "round-ended", "scoring"),
        Edge::new("scoring", "round-begun", "playing"),
        Edge::new("scoring", "finished", "over"),
    ];

    fn kind(event: &Event) -> &'static str {
        match event {
            Event::Started { .. } => "started",
            Event::Played { .. } => "played",
            Event::RoundEnded => "round-ended",
            Event::RoundBegun => "round-begun",
            Event::Finished => "finished",
        }
    }

    fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Idle => "idle",
            Phase::Playing => "playing",
            Phase::Scoring => "scoring",
            Phase::Over => "over",
        }
    }
}

/// Returns the commands of a game that is played to its end.
pub(crate) fn whole_game() -> Vec<Command> {
    let play = |player: &str, points| Command::Play { player: player.to_owned(), points };
    vec![
        Command::Start(["ann", "bob"].map(str::to_owned).to_vec()),
        play("ann", 3),
        play("bob", 5),
        Command::EndRound,
        Command::NextRound,
        play("bob", 7),
        Command::EndRound,
        Command::Finish,
    ]
}

/// Returns the state after each event of some commands; the first is the beginning.
pub(crate) fn states_of(commands: &[Command]) -> Vec<Game> {
    let mut states = vec![Game::default()];
    for command in commands {
        for event in states.last().unwrap().decide(command.clone()).unwrap_or_default() {
            let mut next = states.last().unwrap().clone();
            next.evolve(&event);
            states.push(next);
        }
    }
    states
}
