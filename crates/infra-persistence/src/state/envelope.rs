//! The bytes of a snapshot: what they are of, compressed, with a digest of the state.
//!
//! ```text
//! "SNP2" | codec u8 | schema u32 | name length u8 | name | state length u32 | digest 32 bytes
//!        | anchor 16 bytes | zstd
//! ```
//!
//! The anchor is the id of the last event that is folded in, zero where there are no events: a snapshot counts
//! only for the history that it was taken of. Numbers are little-endian. The digest is SHA-256 over the state's canonical JSON, in which the keys of
//! every object are sorted, so it can be compared with the digest of a replay whatever the codec was.

use std::io::Read as _;

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    codec::{Bincode, CodecTag, Payload},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    migration::{Migrations, refuse_newer},
    options::SnapshotCodec,
    persistent::Persistent,
};

const MAGIC: [u8; 4] = *b"SNP2";

/// The largest state, uncompressed.
const MAX_STATE: u32 = 16 * 1024 * 1024;

const READ: &str = "read snapshot of machine";

/// The digest of a state.
pub(super) type StateDigest = [u8; 32];

/// The id of the last event that is folded into a snapshot; all zero if there are no events.
pub(super) type Anchor = [u8; 16];

/// A snapshot's content, checked.
#[derive(Debug)]
pub(super) struct Opened<M> {
    pub(super) machine: M,
    pub(super) digest: StateDigest,
    pub(super) anchor: Anchor,
    /// The state was written by an older schema, so its digest is of that one.
    pub(super) is_migrated: bool,
}

/// Returns the digest of a machine's state.
pub(super) fn digest<M: Persistent>(machine: &M) -> Result<StateDigest> {
    let value = serde_json::to_value(machine)
        .map_err(|cause| Error::new(ErrorKind::Invalid, "digest state").because(cause))?;
    let mut hasher = Sha256::new();
    hasher.update(canonical(value).to_string());
    Ok(hasher.finalize().into())
}

/// Sorts the keys of all objects; the map's own order depends on a feature that others may switch on.
fn canonical(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        Value::Object(fields) => {
            let mut fields: Vec<_> =
                fields.into_iter().map(|(key, value)| (key, canonical(value))).collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(fields.into_iter().collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// Writes a machine's state.
pub(super) fn seal<M: Persistent>(
    machine: &M,
    codec: SnapshotCodec,
    anchor: Anchor,
) -> Result<Payload> {
    let inner = match codec {
        SnapshotCodec::Json => Payload::json(M::SCHEMA_VERSION, machine)?,
        SnapshotCodec::Bincode => Payload::encode::<Bincode, M>(M::SCHEMA_VERSION, machine)?,
    };
    let refuse =
        |what: String| Error::new(ErrorKind::Invalid, "write snapshot of machine").detail(what);
    let length = u32::try_from(inner.body.len()).ok().filter(|length| *length <= MAX_STATE);
    let length = length.ok_or_else(|| {
        refuse(format!("the state has {} bytes, at most {MAX_STATE}", inner.body.len()))
    })?;
    let name = u8::try_from(M::NAME.len())
        .map_err(|_| refuse("the machine's name has more than 255 bytes".to_owned()))?;
    let compressed = zstd::bulk::compress(&inner.body, 3)
        .map_err(|cause| Error::new(ErrorKind::Internal, "compress snapshot").because(cause))?;
    let mut bytes = Vec::with_capacity(compressed.len() + M::NAME.len() + 62);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(inner.codec.as_byte());
    bytes.extend_from_slice(&inner.schema.to_le_bytes());
    bytes.push(name);
    bytes.extend_from_slice(M::NAME.as_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&digest(machine)?);
    bytes.extend_from_slice(&anchor);
    bytes.extend_from_slice(&compressed);
    Ok(Payload { codec: CodecTag::Raw, schema: M::SCHEMA_VERSION, body: Bytes::from(bytes) })
}

/// Why a snapshot is of no use.
#[derive(Debug)]
pub(super) enum Unusable {
    /// A newer version of the program wrote it: older data must not be taken in its place.
    Newer(Error),
    /// It cannot be read, or it is not what it should be: an older one may do.
    Damaged(Error),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Self::Damaged(error)
    }
}

impl From<Unusable> for Error {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Newer(error) | Unusable::Damaged(error) => error,
        }
    }
}

/// Reads a machine's state, migrates it if it is of an older schema, and holds it to its digest.
///
/// # Errors
///
/// `Corrupt` if the bytes are not what was written, `Unsupported` if a newer version wrote them or no
/// migration leads here, `Invalid` if they are of another machine.
pub(super) fn open<M: Persistent>(
    payload: &Payload,
    migrations: &Migrations,
) -> Result<Opened<M>, Unusable> {
    let parts =
        split(&payload.body).ok_or_else(|| corrupt("it is cut short or of another format"))?;
    if parts.name != M::NAME.as_bytes() {
        let found = String::from_utf8_lossy(parts.name).into_owned();
        let what = format!("it is of a `{found}`, not of a `{}`", M::NAME);
        return Err(Error::invalid(READ, what).into());
    }
    refuse_newer::<M>(parts.schema, READ).map_err(Unusable::Newer)?;
    let body = decompress(parts.compressed, parts.length)?;
    let inner = Payload { codec: CodecTag::from_byte(parts.codec)?, schema: parts.schema, body };
    let is_migrated = parts.schema < M::SCHEMA_VERSION;
    let machine: M = if is_migrated { migrations.read_state(&inner)? } else { inner.decode()? };
    if !is_migrated && digest(&machine)? != parts.digest {
        return Err(corrupt("its digest is not that of its state").into());
    }
    Ok(Opened { machine, digest: parts.digest, anchor: parts.anchor, is_migrated })
}

struct Parts<'a> {
    codec: u8,
    schema: u32,
    name: &'a [u8],
    length: u32,
    digest: StateDigest,
    anchor: Anchor,
    compressed: &'a [u8],
}

fn split(bytes: &[u8]) -> Option<Parts<'_>> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (codec, rest) = rest.split_first()?;
    let (schema, rest) = rest.split_first_chunk::<4>()?;
    let (name_length, rest) = rest.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*name_length))?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (digest, rest) = rest.split_first_chunk::<32>()?;
    let (anchor, compressed) = rest.split_first_chunk::<16>()?;
    let length = u32::from_le_bytes(*length);
    let schema = u32::from_le_bytes(*schema);
    let is_sound = *magic == MAGIC && length <= MAX_STATE;
    let (codec, digest, anchor) = (*codec, *digest, *anchor);
    is_sound.then_some(Parts { codec, schema, name, length, digest, anchor, compressed })
}

/// Never makes more than the length that is promised, which is bounded.
fn decompress(compressed: &[u8], length: u32) -> Result<Bytes> {
    let damaged = |cause| corrupt("it cannot be decompressed").because(cause);
    let decoder = zstd::stream::read::Decoder::new(compressed).map_err(damaged)?;
    let mut body = Vec::new();
    decoder.take(u64::from(length) + 1).read_to_end(&mut body).map_err(damaged)?;
    if body.len() as u64 != u64::from(length) {
        return Err(corrupt("its length is not the one it names"));
    }
    Ok(Bytes::from(body))
}

fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, READ).detail(what)
}
