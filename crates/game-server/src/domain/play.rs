//! What a set of pieces is when it is played.

use serde::{Deserialize, Serialize};

use super::{
    piece::{Colour, Kind},
    pieces::Pieces,
};

/// The most pieces that one play has.
pub const LONGEST_PLAY: usize = 6;

/// The types of valid plays, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlayType {
    /// One piece.
    Single,
    /// Two of the same kind and colour.
    Pair,
    /// Three soldiers of one colour.
    ThreeSoldiers,
    /// General, advisor, elephant or chariot, horse, cannon of one colour.
    Straight,
    /// Four soldiers of one colour.
    FourSoldiers,
    /// The three kinds of a straight, one of them twice.
    ExtendedStraight,
    /// The three kinds of a straight, two of them twice.
    ExtendedStraightOfFive,
    /// Five soldiers of one colour.
    FiveSoldiers,
    /// Two chariots, two horses, two cannons of one colour.
    DoubleStraight,
}

impl PlayType {
    /// Every type, from the weakest to the strongest.
    pub const ALL: [Self; 9] = [
        Self::Single,
        Self::Pair,
        Self::ThreeSoldiers,
        Self::Straight,
        Self::FourSoldiers,
        Self::ExtendedStraight,
        Self::ExtendedStraightOfFive,
        Self::FiveSoldiers,
        Self::DoubleStraight,
    ];

    /// Returns how many pieces a play of this type has.
    pub const fn n_pieces(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Pair => 2,
            Self::ThreeSoldiers | Self::Straight => 3,
            Self::FourSoldiers | Self::ExtendedStraight => 4,
            Self::ExtendedStraightOfFive | Self::FiveSoldiers => 5,
            Self::DoubleStraight => 6,
        }
    }
}

/// A valid play: its type, and what it is worth among plays of that type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Play {
    /// The type; plays of different types do not compare.
    pub play_type: PlayType,
    /// The sum of the points; in an extended straight each kind counts once.
    pub points: u32,
}

/// Returns what `pieces` are as a play, or `None` if they are no valid one.
///
/// ```
/// use game_server::domain::{Piece, Pieces, PlayType, classify};
///
/// let pieces: Pieces = [0, 1, 2, 3].into_iter().filter_map(Piece::new).collect();
/// let play = classify(pieces).unwrap();
/// assert_eq!(play.play_type, PlayType::ExtendedStraight);
/// assert_eq!(play.points, 14 + 12 + 10);
/// ```
pub fn classify(pieces: Pieces) -> Option<Play> {
    if pieces.len() == 1 {
        return Some(Play { play_type: PlayType::Single, points: pieces.points() });
    }
    let colour = Colour::ALL.into_iter().find(|c| pieces.is_subset(Pieces::of_colour(*c)))?;
    let counts = Kind::ALL.map(|kind| pieces.and(Pieces::of(colour, kind)).len());
    let play_type = type_of(counts)?;
    let points = match play_type {
        PlayType::ExtendedStraight | PlayType::ExtendedStraightOfFive => Kind::ALL
            .iter()
            .zip(counts)
            .filter(|(_, n)| 0 < *n)
            .map(|(k, _)| k.points(colour))
            .sum(),
        PlayType::Single
        | PlayType::Pair
        | PlayType::ThreeSoldiers
        | PlayType::Straight
        | PlayType::FourSoldiers
        | PlayType::FiveSoldiers
        | PlayType::DoubleStraight => pieces.points(),
    };
    Some(Play { play_type, points })
}

/// Returns the type of two or more pieces of one colour, counted by kind as in [`Kind::ALL`].
fn type_of(counts: [usize; 7]) -> Option<PlayType> {
    match counts {
        [0, 0, 0, 0, 0, 0, soldiers] => type_of_soldiers(soldiers),
        [2, 0, 0, 0, 0, 0, 0]
        | [0, 2, 0, 0, 0, 0, 0]
        | [0, 0, 2, 0, 0, 0, 0]
        | [0, 0, 0, 2, 0, 0, 0]
        | [0, 0, 0, 0, 2, 0, 0]
        | [0, 0, 0, 0, 0, 2, 0] => Some(PlayType::Pair),
        [a, b, c, 0, 0, 0, 0] | [0, 0, 0, a, b, c, 0] if 0 < a.min(b).min(c) => {
            type_of_straight(a + b + c)
        }
        _ => None,
    }
}

