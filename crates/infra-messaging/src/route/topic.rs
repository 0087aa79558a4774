//! Topics and topic filters, in the dialects of NATS and MQTT.

use infra_core::{Error, Result};

/// The longest topic or filter in bytes.
const MAX_TOPIC: usize = 1_024;

/// How topics are divided and which signs are wildcards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// Tokens divided by `.`; `*` stands for one token, a last `>` for one or more.
    #[default]
    Nats,
    /// Levels divided by `/`; `+` stands for one level, a last `#` for any number, also none. Topics
    /// that begin with `$` are met by no filter that begins with a wildcard (MQTT 5, 4.7.2).
    Mqtt,
}

/// A part of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Word(String),
    /// One token.
    One,
    /// The rest: at least so many tokens.
    Rest {
        least: usize,
    },
}

impl Dialect {
    const fn separator(self) -> char {
        match self {
            Self::Nats => '.',
            Self::Mqtt => '/',
        }
    }

    /// Divides a topic.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if it is empty or too long, has a wildcard, or,
    /// in NATS, an empty token.
    pub(crate) fn divide(self, topic: &str) -> Result<Vec<&str>> {
        let tokens = self.tokens(topic)?;
        match tokens.iter().find(|token| self.has_wildcard(token)) {
            Some(token) => Err(refused(format!("wildcard in {token:?}"))),
            None => Ok(tokens),
        }
    }

    /// Divides a filter.
    ///
    /// # Errors
    ///
    /// As for topics, but wildcards may stand as tokens of their own, and one for the rest at the
    /// end.
    pub(crate) fn parts(self, filter: &str) -> Result<Vec<Part>> {
        let tokens = self.tokens(filter)?;
        let last = tokens.len() - 1;
        let parts = tokens.into_iter().enumerate().map(|(place, token)| match (self, token) {
            (Self::Nats, "*") | (Self::Mqtt, "+") => Ok(Part::One),
            (Self::Nats, ">") if place == last => Ok(Part::Rest { least: 1 }),
            (Self::Mqtt, "#") if place == last => Ok(Part::Rest { least: 0 }),
            (_, word) if self.has_wildcard(word) => Err(refused(format!("token {word:?}"))),
            (_, word) => Ok(Part::Word(word.to_owned())),
        });
        parts.collect()
    }

    fn tokens(self, text: &str) -> Result<Vec<&str>> {
        if text.is_empty() || MAX_TOPIC < text.len() {
            return Err(refused(format!("{} bytes, from 1 to {MAX_TOPIC}", text.len())));
        }
        if text.contains(char::is_control) {
            return Err(refused("a control character".to_owned()));
        }
        let tokens: Vec<&str> = text.split(self.separator()).collect();
        if self == Self::Nats && tokens.iter().any(|token| token.is_empty()) {
            return Err(refused(format!("an empty token in {text:?}")));
        }
        Ok(tokens)
    }

    fn has_wildcard(self, token: &str) -> bool {
        match self {
            Self::Nats => token.contains(['*', '>']),
            Self::Mqtt => token.contains(['+', '#']),
        }
    }

    /// Returns whether wildcards at the beginning pass a topic by.
    pub(crate) fn is_hidden(self, tokens: &[&str]) -> bool {
        self == Self::Mqtt && tokens.first().is_some_and(|first| first.starts_with('$'))
    }
}

fn refused(detail: String) -> Error {
    Error::invalid("read topic", detail)
}
