//! A room whose deals a test chooses.

use game_server::domain::{
    Act, ActionNumber, Actor, Answer, BySeat, ChatText, Command, Entropy, Event, GameView, Hands,
    Name, Piece, Pieces, PlayerId, Refusal, Room, RoomView, Seat, Settings, Viewer,
};
use infra_core::machine::StateMachine;

/// The four seats, in short.
pub(crate) const SEATS: [Seat; 4] = Seat::ALL;

/// Hands without a weak one; seat 0 holds the red general (0), seat 2 the black one (16).
pub(crate) const PLAIN: [[u8; 8]; 4] = [
    [0, 3, 5, 7, 9, 11, 27, 28],
    [1, 4, 6, 8, 10, 12, 29, 30],
    [16, 19, 21, 23, 25, 13, 14, 31],
    [2, 17, 18, 20, 22, 24, 26, 15],
];

/// Returns the player with this number.
pub(crate) fn player(number: u128) -> PlayerId {
    PlayerId::from_uuid(uuid::Uuid::from_u128(number))
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn text(text: &str) -> ChatText {
    ChatText::new(text).unwrap()
}

pub(crate) fn chat(said: &str) -> Act {
    Act::Chat { text: text(said) }
}

pub(crate) fn entropy(byte: u8) -> Entropy {
    Entropy::new([byte; 32])
}

pub(crate) fn pieces(ids: &[u8]) -> Pieces {
    ids.iter().map(|id| Piece::new(*id).unwrap()).collect()
}

pub(crate) fn play(ids: &[u8]) -> Act {
    Act::Play { pieces: pieces(ids) }
}

pub(crate) const fn declare(piles: u8) -> Act {
    Act::Declare { piles }
}

pub(crate) fn hands(ids: [[u8; 8]; 4]) -> Hands {
    Hands(BySeat::new(ids.map(|hand| pieces(&hand))))
}

/// A room with its stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestRoom {
    pub(crate) room: Room,
    pub(crate) events: Vec<Event>,
}

impl TestRoom {
    /// A room with `n` people: player 0 hosts.
    pub(crate) fn with_people(n: u128) -> Self {
        let mut room = Self::default();
        let settings = Settings::default();
        room.does(0, Act::Create { name: name("Player 0"), settings }).unwrap();
        for number in 1..n {
            room.does(number, Act::Join { name: name(&format!("Player {number}")) }).unwrap();
        }
        room
    }

    /// A game of four people in its first round, dealt as given: its starter is `starter`.
    pub(crate) fn dealt(ids: [[u8; 8]; 4], starter: Seat) -> Self {
        let mut room = Self::with_people(4);
        room.put(Event::GameStarted { cause: None });
        room.deal(1, 1, ids, starter);
        room
    }

    /// A game of four people that have declared `piles`, seat 0 first.
    pub(crate) fn declared(ids: [[u8; 8]; 4], piles: [u8; 4]) -> Self {
        let mut room = Self::dealt(ids, Seat::First);
        for (number, piles) in (0..).zip(piles) {
            room.does(number, declare(piles)).unwrap();
        }
        room
    }

    /// Deals as given; weak hands are asked as `decide` would ask them.
    pub(crate) fn deal(&mut self, round: u8, multiplier: u16, ids: [[u8; 8]; 4], starter: Seat) {
        let hands = hands(ids);
        let is_weak = |seat: &Seat| hands.0[*seat].iter().all(|piece| piece.points() < 10);
        let weak: Vec<Seat> = starter.round_the_table().into_iter().filter(is_weak).collect();
        let first = weak.first().copied();
        self.put(Event::Dealt { round, multiplier, starter, hands, weak });
        if let Some(seat) = first {
            self.put(Event::RedealAsked { seat });
        }
    }

    /// Folds an event that a test chose.
    pub(crate) fn put(&mut self, event: Event) {
        self.room.evolve(&event);
        self.events.push(event);
        assert_eq!(self.room.check(), Ok(()), "after {:?}", self.events.last());
    }

    /// Gives a command, folds what it decides and returns it.
    pub(crate) fn give(&mut self, command: Command) -> Result<Vec<Event>, Refusal> {
        let events = self.room.decide(command)?;
        for event in events.clone() {
            self.put(event);
        }
        Ok(events)
    }

    /// Gives a command of player `number`, who sits on the seat of that number in most tests.
    pub(crate) fn does(&mut self, number: u128, act: Act) -> Result<Vec<Event>, Refusal> {
        self.give(Command::of(Actor::Player(player(number)), act))
    }

    /// Gives a numbered command and returns the answer to it.
    pub(crate) fn acts(&mut self, number: u128, action: u64, act: Act) -> Option<Answer> {
        let action = ActionNumber::new(action);
        self.give(Command::numbered(player(number), action, act)).unwrap();
        self.room.answer(player(number), action)
    }

    /// Gives the command that the room's clock would give now.
    pub(crate) fn tick(&mut self, byte: u8) -> Vec<Event> {
        let due = self.room.due().expect("nothing is due");
        self.give(due.command(entropy(byte))).unwrap()
    }

    pub(crate) fn view(&self, viewer: Viewer) -> RoomView {
        self.room.view(viewer).unwrap()
    }

    pub(crate) fn game(&self) -> GameView {
        self.view(Viewer::Spectator).game.unwrap()
    }

    /// Builds the room anew from its stream, as after a restart.
    pub(crate) fn replayed(&self) -> Room {
        let mut room = Room::default();
        for event in &self.events {
            let json = serde_json::to_vec(event).unwrap();
            room.evolve(&serde_json::from_slice(&json).unwrap());
        }
        room
    }
}

/// Returns the names of the events.
pub(crate) fn names(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::name).collect()
}
