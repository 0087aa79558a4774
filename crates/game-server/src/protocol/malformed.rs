//! What is wrong with a message that could not be understood.

use super::{
    code::ErrorCode,
    server::{Fault, ServerMessage},
};

/// The most characters of a client's text that an answer repeats.
const REPEATED: usize = 60;

/// The most characters of an explanation.
const EXPLAINED: usize = 240;

/// A message that was refused as a whole; nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub code: ErrorCode,
    /// The field that is wrong, with those it stands in: `resume.from.epoch`.
    pub field: Option<String>,
    /// What is wrong, for people; text of the client in it is cut and harmless.
    pub message: String,
    /// The number of the action, if the message had a readable one.
    pub action: Option<u64>,
}

impl Malformed {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, field: None, message: plain(&message.into(), EXPLAINED), action: None }
    }

    #[must_use]
    pub(super) fn at(mut self, field: &str) -> Self {
        self.field = Some(plain(field, REPEATED));
        self
    }

    #[must_use]
    pub(super) const fn of_action(mut self, action: Option<u64>) -> Self {
        self.action = action;
        self
    }

    /// Returns the answer to the client; a fatal one comes before a close.
    pub fn answer(self, fatal: bool) -> ServerMessage {
        let Self { code, field, message, action } = self;
        ServerMessage::Error(Fault { code, message, field, action, fatal })
    }
}

/// Returns `text` cut to `max` characters, with a question mark for each that could harm a log
/// or a screen.
pub(super) fn plain(text: &str, max: usize) -> String {
    let harmless = |letter: char| letter.is_alphanumeric() || matches!(letter, ' '..='~');
    text.chars().take(max).map(|letter| if harmless(letter) { letter } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_client_is_cut_and_made_harmless() {
        assert_eq!(plain("a\u{202e}b\n<ü>", 50), "a?b?<ü>");
        assert_eq!(plain(&"x".repeat(100), 3), "xxx");
        let malformed = Malformed::new(ErrorCode::UnknownField, "y".repeat(1000));
        assert_eq!(malformed.message.len(), EXPLAINED);
        assert_eq!(malformed.at(&"z".repeat(100)).field.unwrap().len(), REPEATED);
    }
}
