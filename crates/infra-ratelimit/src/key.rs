//! A key as a table keeps it: most are so short that they lie in their slot, where a look-up reads
//! them with what else it needs.

/// The longest key that lies in its slot, in bytes.
const SHORT: usize = 22;

/// A key that is kept.
#[derive(Debug)]
pub(crate) enum Key {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

impl Key {
    /// Returns how many bytes a key takes beside its slot.
    #[inline]
    pub(crate) const fn bytes_beside(key: &str) -> usize {
        if key.len() <= SHORT { 0 } else { key.len() }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Self::Long(key) => key.as_bytes(),
        }
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(start), Ok(length)) => {
                start.copy_from_slice(key.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(key.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_it_was_made_of_and_lies_in_its_slot_if_it_is_short() {
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 300] {
            let key = "é".repeat(length / 2) + &"k".repeat(length % 2);
            let kept = Key::from(key.as_str());
            assert_eq!(kept.as_bytes(), key.as_bytes());
            let is_long = matches!(kept, Key::Long(_));
            assert_eq!(
                (is_long, Key::bytes_beside(&key)),
                (SHORT < length, if is_long { length } else { 0 })
            );
        }
        assert_eq!(size_of::<Key>(), 24);
    }
}
