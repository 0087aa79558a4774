//! The bytes of a segment's index: its head, which is read at the opening, and pages of records,
//! which are read one by one.
//!
//! ```text
//! magic 8 bytes | format u32 | length of the head u64 | head | crc32c of everything before u32
//!   | pages of frames | of streams | of events | of hashes
//!
//! head:   first position u64 | frames before u64 | digest before u32 | frames after u64
//!   | digest after u32 | end u64 | last frame at u64 | its checksum u32 | frames with events u64
//!   | events u64 | hashes u64 | fences u32 (scope, token u64) ... | streams u32 (name,
//!   version before u64, events u64, first id 16 bytes, truncated before u64, is tombstoned u8) ...
//!   | words of the filter u32 (u64) ...
//! frame:  first position u64 | offset u64 | length of its body u32
//! stream: number of its first event u64 | events u64
//! event:  id 16 bytes | position u64 | its frame's first position u64, offset u64 and length u32
//! hash:   of a stream's number and an id u32 | number of the event u32, in the order of the hashes
//! ```
//!
//! The events of a stream stand together, in the order of their versions.

use std::io;

use bytes::Bytes;
use infra_core::{
    Error, Result,
    id::{EventId, Scope},
    lease::Fence,
    version::{FencingToken, Position, Version},
};

use super::{
    encoding::{In, Out, corrupt},
    filter::{Filter, mix},
    pages::{Pages, Source},
    unsealed::{Last, Unsealed},
    witness::Mark,
};
use crate::{index::Change, memtable::Run};

const MAGIC: &[u8; 8] = b"INFRAEVX";
const FORMAT: u32 = 2;

/// The bytes before the head.
const PREFIX: usize = 20;

/// The lengths of the records.
const FRAME: u64 = 20;
const STREAM: u64 = 16;
const EVENT: u64 = 44;
const HASH: u64 = 8;

/// What of an index stays in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) first: Position,
    pub(super) before: Mark,
    pub(super) after: Mark,
    pub(super) last: Last,
    /// Where the last frame ends.
    pub(super) end: u64,
    pub(super) filter: Filter,
    pub(super) frames: Pages,
    pub(super) streams: Pages,
    pub(super) events: Pages,
    pub(super) hashes: Pages,
}

/// What a segment did to all streams and fences.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Summary {
    pub(super) fences: Vec<Fence>,
    /// By the numbers of the streams.
    pub(super) changes: Vec<Change>,
}

/// A stream's event as one word, by which it is looked for. The segment is part of it, so that ids
/// that a client chooses to be alike are so in one segment at most.
pub(super) const fn key(segment: Position, stream: u32, id: EventId) -> u64 {
    let (high, low) = id.as_uuid().as_u64_pair();
    mix(mix(mix(segment.get() ^ ((stream as u64) << 32)) ^ high) ^ low)
}

pub(super) const fn hash_of(key: u64) -> u32 {
    (key & 0xffff_ffff) as u32
}

pub(super) fn u64_at(record: &[u8], at: usize) -> u64 {
    let bytes = record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    u64::from_le_bytes(bytes.unwrap_or_default())
}

pub(super) fn u32_at(record: &[u8], at: usize) -> u32 {
    let bytes = record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    u32::from_le_bytes(bytes.unwrap_or_default())
}

/// Writes a segment's index; `None` if it has more events than can be numbered.
pub(super) fn encode(segment: &Unsealed) -> Option<Vec<u8>> {
    let runs = segment.table.runs();
    let (mut streams, mut events) = (Out::default(), Out::default());
    let (mut n_events, mut keys, mut hashes) = (0_u64, Vec::new(), Vec::new());
    for (stream, run) in (0..).zip(runs) {
        streams.u64(n_events);
        streams.u64(run.positions.len() as u64);
        for (id, position) in run.ids().into_iter().zip(&run.positions) {
            if let Some(id) = id {
                let key = key(segment.first, stream, id);
                hashes.push((hash_of(key), u32::try_from(n_events).ok()?));
                keys.push(key);
            }
            n_events += 1;
            let frame = segment.frames(*position, 1).first()?;
            events.uuid(id.map(EventId::as_uuid));
            events.u64(position.get());
            events.u64(frame.first.get());
            events.u64(frame.offset);
            events.u32(frame.length);
        }
    }
    hashes.sort_unstable();
    let mut bytes = head(segment, (n_events, &keys), runs);
    let mut frames = Out::default();
    for frame in &segment.frames {
        frames.u64(frame.first.get());
        frames.u64(frame.offset);
        frames.u32(frame.length);
    }
    Pages::write(FRAME, &frames.into_bytes(), &mut bytes);
    Pages::write(STREAM, &streams.into_bytes(), &mut bytes);
    Pages::write(EVENT, &events.into_bytes(), &mut bytes);
    let mut sorted = Out::default();
    for (hash, number) in hashes {
        sorted.u32(hash);
        sorted.u32(number);
    }
    Pages::write(HASH, &sorted.into_bytes(), &mut bytes);
    Some(bytes)
}

