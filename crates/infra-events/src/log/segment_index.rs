//! The index of a sealed segment: what each of its commits did, without the payloads, in one
//! checksummed file beside it.
//!
//! Opening a log reads it instead of the segment. It is never the truth: one that is missing,
//! damaged, or does not fit its segment is made again from the frames.
//!
//! ```text
//! magic 8 bytes | format u32 | first position u64 | frames before u64 | digest before u32
//!   | frames after u64 | digest after u32 | end u64 | last frame at u64 | its checksum u32
//!   | commits u32 | commit | commit | ... | crc32c of everything before u32
//! ```

use std::{io, path::Path};

use bytes::Bytes;
use infra_core::{
    Error, Result,
    id::{EventId, Scope, StreamName},
    lease::Fence,
    version::{FencingToken, Position, Version},
};

use super::{
    disk::{Disk, read_full},
    encoding::{In, Out, corrupt},
    frame::{self, Commit},
    segment::Segment,
};
use crate::index::HashMap;

const MAGIC: &[u8; 8] = b"INFRAEVX";
const FORMAT: u32 = 1;

/// How far the log has come: its frames up to here, and their running digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) frames: u64,
    pub(super) digest: u32,
}

/// What a commit does to the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Append { parts: Vec<(StreamName, Vec<EventId>)>, fence: Option<Fence> },
    Truncate { stream: StreamName, before: Version },
    Tombstone { stream: StreamName },
}

impl Effect {
    pub(super) fn of(commit: &Commit) -> Self {
        match commit {
            Commit::Append { events, fence } => {
                let mut parts: Vec<(StreamName, Vec<EventId>)> = Vec::new();
                for event in events {
                    match parts.last_mut() {
                        Some((stream, ids)) if *stream == event.stream => ids.push(event.event.id),
                        _ => parts.push((event.stream.clone(), vec![event.event.id])),
                    }
                }
                Self::Append { parts, fence: fence.clone() }
            }
            Commit::Truncate { stream, before } => {
                Self::Truncate { stream: stream.clone(), before: *before }
            }
            Commit::Tombstone { stream } => Self::Tombstone { stream: stream.clone() },
        }
    }
}

/// A commit of the segment: where its frame is, and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    /// The length of the frame's body.
    pub(super) length: u32,
    pub(super) effect: Effect,
}

/// What is known of a sealed segment without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentIndex {
    first: Position,
    pub(super) before: Mark,
    pub(super) after: Mark,
    /// Where the last frame ends.
    pub(super) end: u64,
    last: Last,
    pub(super) entries: Vec<Entry>,
}

/// The last frame, by which an index is held against its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Last {
    offset: u64,
    checksum: u32,
}

/// Takes the commits of a segment as they are made, until it is sealed.
#[derive(Debug, Default)]
pub(super) struct Builder {
    before: Mark,
    last: Last,
    n_entries: usize,
    entries: Out,
    streams: HashMap<StreamName, u32>,
}

impl Builder {
    pub(super) fn new(before: Mark) -> Self {
        Self { before, ..Self::default() }
    }

    pub(super) fn add(&mut self, (offset, length): (u64, u32), checksum: u32, effect: &Effect) {
        self.last = Last { offset, checksum };
        self.n_entries += 1;
        self.entries.u64(offset);
        self.entries.u32(length);
        match effect {
            Effect::Append { parts, fence } => {
                self.entries.u8(if fence.is_some() { 2 } else { 1 });
                if let Some(fence) = fence {
                    self.entries.text(fence.scope.as_str());
                    self.entries.u64(fence.token.get());
                }
                self.entries.count(parts.len());
                for (stream, ids) in parts {
                    self.stream(stream);
                    self.entries.count(ids.len());
                    for id in ids {
                        self.entries.uuid(Some(id.as_uuid()));
                    }
                }
            }
            Effect::Truncate { stream, before } => {
                self.entries.u8(3);
                self.stream(stream);
                self.entries.u64(before.get());
            }
            Effect::Tombstone { stream } => {
                self.entries.u8(4);
                self.stream(stream);
            }
        }
    }

