//! The 32 pieces: what each is and what it is worth.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many pieces the game has.
pub const PIECES: u8 = 32;

/// The colour of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// Red, worth one point more than black.
    Red,
    /// Black.
    Black,
}

impl Colour {
    /// Both colours.
    pub const ALL: [Self; 2] = [Self::Red, Self::Black];
}

/// What a piece is, whatever its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One of each colour.
    General,
    /// Two of each colour.
    Advisor,
    /// Two of each colour.
    Elephant,
    /// Two of each colour.
    Chariot,
    /// Two of each colour.
    Horse,
    /// Two of each colour.
    Cannon,
    /// Five of each colour.
    Soldier,
}

impl Kind {
    /// Every kind, from the strongest to the weakest.
    pub const ALL: [Self; 7] = [
        Self::General,
        Self::Advisor,
        Self::Elephant,
        Self::Chariot,
        Self::Horse,
        Self::Cannon,
        Self::Soldier,
    ];

    /// Returns what a piece of this kind and `colour` is worth.
    pub const fn points(self, colour: Colour) -> u32 {
        let red = match self {
            Self::General => 14,
            Self::Advisor => 12,
            Self::Elephant => 10,
            Self::Chariot => 8,
            Self::Horse => 6,
            Self::Cannon => 4,
            Self::Soldier => 2,
        };
        match colour {
            Colour::Red => red,
            Colour::Black => red - 1,
        }
    }
}

/// One of the 32 pieces; in JSON its id, a number from 0 to 31.
///
/// Ids 0 to 15 are red, 16 to 31 black. Within a colour: 0 the general, 1-2 the advisors,
/// 3-4 the elephants, 5-6 the chariots, 7-8 the horses, 9-10 the cannons, 11-15 the soldiers.
///
/// ```
/// use game_server::domain::{Colour, Kind, Piece};
///
/// let piece = Piece::new(17).unwrap();
/// assert_eq!((piece.colour(), piece.kind(), piece.points()), (Colour::Black, Kind::Advisor, 11));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Piece(u8);

impl Piece {
    /// Returns the piece with this id, if there is one.
    pub const fn new(id: u8) -> Option<Self> {
        if id < PIECES { Some(Self(id)) } else { None }
    }

    /// Returns the id, 0 to 31.
    pub const fn id(self) -> u8 {
        self.0
    }

    /// Returns the colour.
    pub const fn colour(self) -> Colour {
        if self.0 < 16 { Colour::Red } else { Colour::Black }
    }

    /// Returns what the piece is.
    pub const fn kind(self) -> Kind {
        match self.0 % 16 {
            0 => Kind::General,
            1 | 2 => Kind::Advisor,
            3 | 4 => Kind::Elephant,
            5 | 6 => Kind::Chariot,
            7 | 8 => Kind::Horse,
            9 | 10 => Kind::Cannon,
            _ => Kind::Soldier,
        }
    }

    /// Returns what the piece is worth, 1 to 14.
    pub const fn points(self) -> u32 {
        self.kind().points(self.colour())
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{:?}#{}", self.colour(), self.kind(), self.0)
    }
}

impl From<Piece> for u8 {
    fn from(piece: Piece) -> Self {
        piece.0
    }
}

impl TryFrom<u8> for Piece {
    type Error = String;

    fn try_from(id: u8) -> Result<Self, String> {
        Self::new(id).ok_or_else(|| format!("piece {id}, at most 31"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_that_of_chinese_chess_with_the_points_of_the_table() {
        let table = [
            (Kind::General, 1, 14, 13),
            (Kind::Advisor, 2, 12, 11),
            (Kind::Elephant, 2, 10, 9),
            (Kind::Chariot, 2, 8, 7),
            (Kind::Horse, 2, 6, 5),
            (Kind::Cannon, 2, 4, 3),
            (Kind::Soldier, 5, 2, 1),
        ];
        let pieces: Vec<Piece> = (0..PIECES).filter_map(Piece::new).collect();
        assert_eq!(pieces.len(), 32);
        for (kind, count, red, black) in table {
            for (colour, points) in [(Colour::Red, red), (Colour::Black, black)] {
                let such = |piece: &&Piece| piece.kind() == kind && piece.colour() == colour;
                assert_eq!(pieces.iter().filter(such).count(), count, "{colour:?} {kind:?}");
                assert!(pieces.iter().filter(such).all(|piece| piece.points() == points));
            }
        }
    }

    #[test]
    fn there_is_no_piece_thirty_two() {
        assert_eq!(Piece::new(32), None);
        let error = serde_json::from_str::<Piece>("32").unwrap_err();
        assert_eq!(error.to_string(), "piece 32, at most 31");
    }
}
