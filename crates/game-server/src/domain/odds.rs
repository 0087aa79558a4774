//! How likely a play is to win, as far as a seat can know.

use super::{
    piece::{Colour, Kind},
    pieces::Pieces,
    play::{Play, PlayType, plays_of},
};

/// What a seat knows of the others: which pieces they may hold, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Odds {
    /// The pieces that the seat has not seen.
    pub(super) unseen: Pieces,
    /// How many others are still to play in this turn.
    pub(super) n_rivals: u32,
    /// How many pieces each of them holds.
    pub(super) n_held: u32,
}

impl Odds {
    /// Estimates the chance, 0 to 1, that no rival beats `play`.
    ///
    /// It is `1 / (1 + n)`, where `n` is how many stronger plays of the type the rivals hold on
    /// average. Only sums, products and quotients: equal on every machine.
    pub(super) fn chance(&self, play: Play) -> f64 {
        if self.n_rivals == 0 || self.n_held == 0 {
            return 1.0;
        }
        let stronger = self.stronger(play);
        if stronger == 0 {
            return 1.0;
        }
        let len = u32::try_from(play.play_type.n_pieces()).unwrap_or(u32::MAX);
        let n = f64::from(stronger) * f64::from(self.n_rivals) * self.held_together(len);
        1.0 / (1.0 + n)
    }

    /// Returns how many sets of unseen pieces are a stronger play of the same type.
    fn stronger(&self, play: Play) -> u32 {
        if play.play_type == PlayType::Single {
            let above = self.unseen.iter().filter(|piece| play.points < piece.points());
            return u32::try_from(above.count()).unwrap_or(u32::MAX);
        }
        let plays = plays_of(self.unseen, play.play_type).into_iter();
        plays.filter(|set| play.points < worth(*set)).map(|set| self.variants(set)).sum()
    }

    /// Returns in how many ways unseen pieces can stand in for the equal ones of `set`.
    fn variants(&self, set: Pieces) -> u32 {
        let mut product = 1;
        for colour in Colour::ALL {
            for kind in Kind::ALL {
                let such = Pieces::of(colour, kind);
                product *= choose(self.unseen.and(such).len(), set.and(such).len());
            }
        }
        product
    }

    /// Returns the chance that `len` certain unseen pieces are all in one certain hand.
    fn held_together(&self, len: u32) -> f64 {
        let n_unseen = u32::try_from(self.unseen.len()).unwrap_or(u32::MAX);
        let mut chance = 1.0;
        for gone in 0..len {
            let left = n_unseen.saturating_sub(gone).max(1);
            chance *= f64::from(self.n_held.saturating_sub(gone)) / f64::from(left);
        }
        chance
    }
}

/// Returns what `set` is worth as a play; nothing if it is none.
pub(super) fn worth(set: Pieces) -> u32 {
    super::play::classify(set).map_or(0, |play| play.points)
}

/// Returns in how many ways `few` can be chosen from `many`.
fn choose(many: usize, few: usize) -> u32 {
    match (many, few) {
        (_, 0) => 1,
        (many, few) if many < few => 0,
        (many, few) => choose(many - 1, few - 1) + choose(many - 1, few),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{piece::Piece, play::classify};

    fn set(ids: &[u8]) -> Pieces {
        ids.iter().copied().filter_map(Piece::new).collect()
    }

    fn chance(hand: &[u8], ids: &[u8]) -> f64 {
        let unseen = Pieces::ALL.without(set(hand));
        let odds = Odds { unseen, n_rivals: 3, n_held: 8 };
        odds.chance(classify(set(ids)).unwrap())
    }

    #[test]
    fn what_nobody_can_beat_is_certain() {
        let hand = [0, 1, 2, 5, 16, 21, 22, 31];
        assert!((chance(&hand, &[0]) - 1.0).abs() < f64::EPSILON);
        assert!((chance(&hand, &[16]) - 1.0).abs() < f64::EPSILON, "the red general is my own");
        assert!((chance(&hand, &[1, 2]) - 1.0).abs() < f64::EPSILON);
        let odds = Odds { unseen: Pieces::ALL, n_rivals: 0, n_held: 8 };
        assert!((odds.chance(classify(set(&[31])).unwrap()) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_stronger_play_is_more_likely_to_win() {
        let hand = [1, 5, 6, 7, 11, 12, 27, 28];
        let chances: Vec<f64> = [&[1_u8][..], &[5], &[7], &[11], &[27]]
            .into_iter()
            .map(|ids| chance(&hand, ids))
            .collect();
        assert!(chances.windows(2).all(|pair| pair[1] < pair[0]), "{chances:?}");
        assert!(chance(&hand, &[11, 12]) < chance(&hand, &[5, 6]));
    }

    #[test]
    fn equal_pieces_are_counted_as_often_as_they_can_be_chosen() {
        // Five pairs of officers and ten of soldiers beat two black soldiers.
        let odds = Odds { unseen: Pieces::of_colour(Colour::Red), n_rivals: 3, n_held: 5 };
        assert_eq!(odds.stronger(classify(set(&[27, 28])).unwrap()), 5 + 10);
        assert_eq!(choose(5, 3), 10);
        assert_eq!(choose(2, 3), 0);
    }
}
