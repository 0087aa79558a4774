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
    pub const fn len(self) -> usize {
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
