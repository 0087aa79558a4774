//! The four seats of a table, and a value for each of them.

use std::{
    fmt,
    ops::{Index, IndexMut},
};

use serde::{Deserialize, Serialize};

/// How many seats a table has.
pub const SEATS: usize = 4;

/// One of the four seats; in JSON a number from 0 to 3.
///
/// ```
/// use game_server::domain::Seat;
///
/// assert_eq!(Seat::Fourth.next(), Seat::First);
/// assert_eq!(serde_json::to_string(&Seat::Third).unwrap(), "2");
/// assert!(serde_json::from_str::<Seat>("4").is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Seat {
    /// Seat 0.
    First,
    /// Seat 1.
    Second,
    /// Seat 2.
    Third,
    /// Seat 3.
    Fourth,
}

impl Seat {
    /// Every seat, by number.
    pub const ALL: [Self; SEATS] = [Self::First, Self::Second, Self::Third, Self::Fourth];

    /// Returns the seat with this number, if there is one.
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::First),
            1 => Some(Self::Second),
            2 => Some(Self::Third),
            3 => Some(Self::Fourth),
            _ => None,
        }
    }

    /// Returns the number of the seat, 0 to 3.
    pub const fn number(self) -> u8 {
        match self {
            Self::First => 0,
            Self::Second => 1,
            Self::Third => 2,
            Self::Fourth => 3,
        }
    }

    /// Returns the seat that comes after this one round the table.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::Third,
            Self::Third => Self::Fourth,
            Self::Fourth => Self::First,
        }
    }

    /// Returns all four seats in play order, this one first.
    pub const fn round_the_table(self) -> [Self; SEATS] {
        [self, self.next(), self.next().next(), self.next().next().next()]
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seat {}", self.number())
    }
}

impl From<Seat> for u8 {
    fn from(seat: Seat) -> Self {
        seat.number()
    }
}

impl TryFrom<u8> for Seat {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Self::new(number).ok_or_else(|| format!("seat {number}, at most 3"))
    }
}

/// One value for each seat; in JSON a list of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BySeat<T>([T; SEATS]);

impl<T> BySeat<T> {
    /// Takes the values of seats 0 to 3.
    pub const fn new(values: [T; SEATS]) -> Self {
        Self(values)
    }

    /// Asks `value_of` for the value of each seat.
    pub fn from_fn(mut value_of: impl FnMut(Seat) -> T) -> Self {
        Self(Seat::ALL.map(&mut value_of))
    }

    /// Returns the values with their seats, by number.
    pub fn iter(&self) -> impl Iterator<Item = (Seat, &T)> {
        Seat::ALL.into_iter().zip(&self.0)
    }

    /// Returns the values, by number of their seat.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

impl<T> Index<Seat> for BySeat<T> {
    type Output = T;

    fn index(&self, index: Seat) -> &T {
        let [first, second, third, fourth] = &self.0;
        match index {
            Seat::First => first,
            Seat::Second => second,
            Seat::Third => third,
            Seat::Fourth => fourth,
        }
    }
}

impl<T> IndexMut<Seat> for BySeat<T> {
    fn index_mut(&mut self, index: Seat) -> &mut T {
        let [first, second, third, fourth] = &mut self.0;
        match index {
            Seat::First => first,
            Seat::Second => second,
            Seat::Third => third,
            Seat::Fourth => fourth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn play_order_runs_round_the_table_from_any_seat() {
        for seat in Seat::ALL {
            let order = seat.round_the_table();
            assert_eq!(order[0], seat);
            assert_eq!(order[3].next(), seat);
            for pair in order.windows(2) {
                assert_eq!(pair[0].next(), pair[1]);
            }
        }
    }

    #[test]
    fn every_seat_has_its_own_value() {
        let mut numbers = BySeat::from_fn(Seat::number);
        for seat in Seat::ALL {
            assert_eq!(numbers[seat], seat.number());
            numbers[seat] += 10;
        }
        assert_eq!(serde_json::to_string(&numbers).unwrap(), "[10,11,12,13]");
    }
}
