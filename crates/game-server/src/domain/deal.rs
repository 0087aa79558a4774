//! The deal: shuffle, weak hands, and who starts the first round.

use rand::seq::SliceRandom;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use super::{
    command::Entropy,
    event::Hands,
    piece::{Colour, Kind, Piece},
    pieces::Pieces,
    seat::{BySeat, Seat},
};

/// How many pieces a seat is dealt, and how many piles a round has.
pub const HAND: u8 = 8;

/// The most that a piece of a weak hand is worth.
pub const WEAK_POINTS: u32 = 9;

/// Shuffles all 32 pieces and deals eight to each seat.
///
/// The shuffle is Fisher and Yates's, driven by `ChaCha20` with `entropy` as its key: who does not
/// know all 256 bits cannot tell it from chance.
///
/// ```
/// use game_server::domain::{Entropy, Pieces, Seat, deal};
///
/// let hands = deal(Entropy::new([7; 32]));
/// assert_eq!(hands.0[Seat::First].len(), 8);
/// assert_eq!(hands, deal(Entropy::new([7; 32])));
/// ```
pub fn deal(entropy: Entropy) -> Hands {
    let mut stack: Vec<Piece> = Pieces::ALL.iter().collect();
    stack.shuffle(&mut ChaCha20Rng::from_seed(entropy.bytes()));
    let mut stack = stack.into_iter();
    Hands(BySeat::from_fn(|_| stack.by_ref().take(usize::from(HAND)).collect()))
}

/// Returns whether no piece of `hand` is worth more than 9.
pub fn is_weak(hand: Pieces) -> bool {
    hand.iter().all(|piece| piece.points() <= WEAK_POINTS)
}

/// Returns the seats with a weak hand, in play order from `starter`.
pub(super) fn weak_seats(hands: &Hands, starter: Seat) -> Vec<Seat> {
    starter.round_the_table().into_iter().filter(|seat| is_weak(hands.0[*seat])).collect()
}

/// Returns who holds the red general.
pub(super) fn holder_of_red_general(hands: &Hands) -> Seat {
    let general = Pieces::of(Colour::Red, Kind::General);
    let holds = |seat: &Seat| general.is_subset(hands.0[*seat]);
    Seat::ALL.into_iter().find(holds).unwrap_or(Seat::First)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn hand(ids: &[u8]) -> Pieces {
        ids.iter().copied().filter_map(Piece::new).collect()
    }

    #[test]
    fn a_deal_gives_every_piece_once_and_eight_to_each() {
        let mut seen = HashSet::new();
        for byte in 0..=255 {
            let hands = deal(Entropy::new([byte; 32]));
            let all = hands.0.values().fold(Pieces::NONE, |all, hand| all.or(*hand));
            assert_eq!(all, Pieces::ALL);
            assert!(hands.0.values().all(|hand| hand.len() == 8));
            seen.insert(hands);
        }
        assert_eq!(seen.len(), 256);
    }

    #[test]
    fn every_piece_comes_to_every_seat_about_equally_often() {
        let mut counts = [[0_u32; 4]; 32];
        for number in 0_u32..4_000 {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&number.to_be_bytes());
            for (seat, hand) in deal(Entropy::new(seed)).0.iter() {
                for piece in hand.iter() {
                    counts[usize::from(piece.id())][usize::from(seat.number())] += 1;
                }
            }
        }
        // 1,000 are expected; five standard deviations (27.4) are less than 140.
        assert!(counts.iter().flatten().all(|count| (860..=1140).contains(count)));
    }

    #[test]
    fn a_hand_is_weak_when_no_piece_is_worth_more_than_nine() {
        // Two black elephants (9) are the best of it.
        assert!(is_weak(hand(&[19, 20, 5, 6, 7, 8, 9, 11])));
        // A red elephant (10) is too much.
        assert!(!is_weak(hand(&[3, 20, 5, 6, 7, 8, 9, 11])));
        assert!(!is_weak(hand(&[17, 20, 5, 6, 7, 8, 9, 11])));
    }

    #[test]
    fn weak_hands_are_named_in_play_order() {
        let low: Vec<u8> = (5..16).chain(19..32).collect();
        let hands = Hands(BySeat::new([
            hand(&low[..8]),
            hand(&[0, 1, 2, 3, 4, 16, 17, 18]),
            hand(&low[8..16]),
            hand(&low[16..]),
        ]));
        assert_eq!(weak_seats(&hands, Seat::Third), [Seat::Third, Seat::Fourth, Seat::First]);
        assert_eq!(holder_of_red_general(&hands), Seat::Second);
    }
}
