//! Ids as newtypes over UUID version 7, and the names of things that people choose.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    error::{Error, Result},
    random::Random,
};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Creates an id for something that happened at `time` (RFC 9562, version 7).
            pub fn generate(time: Timestamp, random: &Random) -> Self {
                Self(version_7(time, random))
            }

            /// Wraps an existing UUID of any version.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the UUID.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|cause| Error::invalid(concat!("parse ", $what), "not a UUID").because(cause))
            }
        }
    };
}

id! {
    /// Names one event; appending the same id twice to a stream is idempotent.
    EventId, "event id"
}

id! {
    /// Names one message of a queue.
    MessageId, "message id"
}

id! {
    /// Follows one request through sockets, queues, stored events and logs.
    CorrelationId, "correlation id"
}

fn version_7(time: Timestamp, random: &Random) -> Uuid {
    let mut tail = [0_u8; 10];
    let drawn = [random.next_u64().to_be_bytes(), random.next_u64().to_be_bytes()];
    for (byte, from) in tail.iter_mut().zip(drawn.into_iter().flatten()) {
        *byte = from;
    }
    uuid::Builder::from_unix_timestamp_millis(time.as_millis(), &tail).into_uuid()
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes `text` as a name.
            ///
            /// # Errors
            ///
            /// [`Invalid`](crate::error::ErrorKind::Invalid) if it is empty, longer than 200 bytes,
            /// or has a control character.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                check_name(concat!("name ", $what), text.as_ref())?;
                Ok(Self(Arc::from(text.as_ref())))
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name! {
    /// The name of an event stream or a machine, such as `room-7f3a`.
    StreamName, "stream"
}

name! {
    /// The name of an event's type, such as `piece_played`.
    EventType, "event type"
}

name! {
    /// The name of a collection of documents, such as `players`.
    Collection, "collection"
}

name! {
    /// The name of an index over a collection, such as `room_code`.
    IndexName, "index"
}

name! {
    /// The name of a queue.
    QueueName, "queue"
}

name! {
    /// What a fencing token or a lease protects, such as `room-7f3a`.
    Scope, "scope"
}

/// The longest name in bytes.
pub const MAX_NAME: usize = 200;

fn check_name(operation: &'static str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(operation, "it is empty"));
    }
    if MAX_NAME < text.len() {
        return Err(Error::invalid(operation, format!("{} bytes, at most {MAX_NAME}", text.len())));
    }
    match text.char_indices().find(|(_, letter)| letter.is_control()) {
        Some((at, _)) => Err(Error::invalid(operation, format!("control character at byte {at}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_later_times_sort_later_and_are_version_7() {
        let random = Random::seeded(5);
        let early = EventId::generate(Timestamp::from_millis(1_000), &random);
        let late = EventId::generate(Timestamp::from_millis(1_001), &random);
        assert!(early < late);
        assert_eq!(early.as_uuid().get_version_num(), 7);
    }

    #[test]
    fn ids_of_one_millisecond_differ() {
        let random = Random::seeded(5);
        let ids: std::collections::HashSet<_> =
            (0..10_000).map(|_| MessageId::generate(Timestamp::EPOCH, &random)).collect();
        assert_eq!(ids.len(), 10_000);
    }

    #[test]
    fn an_id_survives_its_text() {
        let id = CorrelationId::generate(Timestamp::from_millis(7), &Random::seeded(1));
        assert_eq!(id.to_string().parse::<CorrelationId>().unwrap(), id);
        assert!("room".parse::<CorrelationId>().is_err());
    }

    #[test]
    fn a_name_that_cannot_be_is_refused_with_its_reason() {
        let refused = |text: &str| StreamName::new(text).unwrap_err().to_string();
        assert_eq!(refused(""), "name stream: invalid: it is empty");
        assert_eq!(refused("a\nb"), "name stream: invalid: control character at byte 1");
        assert_eq!(refused(&"a".repeat(201)), "name stream: invalid: 201 bytes, at most 200");
        assert_eq!(StreamName::new("room-1").unwrap().as_str(), "room-1");
    }

    #[test]
    fn a_stored_name_is_checked_again_when_it_is_read() {
        assert!(serde_json::from_str::<StreamName>("\"room-1\"").is_ok());
        assert!(serde_json::from_str::<StreamName>("\"\"").is_err());
    }
}
