//! The index of a sealed segment: where the events of each stream are, without their payloads, in
//! one checksummed file beside it.
//!
//! Opening a log reads its head instead of the segment; the rest is read a page at a time, by who
//! looks for something old. It is never the truth: one that is missing, damaged, or does not fit
//! its segment is made again from the frames, byte for byte, when that is noticed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use infra_core::{
    Error, ErrorKind, Result,
    id::EventId,
    version::{Position, Version},
};

use super::{
    catalogue::FrameAt,
    disk::{Disk, read_full},
    frame,
    index_format::{Head, Summary, decode, encode, hash_of, key, u32_at, u64_at},
    pages::{Reading, Source},
    scan,
    segment::Segment,
    unsealed::Unsealed,
    witness::Mark,
};
use crate::index::{Extent, Found};

/// Where the index of a segment is, and what it is made from if it is damaged.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) segment: Segment,
    /// The number of the segment.
    pub(super) number: u32,
    /// Whether it may be written.
    pub(super) writes: bool,
}

/// An index on the disk.
#[derive(Debug)]
pub(super) struct SegmentIndex {
    place: Place,
    head: Head,
}

impl SegmentIndex {
    /// Opens the index of a segment; `None` if there is none that is sound and fits the segment.
    pub(super) fn open(place: Place) -> Option<(Self, Summary)> {
        let file = place.disk.open(&path(&place.folder, place.segment.first), false).ok()?;
        let length = file.length().ok()?;
        let (head, summary) = decode(&file, length).ok()?;
        let index = Self { place, head };
        index.fits().unwrap_or(false).then_some((index, summary))
    }

    /// Writes the index of a segment that is written no more; `None` if that fails, and then it is
    /// made at the next opening.
    pub(super) fn write(place: Place, segment: &Unsealed) -> Option<Self> {
        let bytes = encode(segment)?;
        let (head, _) = decode(&bytes, bytes.len() as u64).ok()?;
        let index = Self { place, head };
        match index.store(&bytes) {
            Ok(()) => Some(index),
            Err(cause) => {
                let error = &cause as &dyn std::error::Error;
                tracing::warn!(error, segment = %segment.first, "segment index not written");
                None
            }
        }
    }

    pub(super) const fn number(&self) -> u32 {
        self.place.number
    }

    pub(super) const fn first(&self) -> Position {
        self.head.first
    }

    pub(super) const fn before(&self) -> Mark {
        self.head.before
    }

    pub(super) const fn after(&self) -> Mark {
        self.head.after
    }

    /// Where the last frame ends.
    pub(super) const fn end(&self) -> u64 {
        self.head.end
    }

    /// Returns the event of a stream that has an id; reads the disk if there may be one.
    pub(super) fn find(&self, extent: Extent, id: EventId) -> Result<Option<Found>> {
        let key = key(self.head.first, extent.stream, id);
        if !self.head.filter.may_have(key) {
            return Ok(None);
        }
        let found = self.look(|source| {
            let (first, count) = self.stream(source, extent.stream)?;
            let mut hashes = self.head.hashes.read(source);
            let mut events = self.head.events.read(source);
            let hash = hash_of(key);
            let mut at = hashes.partition_point(|record| u32_at(record, 0) < hash)?;
            while at < self.head.hashes.count {
                let record = hashes.get(at)?;
                let number = u64::from(u32_at(record, 4));
                if u32_at(record, 0) != hash {
                    break;
                }
                let place = number.checked_sub(first).filter(|place| *place < count);
                if let Some(place) = place {
                    let event = events.get(number)?;
                    if event.starts_with(id.as_uuid().as_bytes()) {
                        return Ok(Some((place, u64_at(event, 16))));
                    }
                }
                at += 1;
            }
            Ok(None)
        })?;
        Ok(found.map(|(place, position)| Found {
            version: Version::new(extent.base.get() + 1 + place),
            position: Position::new(position),
        }))
    }

    /// Returns where some events of a stream are: so many from the one with this place in the
    /// segment on.
    pub(super) fn places(
        &self,
        stream: u32,
        (from, count): (u64, u64),
    ) -> Result<Vec<(Position, FrameAt)>> {
        self.look(|source| {
            let (first, known) = self.stream(source, stream)?;
            let mut events = self.head.events.read(source);
            let to = known.min(from.saturating_add(count));
            (from..to).map(|place| self.place(&mut events, first + place)).collect()
        })
    }

