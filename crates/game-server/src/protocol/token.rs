//! The text of a resume token, as the wire carries it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A resume token: opaque to clients, a secret of one player, never printed.
///
/// It is 1 to 512 letters, digits, `.`, `_` and `-`. Whether it is genuine, the key ring says.
///
/// ```
/// use game_server::protocol::TokenText;
///
/// let token = TokenText::new("t1.c2VjcmV0").unwrap();
/// assert_eq!(format!("{token:?}"), "TokenText(hidden)");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenText(String);

impl TokenText {
    /// The most characters of a token.
    pub const LONGEST: usize = 512;

    /// Takes `text` if it can be a token.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let fits = !text.is_empty() && text.len() <= Self::LONGEST;
        let is_plain = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
        (fits && text.bytes().all(is_plain)).then_some(Self(text))
    }

    /// Returns the token itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(hidden)")
    }
}

impl From<TokenText> for String {
    fn from(token: TokenText) -> Self {
        token.0
    }
}

impl TryFrom<String> for TokenText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text).ok_or("a token is 1 to 512 letters, digits, dots, underscores and hyphens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_bounded_and_never_printed() {
        let token = TokenText::new("a.B-_9").unwrap();
        assert_eq!(token.as_str(), "a.B-_9");
        assert!(!format!("{token:?}").contains("a.B"));
        assert!(TokenText::new("x".repeat(512)).is_some());
        for bad in [String::new(), "x".repeat(513), "a b".to_owned(), "a\"".to_owned()] {
            assert_eq!(TokenText::new(bad.clone()), None, "{bad:?}");
        }
    }

    #[test]
    fn the_error_of_a_bad_token_does_not_repeat_it() {
        let error = serde_json::from_str::<TokenText>("\"se cret\"").unwrap_err();
        assert!(!error.to_string().contains("cret"), "{error}");
    }
}