const fn type_of_soldiers(count: usize) -> Option<PlayType> {
    match count {
        2 => Some(PlayType::Pair),
        3 => Some(PlayType::ThreeSoldiers),
        4 => Some(PlayType::FourSoldiers),
        5 => Some(PlayType::FiveSoldiers),
        _ => None,
    }
}

/// Returns the type of a straight of `count` pieces; there are at most two of each kind.
const fn type_of_straight(count: usize) -> Option<PlayType> {
    match count {
        3 => Some(PlayType::Straight),
        4 => Some(PlayType::ExtendedStraight),
        5 => Some(PlayType::ExtendedStraightOfFive),
        // Six of general, advisor and elephant cannot be: there is one general.
        6 => Some(PlayType::DoubleStraight),
        _ => None,
    }
}

/// Returns the valid plays of `play_type` that `pieces` hold.
///
/// Plays that differ only in which of two equal pieces they use are given once.
pub fn plays_of(pieces: Pieces, play_type: PlayType) -> Vec<Pieces> {
    Colour::ALL.into_iter().flat_map(|colour| plays_of_colour(pieces, play_type, colour)).collect()
}

fn plays_of_colour(pieces: Pieces, play_type: PlayType, colour: Colour) -> Vec<Pieces> {
    let of = |kind: Kind| pieces.and(Pieces::of(colour, kind));
    let alike = |kinds: &[Kind], count: usize| {
        kinds.iter().map(|k| of(*k)).filter(|p| count <= p.len()).map(|p| p.first(count)).collect()
    };
    match play_type {
        PlayType::Single => alike(&Kind::ALL, 1),
        PlayType::Pair => alike(&Kind::ALL, 2),
        PlayType::ThreeSoldiers => alike(&[Kind::Soldier], 3),
        PlayType::FourSoldiers => alike(&[Kind::Soldier], 4),
        PlayType::FiveSoldiers => alike(&[Kind::Soldier], 5),
        PlayType::Straight
        | PlayType::ExtendedStraight
        | PlayType::ExtendedStraightOfFive
        | PlayType::DoubleStraight => STRAIGHTS
            .iter()
            .flat_map(|kinds| straights(kinds.map(of), play_type.n_pieces()))
            .collect(),
    }
}

/// The kinds that make a straight.
const STRAIGHTS: [[Kind; 3]; 2] =
    [[Kind::General, Kind::Advisor, Kind::Elephant], [Kind::Chariot, Kind::Horse, Kind::Cannon]];

