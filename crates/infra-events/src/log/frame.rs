//! A frame: one atomic commit as checksummed bytes.
//!
//! ```text
//! magic u32 | body length u32 | crc32c(body) u32 | crc32c of the 12 bytes before u32 | body
//! ```
//!
//! All integers are little-endian. A length of zero with a magic of zero is the end of the log.

use infra_core::{
    Error, Result,
    clock::Timestamp,
    codec::{CodecTag, Payload},
    event::{Metadata, NewEvent, RecordedEvent},
    id::{CorrelationId, EventId, EventType, Scope, StreamName},
    lease::Fence,
    trace::TraceContext,
    version::{FencingToken, Position, Version},
};

use bytes::Bytes;

use super::encoding::{In, Out, corrupt};

/// What every frame begins with ("FRM1").
const MAGIC: u32 = 0x314d_5246;

/// The length of a frame's header.
pub(crate) const HEADER: usize = 16;

/// The kinds of bodies; an append whose context carried more than a trace has them behind it.
const APPEND: u8 = 1;
const TRUNCATE: u8 = 2;
const TOMBSTONE: u8 = 3;
const APPEND_WITH_HEADERS: u8 = 4;

/// The longest body: above the largest append that is taken.
pub(crate) const MAX_BODY: usize = 1 << 30;

/// What one commit does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Commit {
    /// Appends events; they carry their positions and versions.
    Append { events: Vec<RecordedEvent>, fence: Option<Fence> },
    /// Hides the events of a stream below a version.
    Truncate { stream: StreamName, before: Version },
    /// Ends a stream.
    Tombstone { stream: StreamName },
}

/// A frame's header as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// Nothing was written here.
    End,
    /// A body of this length and checksum follows.
    Frame { length: usize, checksum: u32 },
    /// No header at all.
    Bad,
}

