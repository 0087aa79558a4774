//! Fan-out by subject: each message at most once, and loss is never silent.

use std::{fmt::Debug, pin::Pin, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use crate::error::{Error, Result};

/// What a message is about: tokens divided by dots, such as `room.7f3a.events`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

impl Subject {
    /// Takes `text` as a subject.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::ErrorKind::Invalid) if a token is empty or has white space, a
    /// control character, `*` or `>`, or if it is longer than 200 bytes.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        check(text, |token| !token.contains(['*', '>']))?;
        Ok(Self(Arc::from(text)))
    }

    /// Returns the subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which subjects to receive: `*` stands for one token, a last `>` for one or more.
///
/// ```
/// use infra_core::pubsub::{Pattern, Subject};
///
/// let pattern = Pattern::new("room.*.events")?;
/// assert!(pattern.admits(&Subject::new("room.7f3a.events")?));
/// assert!(!pattern.admits(&Subject::new("room.7f3a.chat")?));
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Takes `text` as a pattern.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::ErrorKind::Invalid) if a wildcard is not a token of its own, `>`
    /// is not the last one, and as for [`Subject::new`].
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        check(text, |token| matches!(token, "*" | ">") || !token.contains(['*', '>']))?;
        match text.find('>') {
            Some(at) if at + 1 < text.len() => {
                Err(Error::invalid("read subject", "`>` is not last"))
            }
            _ => Ok(Self(Arc::from(text))),
        }
    }

    /// Returns the pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern admits a subject.
    pub fn admits(&self, subject: &Subject) -> bool {
        let mut tokens = subject.as_str().split('.');
        for wanted in self.0.split('.') {
            let Some(token) = tokens.next() else { return false };
            if wanted == ">" {
                return true;
            }
            if wanted != "*" && wanted != token {
                return false;
            }
        }
        tokens.next().is_none()
    }
}

fn check(text: &str, is_token: impl Fn(&str) -> bool) -> Result<()> {
    let is_plain = |token: &str| {
        !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if crate::id::MAX_NAME < text.len() {
        return Err(Error::invalid("read subject", format!("{} bytes", text.len())));
    }
    match text.split('.').find(|token| !is_plain(token) || !is_token(token)) {
        Some(token) => Err(Error::invalid("read subject", format!("token {token:?} in {text:?}"))),
        None => Ok(()),
    }
}

/// Why a subscriber missed messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// The subscriber was too slow for its bounded buffer.
    Lagged,
    /// The link to the server was down.
    Disconnected,
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A message.
    Message {
        /// What it is about.
        subject: Subject,
        /// The message.
        payload: Bytes,
    },
    /// Here messages may be missing.
    Gap {
        /// Why.
        reason: GapReason,
        /// How many, if that is known.
        missed: Option<u64>,
    },
}

/// A subscription; it ends when the engine is closed.
pub type Subscription = Pin<Box<dyn Stream<Item = Item> + Send>>;

/// Hands messages to whoever listens now.
///
/// # Contract
///
/// 1. **At most once:** a subscriber sees a message once or not at all.
/// 2. **In order:** messages of one publisher on one subject arrive in their order.
/// 3. **Never silent:** where messages were lost, the subscription yields a `Gap` at that place.
/// 4. **From now on:** a message published after `subscribe` returned reaches the subscriber.
/// 5. **Matched:** a subscriber sees the subjects that its pattern admits, and no others.
/// 6. **Unhindered:** a slow subscriber delays neither publishers nor other subscribers.
#[async_trait]
pub trait PubSub: Send + Sync + Debug {
    /// Publishes a message.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::error::ErrorKind::Unavailable) if the server cannot be reached,
    /// [`Closed`](crate::error::ErrorKind::Closed) after the shutdown.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the message published or not.
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<()>;

    /// Subscribes to the subjects that a pattern admits.
    ///
    /// # Errors
    ///
    /// As for [`PubSub::publish`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future or the subscription ends it.
    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, by recursion over tokens.
    fn naive(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern, subject) {
            ([">"], [_, ..]) => true,
            ([word, rest @ ..], [token, tail @ ..]) => {
                (*word == "*" || word == token) && naive(rest, tail)
            }
            (rest, tail) => rest.is_empty() && tail.is_empty(),
        }
    }

    #[test]
    fn malformed_subjects_and_patterns_are_refused() {
        for text in ["", "a..b", ".a", "a b", "a.*", "a.>", "a\u{7}", &"a".repeat(201)] {
            assert!(Subject::new(text).is_err(), "{text:?}");
        }
        for text in ["", "a*", "a.>.b", ">a", "a..>"] {
            assert!(Pattern::new(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_admits_what_its_definition_says(
            pattern in proptest::collection::vec("a|b|\\*", 1..4),
            tail in any::<bool>(),
            subject in proptest::collection::vec("a|b", 1..5),
        ) {
            let mut pattern = pattern;
            if tail {
                pattern.push(">".to_owned());
            }
            let words: Vec<&str> = pattern.iter().map(String::as_str).collect();
            let tokens: Vec<&str> = subject.iter().map(String::as_str).collect();
            let admitted = Pattern::new(words.join(".")).unwrap()
                .admits(&Subject::new(tokens.join(".")).unwrap());
            prop_assert_eq!(admitted, naive(&words, &tokens));
        }
    }
}
