//! One simulated game: a room that is driven from its creation to its end.

use infra_core::{
    error::{Error, ErrorKind, Result},
    machine::StateMachine,
};

use super::chance::Chance;
use crate::domain::{
    Act, ActionNumber, Actor, Awaited, Command, Entropy, Event, GameView, Move, Name, PlayType,
    PlayerId, Room, Seat, Settings, Status, Style, Viewer, choose, deal, plays_of,
};

/// More commands than any game can need: 20 rounds of 36 moves, and 280 redeals on top.
const MOST_COMMANDS: usize = 1_000;

/// Every how many games a person falls silent, so that a bot plays for it.
const SILENCE_EVERY: u64 = 8;

/// Every how many games the second round is searched for a starter with a double straight.
const TREASURE_EVERY: u64 = 100;

/// After how many deals that search ends; one in 16,000 will do.
const MOST_SEARCHED: usize = 200_000;

/// Everything that happened in one simulated game.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// The number of the game, from 0.
    pub number: u64,
    /// The events, in order; the first has offset 1.
    pub events: Vec<Event>,
    /// What they add up to.
    pub room: Room,
}

impl Transcript {
    /// Returns each event as one line of JSON, fields in the order of their declaration.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] if an event cannot be written as JSON.
    pub fn to_json_lines(&self) -> Result<String> {
        let mut lines = String::new();
        for event in &self.events {
            let line = serde_json::to_string(event).map_err(|cause| {
                Error::new(ErrorKind::Internal, "write event as JSON").because(cause)
            })?;
            lines.push_str(&line);
            lines.push('\n');
        }
        Ok(lines)
    }
}

/// Plays game `number` of `seed`: a person who plays like a bot, and three bots, all of random
/// styles. In every eighth game the person falls silent at its first turn.
///
/// In every 100th game the second round is dealt with a seed, searched for among random ones,
/// that gives its starter a double straight: chance alone would show one in thousands of games.
///
/// # Errors
///
/// [`ErrorKind::Internal`] if a legal command is refused or the game does not end: a bug.
pub fn play_game(seed: u64, number: u64) -> Result<Transcript> {
    let mut chance = Chance::of_game(seed, number);
    let mut table = Table::new(number, Chance::of_game(seed, number ^ 1 << 63), 1)?;
    let mut style = || chance.pick(&Style::ALL).unwrap_or_default();
    for _ in Seat::ALL.iter().skip(1) {
        table.host_does(Act::AddBot { style: style() })?;
    }
    let own = style();
    let is_silent = number % SILENCE_EVERY == SILENCE_EVERY - 1;
    table.play_to_the_end(|view, seat, _| (!is_silent).then(|| choose(view, seat, own)).flatten())
}

/// A room with its people and its chance.
pub(super) struct Table {
    number: u64,
    chance: Chance,
    people: Vec<PlayerId>,
    room: Room,
    events: Vec<Event>,
    n_actions: u64,
}

impl Table {
    /// Creates a room where `n_people` sit, the host among them.
    pub(super) fn new(number: u64, mut chance: Chance, n_people: usize) -> Result<Self> {
        let people: Vec<PlayerId> = (0..n_people).map(|_| chance.player()).collect();
        let (room, events) = (Room::default(), Vec::new());
        let mut table = Self { number, chance, people, room, events, n_actions: 0 };
        let settings = Settings::default().without_pauses();
        for (idx, player) in table.people.clone().into_iter().enumerate() {
            let name = name(idx)?;
            let act = match idx {
                0 => Act::Create { name, settings },
                _ => Act::Join { name },
            };
            table.give(Command::of(Actor::Player(player), act))?;
        }
        Ok(table)
    }

    /// Gives a numbered command of the host.
    pub(super) fn host_does(&mut self, act: Act) -> Result<()> {
        self.person_does(Seat::First, act)
    }

    /// Starts the game and plays it; `people` choose the moves of persons, or fall silent.
    pub(super) fn play_to_the_end(
        mut self,
        mut people: impl FnMut(&GameView, Seat, &mut Chance) -> Option<Move>,
    ) -> Result<Transcript> {
        let entropy = self.chance.entropy();
        self.host_does(Act::Start { entropy })?;
        for _ in 0..MOST_COMMANDS {
            let Some(due) = self.room.due() else { break };
            let (chosen, entropy) = match due.awaited {
                Awaited::Person(seat) => (self.ask(seat, &mut people), self.chance.entropy()),
                Awaited::Bot(_) => (None, self.chance.entropy()),
                Awaited::NextRound => (None, self.entropy_of_next_round()),
            };
            match chosen {
                Some((seat, choice)) => self.person_does(seat, choice.into_act(entropy))?,
                None => self.give(due.command(entropy))?,
            }
        }
        if self.room.status() != Some(Status::Completed) {
            return Err(self.bug("it does not end"));
        }
        Ok(Transcript { number: self.number, events: self.events, room: self.room })
    }

    fn entropy_of_next_round(&mut self) -> Entropy {
        let game = self.room.view(Viewer::Spectator).and_then(|view| view.game);
        let treasure = self.number % TREASURE_EVERY == TREASURE_EVERY - 1;
        let Some(starter) = game.filter(|game| treasure && game.round == 1).map(|g| g.leader)
        else {
            return self.chance.entropy();
        };
        for _ in 0..MOST_SEARCHED {
            let entropy = self.chance.entropy();
            let hand = deal(entropy).0[starter];
            if !plays_of(hand, PlayType::DoubleStraight).is_empty() {
                return entropy;
            }
        }
        self.chance.entropy()
    }

    fn ask(
        &mut self,
        seat: Seat,
        people: &mut impl FnMut(&GameView, Seat, &mut Chance) -> Option<Move>,
    ) -> Option<(Seat, Move)> {
        let view = self.room.view(Viewer::Seat(seat))?.game?;
        people(&view, seat, &mut self.chance).map(|choice| (seat, choice))
    }

    fn person_does(&mut self, seat: Seat, act: Act) -> Result<()> {
        let player = self.room.player_at(seat).ok_or_else(|| self.bug("nobody sits there"))?;
        self.n_actions += 1;
        self.give(Command::numbered(player, ActionNumber::new(self.n_actions), act))
    }

    fn give(&mut self, command: Command) -> Result<()> {
        let decided = self.room.decide(command);
        let events = decided.map_err(|refusal| self.bug(refusal.code()))?;
        for event in events {
            if let Event::ActionRefused { reason, .. } = &event {
                return Err(self.bug(reason.code()));
            }
            self.room.evolve(&event);
            self.events.push(event);
        }
        self.room.check().map_err(|broken| self.bug(&broken))
    }

    fn bug(&self, what: &str) -> Error {
        let (number, offset) = (self.number, self.room.offset());
        let place = format!("game {number} after event {offset}: {what}");
        Error::new(ErrorKind::Internal, "simulate a game").detail(place)
    }
}

fn name(idx: usize) -> Result<Name> {
    Name::new(format!("Player {}", idx + 1))
        .map_err(|cause| Error::new(ErrorKind::Internal, "name a player").because(cause))
}