    fn place(&self, events: &mut Reading<'_>, number: u64) -> io::Result<(Position, FrameAt)> {
        let event = events.get(number)?;
        let frame = FrameAt {
            first: Position::new(u64_at(event, 24)),
            segment: self.place.number,
            offset: u64_at(event, 32),
            length: u32_at(event, 40),
        };
        Ok((Position::new(u64_at(event, 16)), frame))
    }

    /// Returns the frames from the one with `position` on.
    pub(super) fn frames(&self, position: Position, limit: usize) -> Result<Vec<FrameAt>> {
        self.look(|source| {
            let mut frames = self.head.frames.read(source);
            let after = frames.partition_point(|record| u64_at(record, 0) <= position.get())?;
            let from = after.saturating_sub(1);
            let to = self.head.frames.count.min(from.saturating_add(limit as u64));
            let frame = |record: &[u8]| FrameAt {
                first: Position::new(u64_at(record, 0)),
                segment: self.place.number,
                offset: u64_at(record, 8),
                length: u32_at(record, 16),
            };
            (from..to).map(|number| frames.get(number).map(frame)).collect()
        })
    }

    /// Returns the number of a stream's first event, and how many it has.
    fn stream(&self, source: &dyn Source, number: u32) -> io::Result<(u64, u64)> {
        let mut streams = self.head.streams.read(source);
        let stream = streams.get(u64::from(number))?;
        Ok((u64_at(stream, 0), u64_at(stream, 8)))
    }

    /// Looks something up; makes the index again if it is damaged.
    fn look<T>(&self, read: impl Fn(&dyn Source) -> io::Result<T>) -> Result<T> {
        let failed =
            |cause| Error::new(ErrorKind::Unavailable, "read segment index").because(cause);
        let file = self.place.disk.open(&path(&self.place.folder, self.head.first), false);
        match file.and_then(|file| read(&file)) {
            Err(cause) if is_damage(&cause) => read(&self.make_again()?).map_err(failed),
            found => found.map_err(failed),
        }
    }

    /// Makes the index from the frames.
    fn make_again(&self) -> Result<Vec<u8>> {
        let Place { segment, number, .. } = &self.place;
        tracing::warn!(segment = %segment.first, "damaged segment index, made again");
        let made = encode(&scan::sealed(segment, self.head.before, *number)?);
        let made = made.filter(|bytes| {
            decode(bytes, bytes.len() as u64).is_ok_and(|(head, _)| head == self.head)
        });
        let made = made.ok_or_else(|| {
            let name = segment.path.file_name().unwrap_or_default().to_string_lossy();
            Error::new(ErrorKind::Corrupt, "read event log")
                .detail(format!("{name} is not what its index was made of"))
        })?;
        if self.place.writes
            && let Err(cause) = self.store(&made)
        {
            let error = &cause as &dyn std::error::Error;
            tracing::warn!(error, segment = %segment.first, "segment index not written");
        }
        Ok(made)
    }

    fn store(&self, bytes: &[u8]) -> io::Result<()> {
        let Place { disk, folder, .. } = &self.place;
        let file = disk.open(&path(folder, self.head.first), true)?;
        file.set_len(0)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        disk.sync_folder(folder)
    }

    /// Returns whether the segment's last frame is the index's last, with nothing after it.
    fn fits(&self) -> io::Result<bool> {
        let (segment, head) = (&self.place.segment, &self.head);
        let file = segment.file.as_ref();
        let last = frame::header(&read_full(file, head.last.offset, frame::HEADER)?);
        let after = frame::header(&read_full(file, head.end, frame::HEADER)?);
        let is_last = match last {
            frame::Header::Frame { length, checksum } => {
                let end = head.last.offset.saturating_add((frame::HEADER + length) as u64);
                (checksum, end) == (head.last.checksum, head.end)
            }
            frame::Header::End | frame::Header::Bad => false,
        };
        Ok(head.first == segment.first && is_last && after == frame::Header::End)
    }
}

/// Returns the file name of the index of the segment that begins at `first`.
fn path(folder: &Path, first: Position) -> PathBuf {
    folder.join(format!("{:020}.idx", first.get()))
}