/// Writes the head with its prefix and its checksum.
fn head(segment: &Unsealed, (n_events, keys): (u64, &[u64]), runs: &[Run]) -> Vec<u8> {
    let mut out = Out::default();
    out.u64(segment.first.get());
    for mark in [segment.before(), segment.after()] {
        out.u64(mark.frames);
        out.u32(mark.digest);
    }
    let (last, end) = segment.last();
    out.u64(end);
    out.u64(last.offset);
    out.u32(last.checksum);
    out.u64(segment.frames.len() as u64);
    out.u64(n_events);
    out.u64(keys.len() as u64);
    out.count(segment.fences.len());
    for (scope, token) in &segment.fences {
        out.text(scope.as_str());
        out.u64(token.get());
    }
    let changes = changes(segment, runs);
    out.count(changes.len());
    for change in changes {
        out.text(change.name.as_str());
        out.u64(change.base.get());
        out.u64(change.count);
        out.uuid(change.first.map(EventId::as_uuid));
        out.u64(change.truncated.get());
        out.u8(u8::from(change.is_tombstoned));
    }
    let filter = Filter::of(keys);
    let words = filter.to_words();
    out.count(words.len());
    words.for_each(|word| out.u64(word));
    let content = out.into_bytes();
    let mut whole = Out::default();
    whole.raw(MAGIC);
    whole.u32(FORMAT);
    whole.u64(content.len() as u64);
    whole.raw(&content);
    let mut bytes = whole.into_bytes();
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Returns what the segment did to its streams, by their numbers, and to others behind them.
fn changes(segment: &Unsealed, runs: &[Run]) -> Vec<Change> {
    let mut endings = segment.endings.clone();
    let mut changes: Vec<Change> = Vec::with_capacity(runs.len());
    for run in runs {
        let ending = endings.remove(&run.name).unwrap_or_default();
        changes.push(Change {
            name: run.name.clone(),
            base: run.base,
            count: run.positions.len() as u64,
            first: run.first,
            truncated: ending.truncated,
            is_tombstoned: ending.is_tombstoned,
        });
    }
    changes.extend(endings.into_iter().map(|(name, ending)| Change {
        name,
        base: Version::ZERO,
        count: 0,
        first: None,
        truncated: ending.truncated,
        is_tombstoned: ending.is_tombstoned,
    }));
    changes
}

fn unfit(why: &str) -> Error {
    corrupt(format!("segment index: {why}"))
}

/// Reads the head of an index of so many bytes.
pub(super) fn decode(source: &dyn Source, length: u64) -> Result<(Head, Summary)> {
    let failed = |cause: io::Error| unfit("unreadable").because(cause);
    let prefix = Bytes::from(source.read(0, PREFIX).map_err(failed)?);
    let mut input = In::new(&prefix);
    if input.raw(MAGIC.len())?.as_ref() != MAGIC || input.u32()? != FORMAT {
        return Err(unfit("another format"));
    }
    let begin = input.u64()?.checked_add(PREFIX as u64 + 4).filter(|begin| *begin <= length);
    let begin = begin.ok_or_else(|| unfit("too short"))?;
    let whole = usize::try_from(begin).unwrap_or(usize::MAX);
    let bytes = Bytes::from(source.read(0, whole).map_err(failed)?);
    let (content, own) = bytes.split_last_chunk::<4>().ok_or_else(|| unfit("too short"))?;
    if bytes.len() != whole || crc32c::crc32c(content) != u32::from_le_bytes(*own) {
        return Err(unfit("it fails its checksum"));
    }
    let body = bytes.slice(PREFIX..content.len());
    let mut input = In::new(&body);
    let found = head_of(&mut input, begin, length)?;
    input.end()?;
    Ok(found)
}

fn head_of(input: &mut In<'_>, begin: u64, length: u64) -> Result<(Head, Summary)> {
    let first = Position::new(input.u64()?);
    let before = Mark { frames: input.u64()?, digest: input.u32()? };
    let after = Mark { frames: input.u64()?, digest: input.u32()? };
    let end = input.u64()?;
    let last = Last { offset: input.u64()?, checksum: input.u32()? };
    let (n_frames, n_events, n_hashes) = (input.u64()?, input.u64()?, input.u64()?);
    let mut summary = Summary::default();
    for _ in 0..input.u32()? {
        let scope = Scope::new(input.text()?)?;
        summary.fences.push(Fence { scope, token: FencingToken::new(input.u64()?) });
    }
    let mut n_counted = 0_u64;
    let mut n_streams = 0;
    for _ in 0..input.u32()? {
        let change = change(input)?;
        n_counted = n_counted.saturating_add(change.count);
        n_streams += u64::from(0 < change.count);
        summary.changes.push(change);
    }
    let mut words = Vec::new();
    for _ in 0..input.u32()? {
        words.push(input.u64()?);
    }
    let filter = Filter::from_words(&words).ok_or_else(|| unfit("a broken filter"))?;
    let mut offset = begin;
    let mut section = |record, count| {
        let pages = Pages { offset, record, count };
        let end = pages.length().and_then(|length| offset.checked_add(length));
        offset = end.ok_or_else(|| unfit("too many records"))?;
        Ok::<Pages, Error>(pages)
    };
    let frames = section(FRAME, n_frames)?;
    let streams = section(STREAM, n_streams)?;
    let events = section(EVENT, n_events)?;
    let hashes = section(HASH, n_hashes)?;
    if offset != length || n_counted != n_events {
        return Err(unfit("another length"));
    }
    first.get().checked_add(n_events).ok_or_else(|| unfit("too many events"))?;
    let head = Head { first, before, after, last, end, filter, frames, streams, events, hashes };
    Ok((head, summary))
}

fn change(input: &mut In<'_>) -> Result<Change> {
    let (name, base, count) = (input.name()?, input.u64()?, input.u64()?);
    base.checked_add(count).ok_or_else(|| unfit("too many versions"))?;
    Ok(Change {
        name,
        base: Version::new(base),
        count,
        first: input.uuid()?.map(EventId::from_uuid),
        truncated: Version::new(input.u64()?),
        is_tombstoned: input.u8()? != 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::log::catalogue::{Catalogue, Effect, FrameAt};
    use infra_core::id::StreamName;

    fn name() -> impl Strategy<Value = StreamName> {
        "room-[1-3]".prop_map(|name| StreamName::new(name).unwrap())
    }

    fn effect() -> impl Strategy<Value = Effect> {
        let id = (1..u128::MAX).prop_map(|id| EventId::from_uuid(Uuid::from_u128(id)));
        let parts = proptest::collection::vec((name(), proptest::collection::vec(id, 0..4)), 0..3);
        let fence = proptest::option::of(any::<u64>().prop_map(|token| Fence {
            scope: Scope::new("room").unwrap(),
            token: FencingToken::new(token),
        }));
        prop_oneof![
            4 => (parts, fence).prop_map(|(parts, fence)| Effect::Append { parts, fence }),
            1 => (name(), 0..9_u64).prop_map(|(stream, before)| Effect::Truncate {
                stream,
                before: Version::new(before)
            }),
            1 => name().prop_map(|stream| Effect::Tombstone { stream }),
        ]
    }

    fn made(effects: &[Effect]) -> Vec<u8> {
        let mut catalogue = Catalogue::default();
        catalogue.begin(Mark { frames: 7, digest: 8 });
        for (offset, effect) in (100..).step_by(50).zip(effects) {
            let at = FrameAt { first: Position::ZERO, segment: 0, offset, length: 34 };
            catalogue.apply(at, 9, effect);
        }
        encode(catalogue.last().unwrap()).unwrap()
    }

    fn read(bytes: &Vec<u8>) -> Result<(Head, Summary)> {
        decode(bytes, bytes.len() as u64)
    }

    proptest! {
        #[test]
        fn a_changed_or_cut_head_is_refused(
            effects in proptest::collection::vec(effect(), 1..6),
            at: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let right = made(&effects);
            let (head, _) = read(&right).unwrap();
            let frames = 7 + effects.len() as u64;
            prop_assert_eq!((head.before.frames, head.after.frames), (7, frames));
            let begin = usize::try_from(head.frames.offset).unwrap();
            let mut flipped = right.clone();
            flipped[at.index(begin)] ^= 1_u8 << bit;
            prop_assert!(read(&flipped).is_err());
            prop_assert!(read(&right[..at.index(right.len())].to_vec()).is_err());
        }

        #[test]
        fn random_bytes_with_a_right_checksum_are_refused_without_a_panic(
            head in proptest::collection::vec(any::<u8>(), 0..300),
            effects in proptest::collection::vec(effect(), 1..4),
            spoilt in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let sealed = |head: &[u8]| {
                let length = (head.len() as u64).to_le_bytes();
                let mut bytes = [MAGIC, FORMAT.to_le_bytes().as_slice(), &length, head].concat();
                bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
                bytes
            };
            prop_assert!(read(&sealed(&head)).is_err());
            // One that is nearly right goes further.
            let right = made(&effects);
            let begin = usize::try_from(read(&right).unwrap().0.frames.offset).unwrap();
            let mut content = right[PREFIX..begin - 4].to_vec();
            if let Some((at, value)) = spoilt {
                let at = at.index(content.len());
                content[at] = value;
            }
            let mut bytes = sealed(&content);
            bytes.extend_from_slice(&right[begin..]);
            if let Ok((_, summary)) = read(&bytes) {
                let mut index = crate::index::Index::default();
                for (stream, change) in (0..).zip(summary.changes) {
                    index.take(change, 0, stream);
                }
            }
        }
    }
}