    /// Writes a stream's number, and its name the first time.
    fn stream(&mut self, stream: &StreamName) {
        let next = u32::try_from(self.streams.len()).unwrap_or(u32::MAX);
        let number = self.streams.get(stream).copied();
        self.entries.u32(number.unwrap_or(next));
        if number.is_none() {
            self.entries.text(stream.as_str());
            self.streams.insert(stream.clone(), next);
        }
    }

    /// Ends the index of a segment that is written no more.
    pub(super) fn seal(self, first: Position, end: u64, after: Mark) -> Vec<u8> {
        let mut out = Out::default();
        out.raw(MAGIC);
        out.u32(FORMAT);
        out.u64(first.get());
        for mark in [self.before, after] {
            out.u64(mark.frames);
            out.u32(mark.digest);
        }
        out.u64(end);
        out.u64(self.last.offset);
        out.u32(self.last.checksum);
        out.count(self.n_entries);
        out.raw(&self.entries.into_bytes());
        let mut bytes = out.into_bytes();
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// Returns the file name of the index of the segment that begins at `first`.
pub(super) fn file_name(first: Position) -> String {
    format!("{:020}.idx", first.get())
}

/// Writes an index; one that is not there or cut short is made again at the next opening.
pub(super) fn store(disk: &dyn Disk, folder: &Path, first: Position, bytes: &[u8]) {
    if let Err(cause) = write(disk, folder, first, bytes) {
        let error = &cause as &dyn std::error::Error;
        tracing::warn!(error, segment = %first, "segment index not written");
    }
}

/// Removes the index of a segment that will be another one.
pub(super) fn remove(disk: &dyn Disk, folder: &Path, first: Position) -> io::Result<()> {
    match disk.remove(&folder.join(file_name(first))) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

fn write(disk: &dyn Disk, folder: &Path, first: Position, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(&folder.join(file_name(first)), true)?;
    file.set_len(0)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.sync_folder(folder)
}

/// Reads the index of a segment; `None` if there is none that is sound and fits the segment.
pub(super) fn read(disk: &dyn Disk, folder: &Path, segment: &Segment) -> Option<SegmentIndex> {
    let file = disk.open(&folder.join(file_name(segment.first)), false).ok()?;
    let length = usize::try_from(file.length().ok()?).ok()?;
    let bytes = Bytes::from(read_full(file.as_ref(), 0, length).ok()?);
    let index = decode(&bytes).ok().filter(|index| index.first == segment.first)?;
    fits(segment, &index).unwrap_or(false).then_some(index)
}

/// Returns whether the segment's last frame is the index's last, with nothing after it.
fn fits(segment: &Segment, index: &SegmentIndex) -> io::Result<bool> {
    let file = segment.file.as_ref();
    let last = frame::header(&read_full(file, index.last.offset, frame::HEADER)?);
    let after = frame::header(&read_full(file, index.end, frame::HEADER)?);
    let is_last = match last {
        frame::Header::Frame { length, checksum } => {
            let end = index.last.offset + (frame::HEADER + length) as u64;
            (checksum, end) == (index.last.checksum, index.end)
        }
        frame::Header::End | frame::Header::Bad => false,
    };
    Ok(is_last && after == frame::Header::End)
}

fn decode(bytes: &Bytes) -> Result<SegmentIndex> {
    let (content, own) = bytes.split_last_chunk::<4>().ok_or_else(|| unfit("too short"))?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*own) {
        return Err(unfit("it fails its checksum"));
    }
    let body = bytes.slice(..content.len());
    let mut input = In::new(&body);
    if input.raw(MAGIC.len())?.as_ref() != MAGIC || input.u32()? != FORMAT {
        return Err(unfit("another format"));
    }
    let first = Position::new(input.u64()?);
    let before = Mark { frames: input.u64()?, digest: input.u32()? };
    let after = Mark { frames: input.u64()?, digest: input.u32()? };
    let end = input.u64()?;
    let last = Last { offset: input.u64()?, checksum: input.u32()? };
    let mut entries = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..input.u32()? {
        entries.push(entry(&mut input, &mut streams)?);
    }
    input.end()?;
    Ok(SegmentIndex { first, before, after, end, last, entries })
}

fn unfit(why: &str) -> Error {
    corrupt(format!("segment index: {why}"))
}

fn entry(input: &mut In<'_>, streams: &mut Vec<StreamName>) -> Result<Entry> {
    let (offset, length) = (input.u64()?, input.u32()?);
    let effect = match input.u8()? {
        kind @ (1 | 2) => {
            let fence = if kind == 2 { Some(fence(input)?) } else { None };
            let mut parts = Vec::new();
            for _ in 0..input.u32()? {
                parts.push((stream(input, streams)?, ids(input)?));
            }
            Effect::Append { parts, fence }
        }
        3 => {
            Effect::Truncate { stream: stream(input, streams)?, before: Version::new(input.u64()?) }
        }
        4 => Effect::Tombstone { stream: stream(input, streams)? },
        unknown => return Err(unfit(&format!("unknown kind {unknown}"))),
    };
    Ok(Entry { offset, length, effect })
}

fn fence(input: &mut In<'_>) -> Result<Fence> {
    let scope = Scope::new(input.text()?)?;
    Ok(Fence { scope, token: FencingToken::new(input.u64()?) })
}

fn ids(input: &mut In<'_>) -> Result<Vec<EventId>> {
    let mut ids = Vec::new();
    for _ in 0..input.u32()? {
        ids.push(EventId::from_uuid(input.uuid()?.unwrap_or_default()));
    }
    Ok(ids)
}

fn stream(input: &mut In<'_>, streams: &mut Vec<StreamName>) -> Result<StreamName> {
    let number = usize::try_from(input.u32()?).unwrap_or(usize::MAX);
    if number == streams.len() {
        streams.push(input.name()?);
    }
    streams.get(number).cloned().ok_or_else(|| unfit("a stream without a name"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

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
            (parts, fence).prop_map(|(parts, fence)| Effect::Append { parts, fence }),
            (name(), any::<u64>()).prop_map(|(stream, before)| Effect::Truncate {
                stream,
                before: Version::new(before)
            }),
            name().prop_map(|stream| Effect::Tombstone { stream }),
        ]
    }

    fn sealed(effects: &[Effect]) -> Bytes {
        let mut builder = Builder::new(Mark { frames: 7, digest: 8 });
        for (offset, effect) in (100..).zip(effects) {
            builder.add((offset, 5), 9, effect);
        }
        builder.seal(Position::new(3), 200, Mark { frames: 20, digest: 21 }).into()
    }

    proptest! {
        #[test]
        fn an_index_survives_its_bytes(effects in proptest::collection::vec(effect(), 0..8)) {
            let index = decode(&sealed(&effects)).unwrap();
            let found: Vec<Effect> =
                index.entries.iter().map(|entry| entry.effect.clone()).collect();
            prop_assert_eq!(found, effects);
            prop_assert_eq!((index.before.frames, index.after.digest, index.end), (7, 21, 200));
        }

        #[test]
        fn a_changed_or_cut_index_is_refused(
            effects in proptest::collection::vec(effect(), 0..4),
            at: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let right = sealed(&effects).to_vec();
            let at = at.index(right.len());
            let mut flipped = right.clone();
            flipped[at] ^= 1_u8 << bit;
            prop_assert!(decode(&Bytes::from(flipped)).is_err());
            prop_assert!(decode(&Bytes::from(right[..at].to_vec())).is_err());
        }

        #[test]
        fn random_bytes_with_a_right_checksum_are_refused_without_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            is_headed: bool,
        ) {
            if is_headed {
                bytes.splice(0..0, [MAGIC.as_slice(), &FORMAT.to_le_bytes(), &[0; 48]].concat());
            }
            let checksum = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            let _index = decode(&Bytes::from(bytes));
        }
    }
}
