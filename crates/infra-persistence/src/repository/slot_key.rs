//! Keys and unique values as the slots of a table hold them.

use std::cmp::Ordering;

use bytes::Bytes;

/// The longest that a slot holds itself: a UUID's text and a little more.
const SHORT: usize = 38;

/// A key or a value. A short one stands in the slot itself, so that comparing it reads no other part of
/// the memory.
#[derive(Debug, Clone)]
pub(super) enum SlotKey {
    Short(u8, [u8; SHORT]),
    Long(Bytes),
}

impl SlotKey {
    pub(super) fn new(key: &Bytes) -> Self {
        let mut short = [0; SHORT];
        match (short.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(own), Ok(length)) => {
                own.copy_from_slice(key);
                Self::Short(length, short)
            }
            _ => Self::Long(key.clone()),
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short(length, short) => short.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(key) => key,
        }
    }
}

impl PartialEq for SlotKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for SlotKey {}

impl PartialOrd for SlotKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SlotKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_length_is_the_one_it_was_made_of() {
        let all: Vec<Bytes> = (0..2 * SHORT).map(|length| vec![7; length].into()).collect();
        for key in &all {
            assert_eq!(SlotKey::new(key).as_slice(), key);
            let is_short = matches!(SlotKey::new(key), SlotKey::Short(..));
            assert_eq!(is_short, key.len() <= SHORT);
        }
        assert!(all.iter().map(SlotKey::new).is_sorted_by(|a, b| a < b));
        assert!(size_of::<SlotKey>() <= 40);
    }
}
