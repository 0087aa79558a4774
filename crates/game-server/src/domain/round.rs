//! One round: hands, declarations, turns and piles.
//!
//! ```text
//! preparation --no weak hand left to ask--> declaration --four made--> turn --hands empty--> scoring
//!      ^  | a redeal deals the round anew
//!      +--+
//! ```
//! The phase is not stored: it follows from what has been asked, declared and played.

use serde::{Deserialize, Serialize};

use super::{
    deal::HAND,
    event::Hands,
    pieces::Pieces,
    room_view::{Laid, Phase},
    seat::{BySeat, SEATS, Seat},
};

/// The state of a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Round {
    pub(super) number: u8,
    pub(super) multiplier: u16,
    pub(super) starter: Seat,
    pub(super) hands: Hands,
    /// The weak hands that have not answered yet, in play order.
    pub(super) to_ask: Vec<Seat>,
    pub(super) declared: BySeat<Option<u8>>,
    pub(super) captured: BySeat<u8>,
    /// Who starts the present turn.
    pub(super) leader: Seat,
    pub(super) table: Vec<Laid>,
    pub(super) last_table: Vec<Laid>,
    /// What has been put down, the table included.
    pub(super) gone: Pieces,
}

impl Round {
    /// Returns the round in the moment after the deal.
    pub(super) fn dealt(
        number: u8,
        multiplier: u16,
        starter: Seat,
        hands: Hands,
        weak: &[Seat],
    ) -> Self {
        Self {
            number,
            multiplier,
            starter,
            hands,
            to_ask: weak.to_vec(),
            declared: BySeat::default(),
            captured: BySeat::default(),
            leader: starter,
            table: Vec::new(),
            last_table: Vec::new(),
            gone: Pieces::NONE,
        }
    }

    /// Returns what is being done.
    pub(super) fn phase(&self) -> Phase {
        if !self.to_ask.is_empty() {
            return Phase::Preparation;
        }
        if self.declared.values().any(Option::is_none) {
            return Phase::Declaration;
        }
        if self.is_played() { Phase::Scoring } else { Phase::Turn }
    }

    /// Returns whether the hands are empty and the last turn has been won.
    pub(super) fn is_played(&self) -> bool {
        self.table.is_empty() && self.hands.0.values().all(|hand| hand.is_empty())
    }

    /// Returns the seat that is to act.
    pub(super) fn awaited(&self) -> Option<Seat> {
        match self.phase() {
            Phase::Preparation => self.to_ask.first().copied(),
            Phase::Declaration => {
                let undeclared = |seat: &Seat| self.declared[*seat].is_none();
                self.starter.round_the_table().into_iter().find(undeclared)
            }
            Phase::Turn => self.leader.round_the_table().get(self.table.len()).copied(),
            Phase::Scoring => None,
        }
    }

    /// Returns the declarations; a missing one counts as none.
    pub(super) fn declarations(&self) -> BySeat<u8> {
        BySeat::from_fn(|seat| self.declared[seat].unwrap_or_default())
    }

    /// Takes note that `seat` keeps its weak hand.
    pub(super) fn keep_weak_hand(&mut self, seat: Seat) {
        self.to_ask.retain(|asked| *asked != seat);
    }

    /// Moves pieces from a hand to the table.
    pub(super) fn put_down(&mut self, laid: Laid) {
        let hand = &mut self.hands.0[laid.seat];
        *hand = hand.without(laid.pieces);
        self.gone = self.gone.or(laid.pieces);
        self.table.push(laid);
    }

    /// Gives the piles of the turn to its winner, who starts the next one.
    pub(super) fn capture(&mut self, winner: Seat, piles: u8) {
        self.captured[winner] = self.captured[winner].saturating_add(piles);
        self.leader = winner;
        self.last_table = std::mem::take(&mut self.table);
    }

    /// Checks that no piece is lost or doubled and that the counts agree.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_pieces()?;
        self.check_table()?;
        let made: Vec<u8> = self.declared.values().copied().flatten().collect();
        if made.len() == SEATS && made.iter().map(|piles| u32::from(*piles)).sum::<u32>() == 8 {
            return Err("the declarations add up to 8".to_owned());
        }
        if made.iter().any(|piles| HAND < *piles) {
            return Err("a declaration is above 8".to_owned());
        }
        match self.phase() {
            Phase::Preparation | Phase::Declaration if !self.gone.is_empty() => {
                Err("pieces were played before the declarations".to_owned())
            }
            Phase::Preparation if !made.is_empty() => {
                Err("a declaration was made before the preparation ended".to_owned())
            }
            Phase::Preparation | Phase::Declaration | Phase::Turn | Phase::Scoring => Ok(()),
        }
    }

    fn check_pieces(&self) -> Result<(), String> {
        let mut all = self.gone;
        let mut count = self.gone.len();
        for (_, hand) in self.hands.0.iter() {
            all = all.or(*hand);
            count += hand.len();
        }
        if all != Pieces::ALL || count != Pieces::ALL.len() {
            return Err("the pieces are not 32 different ones".to_owned());
        }
        let piles: u8 = self.captured.values().fold(0, |sum, piles| sum.saturating_add(*piles));
        let laid = |seat| self.table.iter().filter(move |laid| laid.seat == seat);
        for (seat, hand) in self.hands.0.iter() {
            let on_table: usize = laid(seat).map(|laid| laid.pieces.len()).sum();
            if hand.len() + on_table + usize::from(piles) != usize::from(HAND) {
                return Err(format!("{seat} has not played as many pieces as there are piles"));
            }
        }
        Ok(())
    }

    fn check_table(&self) -> Result<(), String> {
        if SEATS < self.table.len() {
            return Err("more than four plays in a turn".to_owned());
        }
        let Some(led) = self.table.first() else { return Ok(()) };
        let in_order = self.table.iter().zip(self.leader.round_the_table());
        for (laid, seat) in in_order {
            if laid.seat != seat || laid.pieces.len() != led.pieces.len() {
                return Err(format!("{seat} played out of turn or another number of pieces"));
            }
        }
        if led.can_win { Ok(()) } else { Err("the turn began with no valid play".to_owned()) }
    }
}
