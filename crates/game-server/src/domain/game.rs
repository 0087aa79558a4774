//! A game: its rounds, its scores, and who declared 0 how often.

use serde::{Deserialize, Serialize};

use super::{
    declaration::ZEROS_IN_A_ROW,
    event::Event,
    room_view::Laid,
    round::Round,
    scoring::{self, LAST_ROUND},
    seat::{BySeat, Seat},
};

/// The state of a game.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Game {
    pub(super) round: Round,
    pub(super) scores: BySeat<i32>,
    /// In how many rounds in a row, up to the last one, each seat declared 0; two is the most.
    pub(super) zeros: BySeat<u8>,
    /// How many rounds have been scored.
    pub(super) n_scored: u8,
    /// The last round, if it is not the rules' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_round: Option<u8>,
}

impl Game {
    /// Returns the game in the moment after its first deal.
    pub(super) fn new(round: Round, last_round: Option<u8>) -> Self {
        let (scores, zeros) = (BySeat::default(), BySeat::default());
        Self { round, scores, zeros, n_scored: 0, last_round }
    }

    fn last_round(&self) -> u8 {
        self.last_round.unwrap_or(LAST_ROUND)
    }

    /// Returns whether the game is over by the rounds that have been scored.
    pub(super) fn is_over(&self) -> bool {
        self.last_round() <= self.n_scored || scoring::is_over(&self.scores, self.n_scored)
    }

    /// Returns who starts the next round: who won the last turn.
    pub(super) const fn last_winner(&self) -> Seat {
        self.round.leader
    }

    /// Returns the seat that is to act.
    pub(super) fn awaited(&self) -> Option<Seat> {
        self.round.awaited()
    }

    /// Folds an event of the game; others change nothing.
    pub(super) fn evolve(&mut self, event: &Event) {
        match event {
            Event::Dealt { round, multiplier, starter, hands, weak } => {
                self.round = Round::dealt(*round, *multiplier, *starter, *hands, weak);
            }
            Event::RedealDeclined { seat, .. } => self.round.keep_weak_hand(*seat),
            Event::Declared { seat, piles, .. } => self.round.declared[*seat] = Some(*piles),
            Event::Played { seat, pieces, play, can_win, .. } => {
                let (seat, pieces, play, can_win) = (*seat, *pieces, *play, *can_win);
                self.round.put_down(Laid { seat, pieces, play, can_win });
            }
            Event::TurnWon { winner, piles } => self.round.capture(*winner, *piles),
            Event::RoundScored { round, declared, scores, .. } => {
                self.n_scored = *round;
                self.scores = *scores;
                self.zeros = BySeat::from_fn(|seat| match declared[seat] {
                    0 => self.zeros[seat].saturating_add(1).min(ZEROS_IN_A_ROW),
                    _ => 0,
                });
            }
            Event::RoomCreated { .. }
            | Event::PlayerJoined { .. }
            | Event::PlayerLeft { .. }
            | Event::HostChanged { .. }
            | Event::BotAdded { .. }
            | Event::BotRemoved { .. }
            | Event::PlayerWentSilent { .. }
            | Event::PlayerCameBack { .. }
            | Event::GameStarted { .. }
            | Event::RedealAsked { .. }
            | Event::RedealAccepted { .. }
            | Event::GameEnded { .. }
            | Event::RoomAbandoned { .. }
            | Event::Chat { .. }
            | Event::ActionRefused { .. } => {}
        }
    }

    /// Returns the event that scores the round.
    pub(super) fn scored(&self) -> Event {
        let (declared, captured) = (self.round.declarations(), self.round.captured);
        let multiplier = self.round.multiplier;
        let change = BySeat::from_fn(|s| scoring::score(declared[s], captured[s], multiplier));
        let scores = BySeat::from_fn(|s| self.scores[s].saturating_add(change[s]));
        Event::RoundScored {
            round: self.round.number,
            multiplier,
            declared,
            captured,
            change,
            scores,
        }
    }

    /// Returns the event that ends the game, if it is over.
    pub(super) fn ended(&self) -> Option<Event> {
        let (rounds, scores) = (self.n_scored, self.scores);
        self.is_over().then(|| Event::GameEnded {
            rounds,
            scores,
            winners: scoring::winners(&scores),
            limit: None,
        })
    }

    /// Checks the round and that the game has not outlived itself.
    pub(super) fn check(&self) -> Result<(), String> {
        self.round.check()?;
        let number = self.round.number;
        if number == 0 || self.last_round() < number {
            return Err(format!("round {number} of {}", self.last_round()));
        }
        if number != self.n_scored && number != self.n_scored.saturating_add(1) {
            return Err(format!("round {number} after {} scored ones", self.n_scored));
        }
        if self.n_scored < number && self.is_over() {
            return Err("a round was dealt after the end of the game".to_owned());
        }
        Ok(())
    }
}
