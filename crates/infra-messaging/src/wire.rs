//! How messages and dead letters become bytes: one versioned envelope, in JSON or `MessagePack`.
//!
//! The bytes name their codec by the payload's tag and their version by the field `v`; nothing is
//! guessed from them, and no codec makes anything but plain data.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::{CodecTag, Payload},
    id::{CorrelationId, MessageId},
    queue::{Attempts, Cause, DeadLetter, Failure, Message, Priority},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::codec::Codecs;

/// The version of the envelope that is written; all versions up to it are read.
pub const VERSION: u32 = 1;

const DECODE: &str = "decode message";

/// Writes and reads whole messages.
///
/// ```
/// use infra_core::{clock::Timestamp, codec::{CodecTag, Payload}, queue::Priority};
/// use infra_core::random::Random;
/// use infra_messaging::{Mint, Wire};
/// # use infra_core::SystemClock;
///
/// # let mint = Mint::new(SystemClock::shared(), Random::seeded(1));
/// let wire = Wire::new();
/// let message = mint.message(Payload::json(1, "hello")?).priority(Priority::High);
/// for codec in [CodecTag::Json, CodecTag::MessagePack] {
///     assert_eq!(wire.decode(&wire.encode(codec, &message)?)?, message);
/// }
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wire {
    codecs: Codecs,
}

impl Wire {
    /// Creates a wire with the default bounds of [`Codecs`].
    pub const fn new() -> Self {
        Self { codecs: Codecs::new() }
    }

    /// Creates a wire with bounds of its own.
    pub const fn with(codecs: Codecs) -> Self {
        Self { codecs }
    }

    /// Encodes a message; the payload's schema version is [`VERSION`].
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if it is too large,
    /// [`Unsupported`](ErrorKind::Unsupported) for a codec that is none of the two.
    pub fn encode(&self, codec: CodecTag, message: &Message) -> Result<Payload> {
        self.codecs.encode(codec, VERSION, &Envelope::from(message))
    }

    /// Decodes a message.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if it is none, is too large or too deep, or names an unknown
    /// priority or codec; [`Unsupported`](ErrorKind::Unsupported) for a newer version or another
    /// codec.
    pub fn decode(&self, payload: &Payload) -> Result<Message> {
        let envelope: Envelope = self.codecs.decode(payload)?;
        envelope.try_into()
    }

    /// Encodes a dead letter.
    ///
    /// # Errors
    ///
    /// As for [`Wire::encode`].
    pub fn encode_letter(&self, codec: CodecTag, letter: &DeadLetter) -> Result<Payload> {
        self.codecs.encode(codec, VERSION, &Letter::from(letter))
    }

    /// Decodes a dead letter.
    ///
    /// # Errors
    ///
    /// As for [`Wire::decode`].
    pub fn decode_letter(&self, payload: &Payload) -> Result<DeadLetter> {
        let letter: Letter = self.codecs.decode(payload)?;
        letter.try_into()
    }
}

/// Returns the number that stands for a priority outside the process.
pub(crate) const fn number_of(priority: Priority) -> u8 {
    match priority {
        Priority::Low => 1,
        Priority::Normal => 5,
        Priority::High => 10,
        Priority::Critical => 20,
    }
}

pub(crate) fn priority_of(number: u8) -> Result<Priority> {
    match number {
        1 => Ok(Priority::Low),
        5 => Ok(Priority::Normal),
        10 => Ok(Priority::High),
        20 => Ok(Priority::Critical),
        unknown => Err(corrupt(format!("priority {unknown}"))),
    }
}

pub(crate) fn cause_of(name: &str) -> Result<Cause> {
    let cause = Cause::ALL.into_iter().find(|cause| cause.name() == name);
    cause.ok_or_else(|| corrupt(format!("cause {name:?}")))
}

fn corrupt(detail: String) -> Error {
    Error::new(ErrorKind::Corrupt, DECODE).detail(detail)
}

/// A message as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    v: u32,
    id: MessageId,
    priority: u8,
    codec: u8,
    schema: u32,
    body: Body,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    delay: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dedup: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation: Option<CorrelationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

