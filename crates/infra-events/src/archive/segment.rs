//! An archived segment: some events of one stream as one object.
//!
//! ```text
//! "INFRAEVA" | format u32 | events u32 | crc32c of the rest u32 | zstd(frame | frame | ...)
//! ```
//!
//! The frames are those of the log, each with its own checksum over the bytes before compression.

use std::io::Read as _;

use bytes::Bytes;
use infra_core::{Error, ErrorKind, Result, event::RecordedEvent};

use crate::log::frame::{self, Commit, Header};

const MAGIC: &[u8; 8] = b"INFRAEVA";
const FORMAT: u32 = 1;
const HEADER: usize = 20;

/// The most bytes that a segment may become when it is read: above what one is cut to.
const MAX_PLAIN: u64 = 1 << 28;

/// Encodes events of one stream, which are in order.
pub(super) fn encode(events: &[RecordedEvent]) -> Result<Bytes> {
    let mut plain = Vec::new();
    // Events of one commit share time and context, which a frame has once.
    let is_same = |a: &RecordedEvent, b: &RecordedEvent| {
        let of = |event: &RecordedEvent| (event.recorded, event.correlation, event.trace);
        of(a) == of(b) && a.headers == b.headers && a.position.next() == b.position
    };
    for group in events.chunk_by(is_same) {
        let commit = Commit::Append { events: group.to_vec(), fence: None };
        frame::encode(&commit, &mut plain);
    }
    let packed = zstd::bulk::compress(&plain, zstd::DEFAULT_COMPRESSION_LEVEL)
        .map_err(|cause| Error::new(ErrorKind::Internal, "compress segment").because(cause))?;
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    let mut object = Vec::with_capacity(HEADER + packed.len());
    object.extend_from_slice(MAGIC);
    for word in [FORMAT, count, crc32c::crc32c(&packed)] {
        object.extend_from_slice(&word.to_le_bytes());
    }
    object.extend_from_slice(&packed);
    Ok(object.into())
}

/// Decodes a segment; what is wrong with it is told with its name.
pub(super) fn decode(name: &str, object: &[u8]) -> Result<Vec<RecordedEvent>> {
    let corrupt = |why: String| {
        Error::new(ErrorKind::Corrupt, "read archived segment").detail(format!("{name}: {why}"))
    };
    let word = |at: usize| {
        let bytes = object.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes)
    };
    if !object.starts_with(MAGIC) {
        return Err(corrupt("it is no segment".to_owned()));
    }
    let (format, count, checksum) = (word(8), word(12), word(16));
    if format != Some(FORMAT) {
        let detail = format!("{name} has format {format:?}; this version reads {FORMAT}");
        return Err(Error::new(ErrorKind::Unsupported, "read archived segment").detail(detail));
    }
    let packed = object.get(HEADER..).unwrap_or_default();
    if checksum != Some(crc32c::crc32c(packed)) {
        return Err(corrupt("it fails its checksum".to_owned()));
    }
    let plain = unpack(packed).map_err(|cause| corrupt(cause.to_string()))?;
    let events = frames(&plain).map_err(corrupt)?;
    if count.is_none_or(|count| events.len() as u64 != u64::from(count)) {
        return Err(corrupt(format!("{} events, {count:?} were written", events.len())));
    }
    Ok(events)
}

fn unpack(packed: &[u8]) -> std::io::Result<Bytes> {
    let mut plain = Vec::new();
    zstd::Decoder::new(packed)?.take(MAX_PLAIN).read_to_end(&mut plain)?;
    Ok(plain.into())
}

fn frames(plain: &Bytes) -> Result<Vec<RecordedEvent>, String> {
    let (mut at, mut events) = (0, Vec::new());
    while at < plain.len() {
        let head = plain.get(at..).unwrap_or_default();
        let Header::Frame { length, checksum } = frame::header(head) else {
            return Err(format!("no frame at byte {at}"));
        };
        let from = at + frame::HEADER;
        let body = plain.get(from..from + length).map(|_| plain.slice(from..from + length));
        let body = body.filter(|body| crc32c::crc32c(body) == checksum);
        let body = body.ok_or_else(|| format!("the frame at byte {at} fails its checksum"))?;
        match frame::decode(&body) {
            Ok(Commit::Append { events: found, fence: _ }) => events.extend(found),
            Ok(Commit::Truncate { .. } | Commit::Tombstone { .. }) => {
                return Err(format!("another commit at byte {at}"));
            }
            Err(error) => return Err(error.to_string()),
        }
        at = from + length;
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use infra_core::{
        clock::Timestamp,
        codec::Payload,
        event::{Metadata, NewEvent},
        id::{EventId, EventType, StreamName},
        random::Random,
        version::{Position, Version},
    };
    use proptest::prelude::*;

    use super::*;

    fn events(count: u64) -> Vec<RecordedEvent> {
        let random = Random::seeded(5);
        let make = |number: u64| RecordedEvent {
            position: Position::new(number * 3),
            stream: StreamName::new("room-1").unwrap(),
            version: Version::new(number),
            event: NewEvent::new(
                EventId::generate(Timestamp::EPOCH, &random),
                EventType::new("played").unwrap(),
                Payload::json(1, &number).unwrap(),
            ),
            recorded: Timestamp::from_millis(number / 4),
            correlation: None,
            trace: None,
            headers: Metadata::from([("baggage".to_owned(), format!("hour={}", number / 8))]),
        };
        (1..=count).map(make).collect()
    }

    #[test]
    fn events_survive_their_object_and_any_flipped_bit_is_refused_by_name() {
        let events = events(20);
        let object = encode(&events).unwrap();
        assert_eq!(decode("a/b", &object).unwrap(), events);
        for at in 0..object.len() {
            let mut flipped = object.to_vec();
            flipped[at] ^= 1 << (at % 8);
            let refused = decode("a/b", &flipped).unwrap_err();
            assert!(refused.to_string().contains("a/b"), "byte {at}: {refused}");
        }
        for cut in 0..object.len() {
            assert!(decode("a/b", &object[..cut]).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let mut whole = MAGIC.to_vec();
            whole.extend_from_slice(&FORMAT.to_le_bytes());
            whole.extend_from_slice(&bytes);
            prop_assert!(decode("x", &bytes).is_err());
            prop_assert!(decode("x", &whole).is_err());
        }
    }
}
