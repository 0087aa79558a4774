//! What is counted in simulated games.

use std::collections::BTreeMap;

use crate::domain::{BySeat, Event, Laid, PlayType, Seat, ZEROS_IN_A_ROW, classify, strongest};

/// Counts over whole games, read from their events alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many games ended.
    pub games: u64,
    /// How many events there were.
    pub events: u64,
    /// How many games each seat won alone.
    pub wins: BySeat<u64>,
    /// How many games were won by several seats together.
    pub shared_wins: u64,
    /// How many games ended after each number of rounds.
    pub rounds: BTreeMap<u8, u64>,
    /// How many turns began with each type of play.
    pub led: BTreeMap<PlayType, u64>,
    /// How many redeals were taken.
    pub redeals: u64,
    /// How many weak hands were kept.
    pub kept: u64,
    /// How many turns were won by the first of equal plays.
    pub ties: u64,
    /// How many declarations were made under the two-zeros rule.
    pub after_two_zeros: u64,
    /// How many players went silent.
    pub silences: u64,
}

/// Reads one game.
#[derive(Default)]
struct Reader {
    table: Vec<Laid>,
    zeros: BySeat<u8>,
}

impl Tally {
    /// Counts one whole game.
    pub fn read(&mut self, events: &[Event]) {
        let mut reader = Reader::default();
        for event in events {
            self.events += 1;
            self.count(event, &mut reader);
        }
    }

    fn count(&mut self, event: &Event, reader: &mut Reader) {
        match event {
            Event::RedealAccepted { .. } => self.redeals += 1,
            Event::RedealDeclined { .. } => self.kept += 1,
            Event::PlayerWentSilent { .. } => self.silences += 1,
            Event::Declared { seat, .. } if ZEROS_IN_A_ROW <= reader.zeros[*seat] => {
                self.after_two_zeros += 1;
            }
            Event::Played { seat, pieces, play, can_win, .. } => {
                let (seat, pieces, play, can_win) = (*seat, *pieces, *play, *can_win);
                reader.table.push(Laid { seat, pieces, play, can_win });
            }
            Event::TurnWon { .. } => self.count_turn(&std::mem::take(&mut reader.table)),
            Event::RoundScored { declared, .. } => {
                reader.zeros = BySeat::from_fn(|seat| match declared[seat] {
                    0 => reader.zeros[seat].saturating_add(1),
                    _ => 0,
                });
            }
            Event::GameEnded { rounds, winners, .. } => self.count_end(*rounds, winners),
            Event::RoomCreated { .. }
            | Event::PlayerJoined { .. }
            | Event::PlayerLeft { .. }
            | Event::HostChanged { .. }
            | Event::BotAdded { .. }
            | Event::BotRemoved { .. }
            | Event::PlayerCameBack { .. }
            | Event::GameStarted { .. }
            | Event::Dealt { .. }
            | Event::RedealAsked { .. }
            | Event::Declared { .. }
            | Event::RoomAbandoned { .. }
            | Event::Chat { .. }
            | Event::ActionRefused { .. } => {}
        }
    }

    fn count_turn(&mut self, table: &[Laid]) {
        if let Some(play_type) = table.first().and_then(|laid| laid.play) {
            *self.led.entry(play_type).or_default() += 1;
        }
        let best = strongest(table).map(|(_, play)| play);
        let equals = table.iter().filter(|laid| classify(laid.pieces) == best).count();
        if 1 < equals {
            self.ties += 1;
        }
    }

    fn count_end(&mut self, rounds: u8, winners: &[Seat]) {
        self.games += 1;
        *self.rounds.entry(rounds).or_default() += 1;
        match winners {
            [winner] => self.wins[*winner] += 1,
            _ => self.shared_wins += 1,
        }
    }
}