/// A body: text where the format is for people and it is text, else bytes or base64.
#[derive(Debug)]
struct Body(Bytes);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Readable {
    Text(String),
    Base64(String),
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        let readable = match std::str::from_utf8(&self.0) {
            Ok(text) => Readable::Text(text.to_owned()),
            Err(_) => Readable::Base64(STANDARD.encode(&self.0)),
        };
        readable.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return deserializer.deserialize_byte_buf(Raw).map(Self);
        }
        match Readable::deserialize(deserializer)? {
            Readable::Text(text) => Ok(Self(text.into())),
            Readable::Base64(text) => {
                STANDARD.decode(text).map(|bytes| Self(bytes.into())).map_err(de::Error::custom)
            }
        }
    }
}

/// Takes bytes as they are.
struct Raw;

impl de::Visitor<'_> for Raw {
    type Value = Bytes;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("bytes")
    }

    fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes::copy_from_slice(v))
    }

    fn visit_byte_buf<E: de::Error>(self, v: Vec<u8>) -> Result<Bytes, E> {
        Ok(v.into())
    }
}

impl From<&Message> for Envelope {
    fn from(message: &Message) -> Self {
        Self {
            v: VERSION,
            id: message.id,
            priority: number_of(message.priority),
            codec: message.payload.codec.as_byte(),
            schema: message.payload.schema,
            body: Body(message.payload.body.clone()),
            key: message.key.clone(),
            delay: message.delay,
            ttl: message.ttl,
            dedup: message.dedup.clone(),
            headers: message.headers.clone(),
            correlation: message.correlation,
            trace: message.trace.as_ref().map(ToString::to_string),
        }
    }
}

impl TryFrom<Envelope> for Message {
    type Error = Error;

    fn try_from(envelope: Envelope) -> Result<Self> {
        if envelope.v == 0 || VERSION < envelope.v {
            let detail = format!("version {}, at most {VERSION}", envelope.v);
            return Err(Error::new(ErrorKind::Unsupported, DECODE).detail(detail));
        }
        let trace = envelope.trace.map(|trace| trace.parse()).transpose();
        let codec = CodecTag::from_byte(envelope.codec)?;
        Ok(Self {
            id: envelope.id,
            payload: Payload { codec, schema: envelope.schema, body: envelope.body.0 },
            priority: priority_of(envelope.priority)?,
            key: envelope.key,
            delay: envelope.delay,
            ttl: envelope.ttl,
            dedup: envelope.dedup,
            headers: envelope.headers,
            correlation: envelope.correlation,
            trace: trace.map_err(|cause| corrupt("trace".to_owned()).because(cause))?,
        })
    }
}

/// Counts and failures of a message as they are written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    deliveries: u32,
    failures: u32,
    crashes: u32,
    releases: u32,
    replays: u32,
    history: Vec<(Timestamp, String)>,
}

impl Record {
    pub(crate) fn new(attempts: Attempts, history: &[Failure]) -> Self {
        let Attempts { deliveries, failures, crashes, releases, replays } = attempts;
        let history = history.iter().map(|past| (past.at, past.reason.clone())).collect();
        Self { deliveries, failures, crashes, releases, replays, history }
    }

    pub(crate) fn read(self) -> (Attempts, Vec<Failure>) {
        let Self { deliveries, failures, crashes, releases, replays, history } = self;
        let history = history.into_iter().map(|(at, reason)| Failure { at, reason });
        (Attempts { deliveries, failures, crashes, releases, replays }, history.collect())
    }
}

/// A dead letter as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Letter {
    message: Envelope,
    record: Record,
    cause: String,
    reason: String,
    died: Timestamp,
}

impl From<&DeadLetter> for Letter {
    fn from(letter: &DeadLetter) -> Self {
        Self {
            message: (&letter.message).into(),
            record: Record::new(letter.attempts, &letter.history),
            cause: letter.cause.name().to_owned(),
            reason: letter.reason.clone(),
            died: letter.died,
        }
    }
}

impl TryFrom<Letter> for DeadLetter {
    type Error = Error;

    fn try_from(letter: Letter) -> Result<Self> {
        let (attempts, history) = letter.record.read();
        let cause = cause_of(&letter.cause)?;
        let message = letter.message.try_into()?;
        Ok(Self { message, attempts, cause, reason: letter.reason, history, died: letter.died })
    }
}