/// Removes the index of a segment that will be another one.
pub(super) fn remove(disk: &dyn Disk, folder: &Path, first: Position) -> io::Result<()> {
    match disk.remove(&path(folder, first)) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// Returns whether making the index again mends what a read failed with.
fn is_damage(cause: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(cause.kind(), InvalidData | NotFound | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{
        index::Places as _,
        log::{
            catalogue::{Catalogue, Effect},
            disk::RealDisk,
            segment,
        },
    };
    use infra_core::{event::Direction, id::StreamName};

    fn place(folder: &Path, number: u32) -> Place {
        let segment = segment::create(&RealDisk, folder, Position::new(1), 4_096).unwrap();
        let (disk, folder) = (Arc::new(RealDisk), folder.to_owned());
        Place { disk, folder, segment, number, writes: true }
    }

    fn id(number: u64) -> EventId {
        EventId::from_uuid(Uuid::from_u64_pair(number, 1))
    }

    proptest! {
        #[test]
        fn an_index_on_the_disk_says_what_was_known_in_memory(
            appends in proptest::collection::vec((0..40_u64, 1..9_usize), 1..400),
            limit in 1..600_usize,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut memory = Catalogue::default();
            memory.begin(Mark::default());
            let names: Vec<StreamName> =
                (0..40).map(|number| StreamName::new(format!("s{number}")).unwrap()).collect();
            let mut ids = (0..).map(id);
            let mut given = Vec::new();
            for (offset, (stream, count)) in (100..).step_by(50).zip(&appends) {
                let name = names[usize::try_from(*stream).unwrap()].clone();
                let own: Vec<EventId> = ids.by_ref().take(*count).collect();
                given.extend(own.iter().map(|id| (name.clone(), *id)));
                let at = FrameAt { first: Position::ZERO, segment: 0, offset, length: 34 };
                memory.apply(at, 9, &Effect::Append { parts: vec![(name, own)], fence: None });
            }
            let mut disk = memory.clone();
            let index = SegmentIndex::write(place(folder.path(), 0), memory.last().unwrap());
            let index = index.unwrap();
            let all = index.frames(Position::new(1), usize::MAX).unwrap();
            prop_assert_eq!(&all, memory.last().unwrap().frames(Position::new(1), usize::MAX));
            let (_, opened) = decode(
                &std::fs::read(path(folder.path(), Position::new(1))).unwrap(),
                std::fs::metadata(path(folder.path(), Position::new(1))).unwrap().len(),
            ).unwrap();
            let mut adopted = Catalogue::default();
            let other = SegmentIndex { place: place(folder.path(), 0), head: index.head.clone() };
            adopted.adopt(other, opened);
            disk.settle(index);
            let head = memory.index.head();
            prop_assert_eq!(adopted.index.head(), head);
            for name in &names {
                let whole = Version::new(1)..=Version::MAX;
                let extents = memory.index.extents(name, &whole);
                prop_assert_eq!(&adopted.index.extents(name, &whole), &extents);
                let info = memory.index.info(name, head, &memory);
                prop_assert_eq!(&disk.index.info(name, head, &disk), &info);
                prop_assert_eq!(&adopted.index.info(name, head, &adopted), &info);
                for (from, direction) in
                    [(Version::new(3), Direction::Forward), (Version::MAX, Direction::Backward)]
                {
                    let known = resolved(&memory, name, (from, direction), limit);
                    prop_assert_eq!(&resolved(&disk, name, (from, direction), limit), &known);
                    prop_assert_eq!(&resolved(&adopted, name, (from, direction), limit), &known);
                }
                let Some((extent, _)) = extents.first() else { continue };
                for (stream, id) in &given {
                    let found = memory.find(*extent, *id).unwrap();
                    prop_assert_eq!(found.is_some(), stream == name);
                    prop_assert_eq!(disk.find(*extent, *id).unwrap(), found);
                }
                prop_assert_eq!(disk.find(*extent, id(u64::MAX)).unwrap(), None);
            }
        }
    }

    fn resolved(
        catalogue: &Catalogue,
        name: &StreamName,
        wanted: (Version, Direction),
        limit: usize,
    ) -> Vec<(Position, FrameAt)> {
        use crate::log::catalogue::Piece;
        let pieces = catalogue.pieces(name, wanted, catalogue.index.head(), limit);
        let places = pieces.into_iter().flat_map(|piece| match piece {
            Piece::Known(known) => known,
            Piece::OnDisk(index, stream, wanted) => index.places(stream, wanted).unwrap(),
        });
        places.collect()
    }
}
