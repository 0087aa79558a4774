//! Rows of messages.

use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::{CodecTag, Payload},
    queue::{Attempts, Cause, DeadLetter, Failure, Message},
};
use sqlx::{Row as _, postgres::PgRow};

use crate::{
    codec::Codecs,
    queue::{remember, shortened},
    wire::{VERSION, Wire},
};

/// Envelopes in rows may be as large as documents.
const WIRE: Wire = Wire::with(Codecs::new().max_bytes(infra_core::store::MAX_BODY));

/// A message that was put into somebody's hands.
pub(super) struct Taken {
    pub(super) number: i64,
    pub(super) lease: i64,
    pub(super) message: Message,
    pub(super) attempts: Attempts,
    pub(super) published: Timestamp,
}

/// A message with what the queue knows of it.
pub(super) struct Row {
    pub(super) number: i64,
    pub(super) message: Message,
    pub(super) attempts: Attempts,
    pub(super) history: Vec<Failure>,
    pub(super) published: Timestamp,
    pub(super) expires: Option<Timestamp>,
}

/// The columns that [`Row::read`] takes.
pub(super) const COLUMNS: &str = "number, envelope, deliveries, failures, crashes, releases, \
     replays, history, published, expires";

pub(super) fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

pub(super) fn seal(message: &Message) -> Result<Vec<u8>> {
    Ok(WIRE.encode(CodecTag::MessagePack, message)?.body.to_vec())
}

fn payload(body: Vec<u8>) -> Payload {
    Payload { codec: CodecTag::MessagePack, schema: VERSION, body: body.into() }
}

pub(super) fn open(body: Vec<u8>) -> Result<Message> {
    WIRE.decode(&payload(body))
}

pub(super) fn seal_letter(letter: &DeadLetter) -> Result<Vec<u8>> {
    Ok(WIRE.encode_letter(CodecTag::MessagePack, letter)?.body.to_vec())
}

pub(super) fn open_letter(body: Vec<u8>) -> Result<DeadLetter> {
    WIRE.decode_letter(&payload(body))
}

pub(super) fn history_text(history: &[Failure]) -> Result<String> {
    let pairs: Vec<_> = history.iter().map(|past| (past.at, past.reason.as_str())).collect();
    serde_json::to_string(&pairs)
        .map_err(|cause| Error::new(ErrorKind::Invalid, "write history").because(cause))
}

pub(super) fn read_history(text: &str) -> Result<Vec<Failure>> {
    let pairs: Vec<(Timestamp, String)> = serde_json::from_str(text)
        .map_err(|cause| Error::new(ErrorKind::Corrupt, "read history").because(cause))?;
    Ok(pairs.into_iter().map(|(at, reason)| Failure { at, reason }).collect())
}

impl Row {
    pub(super) fn read(row: &PgRow) -> Result<Self> {
        let count = |column: &str| -> Result<u32> {
            let number: i32 = column_of(row, column)?;
            Ok(u32::try_from(number).unwrap_or(0))
        };
        let history: String = column_of(row, "history")?;
        let expires: Option<i64> = column_of(row, "expires")?;
        Ok(Self {
            number: column_of(row, "number")?,
            message: open(column_of(row, "envelope")?)?,
            attempts: Attempts {
                deliveries: count("deliveries")?,
                failures: count("failures")?,
                crashes: count("crashes")?,
                releases: count("releases")?,
                replays: count("replays")?,
            },
            history: read_history(&history)?,
            published: time(column_of(row, "published")?),
            expires: expires.map(time),
        })
    }

    pub(super) fn note(&mut self, at: Timestamp, reason: &str) {
        remember(&mut self.history, Failure { at, reason: shortened(reason) });
    }

    pub(super) fn die(self, cause: Cause, reason: &str, died: Timestamp) -> DeadLetter {
        let Self { message, attempts, history, .. } = self;
        DeadLetter { message, attempts, cause, reason: shortened(reason), history, died }
    }
}

pub(super) fn column_of<'r, T>(row: &'r PgRow, column: &str) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column)
        .map_err(|cause| Error::new(ErrorKind::Corrupt, "read row of queue").because(cause))
}
