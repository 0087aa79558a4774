//! Text that people write, checked once and for ever.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

/// A player's name: 1 to 50 characters.
pub type Name = Text<50>;

/// A message of the chat: 1 to 1,000 characters.
pub type ChatText = Text<1000>;

/// Text of 1 to `MAX` characters (Unicode scalar values) that cannot disguise itself.
///
/// Control characters, line and paragraph separators, and everything that changes the direction
/// of writing or is invisible at full length are refused; so is text of spaces alone, and a space
/// at either end. Nothing is changed silently. Cheap to clone.
///
/// ```
/// use game_server::domain::{Name, TextError};
///
/// assert_eq!(Name::new("Mei Ling").unwrap().as_str(), "Mei Ling");
/// assert_eq!(Name::new("a\u{202e}b"), Err(TextError::Bidirectional { at: 1 }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Text<const MAX: usize>(Arc<str>);

/// What joins or parts letters and takes no room: scripts and emoji need it.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];

/// Why a text is refused; positions count characters from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextError {
    /// There is nothing in it.
    Empty,
    /// It has more characters than allowed.
    TooLong {
        /// How many characters are allowed.
        max: usize,
    },
    /// It begins or ends with a space.
    Untrimmed,
    /// It holds a control character or a line separator.
    Control {
        /// Where.
        at: usize,
    },
    /// It holds a character that changes the direction of writing.
    Bidirectional {
        /// Where.
        at: usize,
    },
    /// It holds a character that cannot be seen.
    Invisible {
        /// Where.
        at: usize,
    },
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong { max } => write!(f, "more than {max} characters"),
            Self::Untrimmed => f.write_str("a space at its beginning or end"),
            Self::Control { at } => write!(f, "control character at {at}"),
            Self::Bidirectional { at } => write!(f, "bidirectional character at {at}"),
            Self::Invisible { at } => write!(f, "invisible character at {at}"),
        }
    }
}

impl std::error::Error for TextError {}

impl<const MAX: usize> Text<MAX> {
    /// Takes `text` if it may be shown to everybody as it is.
    ///
    /// # Errors
    ///
    /// The first [`TextError`] that applies.
    pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
        let text = text.into();
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        // A character takes at least one byte: long text is refused before it is walked.
        if MAX < text.chars().take(MAX + 1).count() {
            return Err(TextError::TooLong { max: MAX });
        }
        for (at, letter) in text.chars().enumerate() {
            check_letter(at, letter)?;
        }
        if text.trim().is_empty() {
            return Err(TextError::Empty);
        }
        if text.trim().len() != text.len() {
            return Err(TextError::Untrimmed);
        }
        Ok(Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether both read the same to a person who does not look at upper and lower case.
    pub fn reads_like(&self, other: &Self) -> bool {
        self.folded() == other.folded()
    }

    /// Returns what is left without joiners and capitals: equal for texts that read the same.
    pub(super) fn folded(&self) -> String {
        self.0.replace(JOINERS, "").to_lowercase()
    }
}

fn check_letter(at: usize, letter: char) -> Result<(), TextError> {
    match letter {
        _ if letter.is_control() => Err(TextError::Control { at }),
        '\u{2028}' | '\u{2029}' => Err(TextError::Control { at }),
        // Unicode Standard Annex 9, table of directional formatting characters.
        '\u{061c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => Err(TextError::Bidirectional { at }),
        // The joiners are not among them.
        '\u{00ad}'
        | '\u{034f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => Err(TextError::Invisible { at }),
        _ => Ok(()),
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_to_fifty_characters_and_a_message_a_thousand() {
        assert_eq!(Name::new(""), Err(TextError::Empty));
        assert!(Name::new("将".repeat(50)).is_ok());
        assert_eq!(Name::new("将".repeat(51)), Err(TextError::TooLong { max: 50 }));
        assert!(ChatText::new("x".repeat(1000)).is_ok());
        assert_eq!(ChatText::new("x".repeat(1001)), Err(TextError::TooLong { max: 1000 }));
    }

    #[test]
    fn control_characters_and_line_breaks_are_refused() {
        for bad in ["a\0", "a\nb", "a\rb", "a\tb", "a\u{7f}", "a\u{85}", "a\u{2028}", "a\u{1b}[2J"]
        {
            assert_eq!(Name::new(bad), Err(TextError::Control { at: 1 }), "{bad:?}");
        }
    }

    #[test]
    fn bidirectional_and_invisible_characters_are_refused() {
        for letter in ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}') {
            let text = format!("a{letter}b");
            assert_eq!(ChatText::new(text), Err(TextError::Bidirectional { at: 1 }));
        }
        for letter in ['\u{61c}', '\u{200e}', '\u{200f}'] {
            assert_eq!(ChatText::new(letter), Err(TextError::Bidirectional { at: 0 }));
        }
        for letter in ['\u{200b}', '\u{feff}', '\u{ad}', '\u{2060}', '\u{e0041}'] {
            assert_eq!(ChatText::new(letter), Err(TextError::Invisible { at: 0 }));
        }
    }

    #[test]
    fn spaces_alone_or_at_an_end_are_refused() {
        assert_eq!(Name::new("   "), Err(TextError::Empty));
        assert_eq!(Name::new("\u{3000}"), Err(TextError::Empty));
        assert_eq!(Name::new(" a"), Err(TextError::Untrimmed));
        assert_eq!(Name::new("a "), Err(TextError::Untrimmed));
    }

    #[test]
    fn letters_of_every_script_and_emoji_are_welcome() {
        for good in ["Ünsal", "阿梅", "مريم", "👩‍👩‍👧", "O'Neil <b>"] {
            assert_eq!(Name::new(good).unwrap().to_string(), good);
        }
    }

    #[test]
    fn stored_text_is_checked_again_when_it_is_read() {
        assert!(serde_json::from_str::<Name>("\"Ann\"").is_ok());
        let error = serde_json::from_str::<Name>("\"a\\u0007\"").unwrap_err();
        assert_eq!(error.to_string(), "control character at 1");
    }

    #[test]
    fn names_that_differ_in_case_or_joiners_alone_read_the_same() {
        assert!(Name::new("An\u{200d}n").unwrap().reads_like(&Name::new("Ann").unwrap()));
        assert!(Name::new("Ann").unwrap().reads_like(&Name::new("ANN").unwrap()));
        assert!(!Name::new("Ann").unwrap().reads_like(&Name::new("Anna").unwrap()));
    }
}