/// Reads a header; fewer than its bytes, all zero, are the end.
pub(crate) fn header(bytes: &[u8]) -> Header {
    if bytes.iter().take(HEADER).all(|byte| *byte == 0) {
        return Header::End;
    }
    let Some((head, own)) = bytes.get(..HEADER).and_then(|head| head.split_last_chunk::<4>())
    else {
        return Header::Bad;
    };
    let word = |at: usize| {
        let bytes = head.get(at..at + 4).and_then(|word| word.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    };
    let length = usize::try_from(word(4)).unwrap_or(usize::MAX);
    let is_sound = crc32c::crc32c(head) == u32::from_le_bytes(*own);
    if word(0) == MAGIC && is_sound && length <= MAX_BODY {
        Header::Frame { length, checksum: word(8) }
    } else {
        Header::Bad
    }
}

/// Encodes a commit as a whole frame behind other bytes, and returns the body's checksum.
pub(crate) fn encode(commit: &Commit, bytes: &mut Vec<u8>) -> u32 {
    let begin = bytes.len();
    bytes.resize(begin + HEADER, 0);
    let mut out = Out::behind(std::mem::take(bytes));
    match commit {
        Commit::Append { events, fence } => out.append(events, fence.as_ref()),
        Commit::Truncate { stream, before } => {
            out.u8(TRUNCATE);
            out.text(stream.as_str());
            out.u64(before.get());
        }
        Commit::Tombstone { stream } => {
            out.u8(TOMBSTONE);
            out.text(stream.as_str());
        }
    }
    *bytes = out.into_bytes();
    let body = bytes.get(begin + HEADER..).unwrap_or_default();
    let (checksum, length) = (crc32c::crc32c(body), u32::try_from(body.len()).unwrap_or(u32::MAX));
    let head = bytes.get_mut(begin..).and_then(|frame| frame.first_chunk_mut::<HEADER>());
    if let Some(head) = head {
        *head = header_of(length, checksum);
    }
    checksum
}

/// Writes the header of a body of this length and checksum.
fn header_of(length: u32, checksum: u32) -> [u8; HEADER] {
    let mut head = [0; HEADER];
    let (words, own) = head.split_at_mut(HEADER - 4);
    for (bytes, word) in words.chunks_exact_mut(4).zip([MAGIC, length, checksum]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    own.copy_from_slice(&crc32c::crc32c(words).to_le_bytes());
    head
}

/// Decodes a body whose checksum was found right.
pub(crate) fn decode(body: &Bytes) -> Result<Commit> {
    let mut input = In::new(body);
    let commit = match input.u8()? {
        kind @ (APPEND | APPEND_WITH_HEADERS) => input.append(kind == APPEND_WITH_HEADERS)?,
        TRUNCATE => Commit::Truncate { stream: input.name()?, before: Version::new(input.u64()?) },
        TOMBSTONE => Commit::Tombstone { stream: input.name()? },
        unknown => return Err(corrupt(format!("unknown commit kind {unknown}"))),
    };
    input.end()?;
    Ok(commit)
}

impl Out {
    fn append(&mut self, events: &[RecordedEvent], fence: Option<&Fence>) {
        let first = events.first();
        let headers = first.map(|event| &event.headers).filter(|headers| !headers.is_empty());
        self.u8(headers.map_or(APPEND, |_| APPEND_WITH_HEADERS));
        self.u8(u8::from(fence.is_some()));
        if let Some(fence) = fence {
            self.text(fence.scope.as_str());
            self.u64(fence.token.get());
        }
        self.u64(first.map_or(Timestamp::EPOCH, |event| event.recorded).as_millis());
        self.uuid(first.and_then(|event| event.correlation).map(CorrelationId::as_uuid));
        self.text(&first.and_then(|e| e.trace).map(|trace| trace.to_string()).unwrap_or_default());
        if let Some(headers) = headers {
            self.pairs(headers);
        }
        self.count(events.len());
        let mut stream = None;
        for recorded in events {
            // The events of one stream stand together: its name is written once.
            let is_next = stream != Some(&recorded.stream);
            self.u8(u8::from(is_next));
            if is_next {
                self.text(recorded.stream.as_str());
                self.u64(recorded.version.get());
                self.u64(recorded.position.get());
                stream = Some(&recorded.stream);
            }
            self.event(&recorded.event);
        }
    }

    fn event(&mut self, event: &NewEvent) {
        self.uuid(Some(event.id.as_uuid()));
        self.text(event.event_type.as_str());
        self.uuid(event.causation.map(EventId::as_uuid));
        self.u8(event.payload.codec.as_byte());
        self.u32(event.payload.schema);
        self.bytes(&event.payload.body);
        self.pairs(&event.metadata);
    }

    fn pairs(&mut self, pairs: &Metadata) {
        self.count(pairs.len());
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
    }
}

impl In<'_> {
    fn append(&mut self, has_headers: bool) -> Result<Commit> {
        let fence = if self.u8()? == 1 {
            let scope = Scope::new(self.text()?)
                .map_err(|cause| corrupt("fence scope".to_owned()).because(cause))?;
            Some(Fence { scope, token: FencingToken::new(self.u64()?) })
        } else {
            None
        };
        let recorded = Timestamp::from_millis(self.u64()?);
        let correlation = self.uuid()?.map(CorrelationId::from_uuid);
        let trace = self.trace()?;
        let headers = if has_headers { self.pairs()? } else { Metadata::new() };
        let count = self.u32()?;
        let mut events: Vec<RecordedEvent> = Vec::new();
        for _ in 0..count {
            let (stream, version, position) = match (self.u8()?, events.last()) {
                (0, Some(last)) => (last.stream.clone(), last.version.next(), last.position.next()),
                (1, _) => (self.name()?, Version::new(self.u64()?), Position::new(self.u64()?)),
                _ => return Err(corrupt("the first event names no stream".to_owned())),
            };
            let event = self.event()?;
            events.push(RecordedEvent {
                position,
                stream,
                version,
                event,
                recorded,
                correlation,
                trace,
                headers: headers.clone(),
            });
        }
        Ok(Commit::Append { events, fence })
    }

    fn trace(&mut self) -> Result<Option<TraceContext>> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|cause: Error| corrupt("trace".to_owned()).because(cause))
    }

    fn event(&mut self) -> Result<NewEvent> {
        let id = EventId::from_uuid(self.uuid()?.unwrap_or_default());
        let event_type = EventType::new(self.text()?)
            .map_err(|cause| corrupt("event type".to_owned()).because(cause))?;
        let causation = self.uuid()?.map(EventId::from_uuid);
        let codec = CodecTag::from_byte(self.u8()?)?;
        let schema = self.u32()?;
        let payload = Payload { codec, schema, body: self.bytes()? };
        let metadata = self.pairs()?;
        Ok(NewEvent { causation, metadata, ..NewEvent::new(id, event_type, payload) })
    }

    fn pairs(&mut self) -> Result<Metadata> {
        let mut pairs = Metadata::new();
        for _ in 0..self.u32()? {
            let name = self.text()?;
            pairs.insert(name, self.text()?);
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use infra_core::ErrorKind;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn body(commit: &Commit) -> Bytes {
        let mut bytes = Vec::new();
        encode(commit, &mut bytes);
        Bytes::from(bytes).slice(HEADER..)
    }

    fn event() -> impl Strategy<Value = NewEvent> {
        let metadata = proptest::collection::btree_map("[a-z]{1,4}", ".{0,8}", 0..3);
        let bytes = proptest::collection::vec(any::<u8>(), 0..40);
        (1..u128::MAX, 0..u128::MAX, bytes, metadata).prop_map(|(id, cause, body, metadata)| {
            let id = EventId::from_uuid(Uuid::from_u128(id));
            let event_type = EventType::new("played").unwrap();
            let causation = Some(Uuid::from_u128(cause)).filter(|cause| !cause.is_nil());
            NewEvent {
                metadata,
                causation: causation.map(EventId::from_uuid),
                ..NewEvent::new(id, event_type, Payload::raw(body))
            }
        })
    }

    fn recorded(events: Vec<NewEvent>, traced: bool, headers: &Metadata) -> Vec<RecordedEvent> {
        let random = infra_core::random::Random::seeded(3);
        let correlation = CorrelationId::generate(Timestamp::EPOCH, &random);
        let trace = TraceContext::root(&random, true);
        let numbered = (1_u64..).zip(events);
        numbered
            .map(|(number, event)| RecordedEvent {
                position: Position::new(number + 10),
                stream: StreamName::new(if number < 3 { "room-1" } else { "room-2" }).unwrap(),
                version: Version::new(if number < 3 { number } else { number - 2 }),
                event,
                recorded: Timestamp::from_millis(77),
                correlation: traced.then_some(correlation),
                trace: traced.then_some(trace),
                headers: headers.clone(),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_commit_survives_its_bytes(
            events in proptest::collection::vec(event(), 1..6),
            traced: bool,
            headers in proptest::collection::btree_map("[a-z]{1,4}", ".{0,8}", 0..3),
            token in proptest::option::of(any::<u64>()),
        ) {
            let fence = token.map(|token| Fence {
                scope: Scope::new("room-1").unwrap(),
                token: FencingToken::new(token),
            });
            let commit = Commit::Append { events: recorded(events, traced, &headers), fence };
            prop_assert_eq!(decode(&body(&commit)).unwrap(), commit);
        }

        #[test]
        fn random_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _header = header(&bytes);
            let _commit = decode(&Bytes::from(bytes));
        }

        #[test]
        fn a_changed_body_is_refused_or_decoded_without_a_panic(
            events in proptest::collection::vec(event(), 1..3),
            headers in proptest::collection::btree_map("[a-z]{1,4}", ".{0,8}", 0..3),
            at: prop::sample::Index,
            value: u8,
        ) {
            let events = recorded(events, true, &headers);
            let commit = Commit::Append { events, fence: None };
            let mut bytes = body(&commit).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _commit = decode(&Bytes::from(bytes));
        }
    }

    #[test]
    fn the_other_commits_survive_their_bytes_and_rests_are_refused() {
        let stream = StreamName::new("room-1").unwrap();
        for commit in [
            Commit::Truncate { stream: stream.clone(), before: Version::new(4) },
            Commit::Tombstone { stream },
        ] {
            assert_eq!(decode(&body(&commit)).unwrap(), commit);
            let mut longer = body(&commit).to_vec();
            longer.push(0);
            assert_eq!(decode(&Bytes::from(longer)).unwrap_err().kind(), &ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_flipped_bit_in_a_header_is_noticed() {
        let commit = Commit::Tombstone { stream: StreamName::new("room-1").unwrap() };
        let mut frame = Vec::new();
        let checksum = encode(&commit, &mut frame);
        let length = frame.len() - HEADER;
        assert_eq!(header(&frame), Header::Frame { length, checksum });
        assert_eq!(header(&[0; HEADER]), Header::End);
        assert_eq!(header(&[]), Header::End);
        assert_eq!(header(&frame[..HEADER - 1]), Header::Bad);
        for bit in 0..HEADER * 8 {
            let mut changed = frame.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(header(&changed), Header::Bad, "bit {bit}");
        }
    }
}
