//! A set of pieces: a hand, a play, what is gone.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::piece::{Colour, Kind, Piece};

/// A set of pieces; in JSON a list of ids, ascending.
///
/// Reading refuses a piece named twice, so a list never holds more than 32 of them.
///
/// ```
/// use game_server::domain::Pieces;
///
/// let pieces: Pieces = serde_json::from_str("[5,1]").unwrap();
/// assert_eq!(pieces.points(), 12 + 8);
/// assert_eq!(serde_json::to_string(&pieces).unwrap(), "[1,5]");
/// assert!(serde_json::from_str::<Pieces>("[1,1]").is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pieces(u32);

impl Pieces {
    /// No piece.
    pub const NONE: Self = Self(0);

    /// All 32 pieces.
    pub const ALL: Self = Self(u32::MAX);

    /// Returns every piece of `colour`.
    pub const fn of_colour(colour: Colour) -> Self {
        match colour {
            Colour::Red => Self(0x0000_FFFF),
            Colour::Black => Self(0xFFFF_0000),
        }
    }

    /// Returns every piece of `colour` and `kind`.
    pub const fn of(colour: Colour, kind: Kind) -> Self {
        let red = match kind {
            Kind::General => 0x0001,
            Kind::Advisor => 0x0006,
            Kind::Elephant => 0x0018,
            Kind::Chariot => 0x0060,
            Kind::Horse => 0x0180,
            Kind::Cannon => 0x0600,
            Kind::Soldier => 0xF800,
        };
        match colour {
            Colour::Red => Self(red),
            Colour::Black => Self(red << 16),
        }
    }

    /// Returns whether there is no piece in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns how many pieces there are.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Returns whether `piece` is one of them.
    pub const fn contains(self, piece: Piece) -> bool {
        self.0 & (1 << piece.id()) != 0
    }

    /// Returns whether each of these pieces is in `others` too.
    pub const fn is_subset(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    /// Returns the pieces that are in both.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Returns the pieces that are in one or the other.
    #[must_use]
    pub const fn or(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Returns these pieces without `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Returns these pieces and `piece`.
    #[must_use]
    pub const fn with(self, piece: Piece) -> Self {
        Self(self.0 | 1 << piece.id())
    }

    /// Returns the first `count` of them by id, or all if there are fewer.
    #[must_use]
    pub fn first(self, count: usize) -> Self {
        self.iter().take(count).collect()
    }

    /// Returns the sum of their points.
    pub fn points(self) -> u32 {
        self.iter().map(Piece::points).sum()
    }

    /// Returns the pieces by id.
    pub fn iter(self) -> impl Iterator<Item = Piece> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let id = u8::try_from(rest.trailing_zeros()).ok()?;
            rest &= rest.wrapping_sub(1);
            Piece::new(id)
        })
    }
}

impl FromIterator<Piece> for Pieces {
    fn from_iter<I: IntoIterator<Item = Piece>>(iter: I) -> Self {
        iter.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Pieces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;

        let mut list = serializer.serialize_seq(Some(self.len()))?;
        for piece in self.iter() {
            list.serialize_element(&piece)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListOfPieces)
    }
}

struct ListOfPieces;

impl<'de> de::Visitor<'de> for ListOfPieces {
    type Value = Pieces;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of different piece ids")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Pieces, A::Error> {
        let mut pieces = Pieces::NONE;
        while let Some(piece) = seq.next_element::<Piece>()? {
            if pieces.contains(piece) {
                return Err(de::Error::custom(format_args!("piece {} twice", piece.id())));
            }
            pieces = pieces.with(piece);
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(pieces: Pieces) -> Vec<u8> {
        pieces.iter().map(Piece::id).collect()
    }

    #[test]
    fn the_masks_agree_with_the_pieces_themselves() {
        for colour in Colour::ALL {
            assert!(Pieces::of_colour(colour).iter().all(|piece| piece.colour() == colour));
            assert_eq!(Pieces::of_colour(colour).len(), 16);
            for kind in Kind::ALL {
                let found: Pieces = Pieces::ALL
                    .iter()
                    .filter(|piece| piece.colour() == colour && piece.kind() == kind)
                    .collect();
                assert_eq!(Pieces::of(colour, kind), found);
            }
        }
    }

    #[test]
    fn sets_are_joined_cut_and_counted() {
        let some: Pieces = [0, 5, 31].into_iter().filter_map(Piece::new).collect();
        let other: Pieces = [5, 6].into_iter().filter_map(Piece::new).collect();
        assert_eq!(ids(some.and(other)), [5]);
        assert_eq!(ids(some.or(other)), [0, 5, 6, 31]);
        assert_eq!(ids(some.without(other)), [0, 31]);
        assert_eq!(ids(some.first(2)), [0, 5]);
        assert_eq!(ids(some.first(9)), [0, 5, 31]);
        assert!(some.and(other).is_subset(some) && !other.is_subset(some));
        assert!(Pieces::NONE.is_empty() && Pieces::NONE.is_subset(some));
        assert_eq!(Pieces::ALL.len(), 32);
    }

    #[test]
    fn a_list_with_a_stranger_or_a_double_is_refused() {
        for bad in ["[32]", "[-1]", "[1,1]", "{}", "7", "[1,\"2\"]", "[null]"] {
            assert!(serde_json::from_str::<Pieces>(bad).is_err(), "{bad}");
        }
    }
}
