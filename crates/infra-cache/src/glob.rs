//! Patterns of keys.

use infra_core::{Error, Result};

/// A pattern: `*` stands for any text, also none, `?` for one character, `\` for the next character itself.
///
/// ```
/// use infra_cache::Glob;
///
/// let users = Glob::new("user:*")?;
/// assert!(users.matches("user:1") && !users.matches("post:1"));
/// assert!(Glob::new(&format!("user:{}", Glob::escape("a*"))) ?.matches("user:a*"));
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Glob {
    literal: String,
    rest: Vec<Piece>,
}

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Piece {
    Letter(char),
    One,
    Any,
}

impl Glob {
    /// Takes `text` as a pattern.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if it ends with a single `\`.
    pub fn new(text: &str) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            pieces.push(match letter {
                '*' => Piece::Any,
                '?' => Piece::One,
                '\\' => match letters.next() {
                    Some(letter) => Piece::Letter(letter),
                    None => return Err(Error::invalid("read pattern", text.to_owned())),
                },
                letter => Piece::Letter(letter),
            });
        }
        let plain = pieces.iter().map_while(|piece| match piece {
            Piece::Letter(letter) => Some(*letter),
            Piece::One | Piece::Any => None,
        });
        let literal: String = plain.collect();
        let rest = pieces.split_off(literal.chars().count());
        Ok(Self { literal, rest })
    }

    /// Creates the pattern of all that begins with `literal`.
    pub(crate) fn below(literal: String) -> Self {
        Self { literal, rest: vec![Piece::Any] }
    }

    /// Returns a pattern's text that matches exactly `text`.
    pub fn escape(text: &str) -> String {
        let mut escaped = String::with_capacity(text.len());
        for letter in text.chars() {
            if matches!(letter, '*' | '?' | '\\') {
                escaped.push('\\');
            }
            escaped.push(letter);
        }
        escaped
    }

    /// Returns the text with which all that matches begins.
    pub fn literal(&self) -> &str {
        &self.literal
    }

    /// Returns whether a key matches. It takes time in proportion to the product of both lengths at most.
    pub fn matches(&self, key: &str) -> bool {
        let Some(tail) = key.strip_prefix(self.literal.as_str()) else { return false };
        let tail: Vec<char> = tail.chars().collect();
        let (mut at, mut piece, mut retry) = (0, 0, None);
        while at < tail.len() {
            match self.rest.get(piece) {
                Some(Piece::Any) => {
                    retry = Some((at, piece));
                    piece += 1;
                }
                Some(Piece::One) => (at, piece) = (at + 1, piece + 1),
                Some(Piece::Letter(letter)) if tail.get(at) == Some(letter) => {
                    (at, piece) = (at + 1, piece + 1);
                }
                // The last `*` takes one character more.
                Some(Piece::Letter(_)) | None => match retry {
                    Some((start, any)) => {
                        retry = Some((start + 1, any));
                        (at, piece) = (start + 1, any + 1);
                    }
                    None => return false,
                },
            }
        }
        self.rest.iter().skip(piece).all(|piece| *piece == Piece::Any)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, letter by letter.
    fn naive(pattern: &[char], key: &[char]) -> bool {
        match pattern {
            [] => key.is_empty(),
            ['*', rest @ ..] => (0..=key.len()).any(|taken| naive(rest, &key[taken..])),
            ['?', rest @ ..] => !key.is_empty() && naive(rest, &key[1..]),
            ['\\', letter, rest @ ..] | [letter, rest @ ..] => {
                key.first() == Some(letter) && naive(rest, &key[1..])
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn it_matches_what_the_naive_matcher_matches(pattern in r"([ab*?]|\\[ab*?\\]){0,8}", key in r"[ab*?\\]{0,8}") {
            let letters: Vec<char> = pattern.chars().collect();
            let key_letters: Vec<char> = key.chars().collect();
            let glob = Glob::new(&pattern).unwrap();
            prop_assert_eq!(glob.matches(&key), naive(&letters, &key_letters));
            prop_assert!(!glob.matches(&key) || key.starts_with(glob.literal()));
        }

        #[test]
        fn an_escaped_text_matches_itself_alone(text: String, other: String) {
            let glob = Glob::new(&Glob::escape(&text)).unwrap();
            prop_assert!(glob.matches(&text));
            prop_assert_eq!(glob.matches(&other), text == other);
        }
    }

    #[test]
    fn an_escape_of_nothing_is_refused() {
        assert!(Glob::new("a\\").is_err());
    }
}