/// Returns the straights of `len` pieces with one or two of each of three kinds.
fn straights([first, second, third]: [Pieces; 3], len: usize) -> Vec<Pieces> {
    let mut found = Vec::new();
    for a in 1..=first.len().min(2) {
        for b in 1..=second.len().min(2) {
            let c = len.saturating_sub(a + b);
            if 0 < c && c <= third.len().min(2) {
                found.push(first.first(a).or(second.first(b)).or(third.first(c)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::piece::Piece;

    const R: Colour = Colour::Red;
    const B: Colour = Colour::Black;
    use Kind::{Advisor, Cannon, Chariot, Elephant, General, Horse, Soldier};

    fn pieces(named: &[(Colour, Kind)]) -> Pieces {
        named.iter().fold(Pieces::NONE, |set, (colour, kind)| {
            let next = Pieces::of(*colour, *kind).without(set).first(1);
            assert_eq!(next.len(), 1, "no {colour:?} {kind:?} left");
            set.or(next)
        })
    }

    fn check(named: &[(Colour, Kind)], expected: Option<(PlayType, u32)>) {
        let found = classify(pieces(named)).map(|play| (play.play_type, play.points));
        assert_eq!(found, expected, "{named:?}");
    }

    #[test]
    fn each_type_of_play_is_known_with_its_points() {
        check(&[(B, Soldier)], Some((PlayType::Single, 1)));
        check(&[(R, General)], Some((PlayType::Single, 14)));
        check(&[(R, Advisor), (R, Advisor)], Some((PlayType::Pair, 24)));
        check(&[(B, Soldier), (B, Soldier)], Some((PlayType::Pair, 2)));
        check(&[(R, Soldier); 3], Some((PlayType::ThreeSoldiers, 6)));
        check(&[(R, General), (R, Advisor), (R, Elephant)], Some((PlayType::Straight, 36)));
        check(&[(B, Chariot), (B, Horse), (B, Cannon)], Some((PlayType::Straight, 15)));
        check(&[(B, Soldier); 4], Some((PlayType::FourSoldiers, 4)));
        check(&[(R, Soldier); 5], Some((PlayType::FiveSoldiers, 10)));
        check(
            &[(R, Chariot), (R, Chariot), (R, Horse), (R, Horse), (R, Cannon), (R, Cannon)],
            Some((PlayType::DoubleStraight, 36)),
        );
    }

    #[test]
    fn the_two_extended_straights_count_each_kind_once() {
        let extended = PlayType::ExtendedStraight;
        check(&[(R, Chariot), (R, Chariot), (R, Horse), (R, Cannon)], Some((extended, 18)));
        check(&[(R, Chariot), (R, Horse), (R, Cannon), (R, Cannon)], Some((extended, 18)));
        check(&[(B, General), (B, Advisor), (B, Advisor), (B, Elephant)], Some((extended, 33)));
        let of_five = PlayType::ExtendedStraightOfFive;
        check(
            &[(R, General), (R, Advisor), (R, Advisor), (R, Elephant), (R, Elephant)],
            Some((of_five, 36)),
        );
        check(
            &[(B, Chariot), (B, Chariot), (B, Horse), (B, Cannon), (B, Cannon)],
            Some((of_five, 15)),
        );
    }

    #[test]
    fn what_only_looks_like_a_play_is_none() {
        check(&[], None);
        check(&[(R, Advisor), (B, Advisor)], None);
        check(&[(R, General), (B, General)], None);
        check(&[(R, Advisor), (R, Elephant)], None);
        check(&[(R, Soldier), (R, Soldier), (B, Soldier)], None);
        check(&[(R, General), (R, Advisor), (B, Elephant)], None);
        check(&[(R, Advisor), (R, Elephant), (R, Chariot)], None);
        check(&[(R, Elephant), (R, Chariot), (R, Horse)], None);
        check(&[(R, Horse), (R, Cannon), (R, Soldier)], None);
        check(&[(R, Chariot), (R, Chariot), (R, Horse), (R, Horse)], None);
        check(&[(R, Advisor), (R, Advisor), (R, Elephant), (R, Elephant)], None);
        check(&[(R, Chariot), (R, Horse), (R, Cannon), (R, Soldier)], None);
        let six =
            [(R, General), (R, Advisor), (R, Elephant), (R, Chariot), (R, Horse), (R, Cannon)];
        check(&six, None);
    }

    #[test]
    fn classifying_every_subset_of_a_hand_finds_what_plays_of_finds() {
        // Hands of eight pieces in a row are rich in plays of one colour.
        for offset in 0..25_u8 {
            let hand: Pieces = (offset..offset + 8).filter_map(Piece::new).collect();
            let held: Vec<Piece> = hand.iter().collect();
            for play_type in PlayType::ALL {
                let mut shapes: Vec<_> = (1_u32..256)
                    .map(|mask| (0..8).filter(move |bit| mask & 1 << bit != 0))
                    .map(|bits| bits.map(|bit| held[bit]).collect::<Pieces>())
                    .filter(|set| classify(*set).is_some_and(|play| play.play_type == play_type))
                    .map(shape)
                    .collect();
                shapes.sort_unstable();
                shapes.dedup();
                let found = plays_of(hand, play_type);
                let mut found_shapes: Vec<_> = found.iter().copied().map(shape).collect();
                found_shapes.sort_unstable();
                assert_eq!(found_shapes, shapes, "{play_type:?} in {hand:?}");
                assert!(found.iter().all(|set| set.is_subset(hand)));
            }
        }
    }

    fn shape(set: Pieces) -> Vec<(Colour, Kind)> {
        set.iter().map(|piece| (piece.colour(), piece.kind())).collect()
    }
}
