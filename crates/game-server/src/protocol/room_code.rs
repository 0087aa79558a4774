//! The code by which people tell each other a room.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Digits and capital letters without I, L, O and U: nothing that is mistaken for another.
const LETTERS: [u8; 32] = *b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// How many letters a code has.
const LENGTH: usize = 6;

/// A room's code: six digits and capital letters, none of them I, L, O or U.
///
/// ```
/// use game_server::protocol::RoomCode;
///
/// assert_eq!(RoomCode::new("K7Q2ZD").unwrap().as_str(), "K7Q2ZD");
/// assert!(RoomCode::new("k7q2zd").is_none());
/// assert_eq!(RoomCode::from_number(33).as_str(), "000011");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomCode([u8; LENGTH]);

impl RoomCode {
    /// How many codes there are.
    pub const COUNT: u32 = 1 << 30;

    /// Takes `text` if it is a code.
    pub fn new(text: &str) -> Option<Self> {
        let letters: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
        letters.iter().all(|letter| LETTERS.contains(letter)).then_some(Self(letters))
    }

    /// Returns the code of a number; the upper two bits do not count.
    pub fn from_number(number: u32) -> Self {
        let mut rest = number;
        let mut code = [b'0'; LENGTH];
        for place in code.iter_mut().rev() {
            let digit = usize::try_from(rest % 32).unwrap_or(0);
            *place = LETTERS.get(digit).copied().unwrap_or(b'0');
            rest /= 32;
        }
        Self(code)
    }

    /// Returns the code as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or("")
    }
}

impl fmt::Display for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomCode({self})")
    }
}

impl From<RoomCode> for String {
    fn from(code: RoomCode) -> Self {
        code.as_str().to_owned()
    }
}

impl TryFrom<String> for RoomCode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text).ok_or("a room code is six digits and capital letters without I, L, O, U")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_number_has_a_code_of_its_own_that_reads_back(a in 0..RoomCode::COUNT, b in 0..RoomCode::COUNT) {
            let (one, other) = (RoomCode::from_number(a), RoomCode::from_number(b));
            prop_assert_eq!(one == other, a == b);
            prop_assert_eq!(RoomCode::new(one.as_str()), Some(one));
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for bad in ["", "K7Q2Z", "K7Q2ZDX", "K7Q2Zd", "K7Q2ZO", "K7Q2Z ", "K7Q2Zé", "K7-2ZD"] {
            assert_eq!(RoomCode::new(bad), None, "{bad:?}");
        }
        let error = serde_json::from_str::<RoomCode>("\"abc\"").unwrap_err();
        assert!(error.to_string().starts_with("a room code is six"), "{error}");
    }
}
