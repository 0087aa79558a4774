//! The machine that is measured: a table of a card game.

use infra_core::machine::StateMachine;
use infra_persistence::state::Persistent;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Table {
    pub turns: u64,
    seats: Vec<Seat>,
    /// What was played last.
    pub recent: Vec<Played>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seat {
    name: String,
    score: i64,
    hand: Vec<u8>,
}

/// A play.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Played {
    turn: u64,
    seat: u8,
    pieces: Vec<u8>,
    points: i64,
}

impl Default for Table {
    fn default() -> Self {
        let seat = |number: u8| Seat {
            name: format!("Player {number}"),
            score: 0,
            hand: (0..8).map(|piece| piece * 4 + number).collect(),
        };
        Self { turns: 0, seats: (0..4).map(seat).collect(), recent: Vec::new() }
    }
}

impl StateMachine for Table {
    type Command = u64;
    type Event = Played;
    type Refusal = &'static str;
    const NAME: &'static str = "table";
    const SCHEMA_VERSION: u32 = 1;

    fn decide(&self, turn: u64) -> Result<Vec<Played>, &'static str> {
        if turn == self.turns { Ok(vec![played(turn)]) } else { Err("it is another turn") }
    }

    fn evolve(&mut self, played: &Played) {
        self.turns += 1;
        let seat = &mut self.seats[usize::from(played.seat)];
        seat.score += played.points;
        seat.hand.rotate_left(played.pieces.len());
        if self.recent.len() == 12 {
            self.recent.remove(0);
        }
        self.recent.push(played.clone());
    }
}

impl Persistent for Table {
    fn kind(_: &Played) -> &'static str {
        "played"
    }

    fn phase(&self) -> &'static str {
        if self.turns == 0 { "waiting" } else { "turn" }
    }
}

/// Returns what is played in a turn.
pub fn played(turn: u64) -> Played {
    let pieces = (0..3).map(|piece| (turn % 29) as u8 + piece).collect();
    Played { turn, seat: (turn % 4) as u8, pieces, points: (turn % 13) as i64 - 5 }
}
