//! Reading a log from its first segment to its last: what is sound becomes the catalogue, the first
//! thing that is not ends it.
//!
//! A sealed segment before the witness's one is known by its index, if that is sound and fits; the
//! frames of all others are read and checked, and become indexes.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use infra_core::{Error, ErrorKind, Result, version::Position};

use super::{
    catalogue::{Catalogue, Effect, FrameAt},
    disk::{Disk, read_full},
    frame::{self, Commit},
    options::Check,
    recovery::{Lost, OPEN, RecoveryReport, SegmentReport, io_error},
    segment::{self, BadSegment, Segment},
    segment_index::{Place, SegmentIndex},
    unsealed::Unsealed,
    witness::{Mark, Testimony},
};
use crate::index::HashMap;

/// What is kept of a sealed segment whose frames were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Its index is written, and looked up from then on.
    OnDisk,
    /// Where its events are stays in memory, since nothing may be written.
    InMemory,
    /// Nothing is read later.
    Nothing,
}

/// A log as far as it was read.
pub(super) struct Scan<'a> {
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) folder: &'a Path,
    pub(super) testimony: Option<Testimony>,
    check: Check,
    keep: Keep,
    pub(super) catalogue: Catalogue,
    pub(super) segments: Vec<Segment>,
    /// Where the next frame goes in the last segment.
    pub(super) end: u64,
    pub(super) mark: Mark,
    /// Segments that come after the damage, or were never finished.
    pub(super) rest: Vec<Position>,
    pub(super) report: RecoveryReport,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        disk: &'a Arc<dyn Disk>,
        folder: &'a Path,
        testimony: Option<Testimony>,
    ) -> Self {
        Self {
            disk,
            folder,
            testimony,
            check: Check::Everything,
            keep: Keep::Nothing,
            catalogue: Catalogue::default(),
            segments: Vec::new(),
            end: segment::HEADER,
            mark: Mark::default(),
            rest: Vec::new(),
            report: RecoveryReport::default(),
        }
    }

    /// Reads as much as `check` says, and keeps what `keep` says.
    pub(super) fn run(&mut self, check: Check, keep: Keep) -> Result<()> {
        (self.check, self.keep) = (check, keep);
        let names = self.disk.list(self.folder).map_err(io_error)?;
        let mut firsts: Vec<Position> =
            names.iter().filter_map(|name| segment::first_position(name)).collect();
        firsts.sort_unstable();
        let n_segments = firsts.len();
        for (place, first) in firsts.into_iter().enumerate() {
            if self.report.lost.is_some() {
                self.rest.push(first);
                continue;
            }
            let (commits, events) = (self.mark.frames, self.catalogue.index.head().get());
            let n_taken = self.segments.len();
            let is_indexed = self.segment(first, place + 1 == n_segments)?;
            let lost = self.report.lost.as_ref();
            self.report.details.push(SegmentReport {
                name: segment::file_name(first),
                events: self.catalogue.index.head().get() - events,
                commits: self.mark.frames - commits,
                // One that is refused as a whole has no sound frame.
                bytes: if n_taken < self.segments.len() { self.end } else { 0 },
                is_indexed,
                damage: lost.map(|lost| format!("byte {}: {}", lost.offset, lost.why)),
            });
        }
        self.judge_witness();
        Ok(())
    }

    /// Reads one segment, and returns whether its index stood for it; what is wrong with it goes
    /// into the report.
    fn segment(&mut self, first: Position, is_last: bool) -> Result<bool> {
        let witnessed = self.testimony.map_or(0, |testimony| testimony.segment);
        let opened = match segment::open(self.disk.as_ref(), self.folder, first) {
            Ok(opened) => opened,
            Err(BadSegment::Io(cause)) => return Err(io_error(cause)),
            Err(BadSegment::Format(format)) => {
                let detail = format!(
                    "{} has format {format}; this version reads format {}",
                    segment::file_name(first),
                    segment::FORMAT
                );
                return Err(Error::new(ErrorKind::Unsupported, OPEN).detail(detail));
            }
            Err(BadSegment::Header) if is_last && witnessed < first.get() => {
                // The file was being created when the process died.
                self.rest.push(first);
                return Ok(false);
            }
            Err(BadSegment::Header) => {
                self.lose(first, 0, "the segment's header is damaged");
                self.rest.push(first);
                return Ok(false);
            }
        };
        let expected = self.catalogue.index.head().next();
        if first != expected {
            let why = format!("position {expected} was expected, the segment begins at {first}");
            self.lose(first, 0, &why);
            self.rest.push(first);
            return Ok(false);
        }
        self.segments.push(opened.clone());
        self.end = segment::HEADER;
        let is_sealed = !is_last && first.get() < witnessed;
        if is_sealed && self.check == Check::Unsealed && self.indexed(&opened) {
            return Ok(true);
        }
        self.catalogue.begin(self.mark);
        self.frames_of(&opened, is_last)?;
        if !is_last && self.report.lost.is_none() {
            self.seal(&opened);
        }
        Ok(false)
    }

    /// Keeps of a sealed segment whose frames were read what is to be kept.
    fn seal(&mut self, segment: &Segment) {
        match self.keep {
            Keep::OnDisk => {
                let part = self.catalogue.last();
                let index = part.and_then(|part| SegmentIndex::write(self.place(segment), part));
                if let Some(index) = index {
                    self.catalogue.settle(index);
                }
            }
            Keep::InMemory => {}
            Keep::Nothing => self.catalogue.forget_last(),
        }
    }

    fn place(&self, segment: &Segment) -> Place {
        Place {
            disk: Arc::clone(self.disk),
            folder: self.folder.to_owned(),
            segment: segment.clone(),
            number: self.number(),
            writes: self.keep == Keep::OnDisk,
        }
    }

    /// Takes a segment's index for its frames, if it may.
    fn indexed(&mut self, segment: &Segment) -> bool {
        let Some((index, summary)) = SegmentIndex::open(self.place(segment)) else { return false };
        // An index that the witness contradicts is none: the frames tell what is wrong.
        if index.before() != self.mark || !self.agrees(index.after()) {
            return false;
        }
        (self.mark, self.end) = (index.after(), index.end());
        self.catalogue.adopt(index, summary);
        true
    }

    /// The number of the last segment.
    fn number(&self) -> u32 {
        u32::try_from(self.segments.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    fn frames_of(&mut self, segment: &Segment, is_last: bool) -> Result<()> {
        let length = segment.file.length().map_err(io_error)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = Bytes::from(read_full(segment.file.as_ref(), 0, length).map_err(io_error)?);
        loop {
            let at = usize::try_from(self.end).unwrap_or(usize::MAX);
            let (body, checksum) = match body_at(&bytes, at) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(()),
                Err(why) => {
                    self.broken(segment, &bytes, is_last, why);
                    return Ok(());
                }
            };
            let taken =
                frame::decode(&body).and_then(|commit| self.take(&commit, body.len(), checksum));
            if let Err(error) = taken {
                self.lose(segment.first, self.end, &error.to_string());
                return Ok(());
            }
            self.mark = self.mark.then(checksum);
            self.end += (frame::HEADER + body.len()) as u64;
            if !self.agrees(self.mark) {
                self.lose(segment.first, self.end, "the witness has another digest up to here");
                return Ok(());
            }
        }
    }

    /// Decides whether bytes that are no frame are an unfinished write or a loss.
    fn broken(&mut self, segment: &Segment, bytes: &Bytes, is_last: bool, why: &str) {
        let is_acknowledged = self.testimony.is_some_and(|testimony| {
            (segment.first.get(), self.end) < (testimony.segment, testimony.end)
        });
        if !is_last || is_acknowledged {
            self.lose(segment.first, self.end, why);
            return;
        }
        let tail = bytes.get(usize::try_from(self.end).unwrap_or(usize::MAX)..);
        let tail = tail.unwrap_or_default();
        let written = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.report.torn_bytes = written as u64;
    }

    /// Folds a commit into the catalogue.
    fn take(&mut self, commit: &Commit, length: usize, checksum: u32) -> Result<()> {
        if let Commit::Append { events, fence: _ } = commit {
            let next = self.catalogue.index.head().next();
            let found = events.first().map_or(next, |event| event.position);
            if found != next {
                let detail = format!("position {next} was expected, the frame has {found}");
                return Err(Error::new(ErrorKind::Corrupt, OPEN).detail(detail));
            }
        }
        let (effect, number) = (Effect::of(commit), self.number());
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let place = FrameAt { first: Position::ZERO, segment: number, offset: self.end, length };
        self.catalogue.apply(place, checksum, &effect);
        Ok(())
    }

    /// Returns whether the witness's digest fits, where it speaks of exactly the frames up to `mark`.
    fn agrees(&self, mark: Mark) -> bool {
        self.testimony.is_none_or(|testimony| {
            testimony.frames != mark.frames || testimony.digest == mark.digest
        })
    }

    fn lose(&mut self, first: Position, offset: u64, why: &str) {
        let acknowledged = self.testimony.map_or(0, |testimony| testimony.frames);
        self.report.lost = Some(Lost {
            segment: segment::file_name(first),
            offset,
            commits: acknowledged.saturating_sub(self.mark.frames),
            why: why.to_owned(),
        });
    }

    /// Notices a tail that the witness knows and the log has no more.
    fn judge_witness(&mut self) {
        self.report.is_witness_missing = self.testimony.is_none() && 0 < self.mark.frames;
        let acknowledged = self.testimony.map_or(0, |testimony| testimony.frames);
        if self.report.lost.is_none() && self.mark.frames < acknowledged {
            let first = self.segments.last().map_or(Position::new(1), |segment| segment.first);
            self.lose(first, self.end, "the log ends before the last acknowledged commit");
        }
    }

    /// Looks at the frames of the segments after the damage, one by one, for the report alone.
    pub(super) fn look_at_the_rest(&mut self) {
        for first in &self.rest {
            let mut detail =
                SegmentReport { name: segment::file_name(*first), ..Default::default() };
            detail.damage = look(self.disk.as_ref(), self.folder, *first, &mut detail).err();
            let is_told = self.report.details.iter().any(|known| known.name == detail.name);
            if !is_told {
                self.report.details.push(detail);
            }
        }
    }
}

/// Returns the sound body at `at` and its checksum; nothing at the end.
fn body_at(bytes: &Bytes, at: usize) -> Result<Option<(Bytes, u32)>, &'static str> {
    let head = bytes.get(at..bytes.len().min(at + frame::HEADER)).unwrap_or_default();
    let (length, checksum) = match frame::header(head) {
        frame::Header::End => return Ok(None),
        frame::Header::Frame { length, checksum } => (length, checksum),
        frame::Header::Bad => return Err("a frame's header is damaged"),
    };
    let from = at + frame::HEADER;
    let body = bytes.get(from..from + length).map(|_| bytes.slice(from..from + length));
    match body.filter(|body| crc32c::crc32c(body) == checksum) {
        Some(body) => Ok(Some((body, checksum))),
        None => Err("a frame fails its checksum"),
    }
}

/// Reads all frames of a sealed segment once more, whose first comes after `before`.
pub(super) fn sealed(segment: &Segment, before: Mark, number: u32) -> Result<Unsealed> {
    let length = segment.file.length().map_err(io_error)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let bytes = Bytes::from(read_full(segment.file.as_ref(), 0, length).map_err(io_error)?);
    let damaged = |at: usize, why: &str| {
        let name = segment::file_name(segment.first);
        Error::new(ErrorKind::Corrupt, "read event log")
            .detail(format!("{name} at byte {at}: {why}"))
    };
    let mut part = Unsealed::new(segment.first, before);
    let mut streams = HashMap::default();
    let mut at = usize::try_from(segment::HEADER).unwrap_or(0);
    while let Some((body, checksum)) = body_at(&bytes, at).map_err(|why| damaged(at, why))? {
        let commit = frame::decode(&body)?;
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut place =
            FrameAt { first: Position::ZERO, segment: number, offset: at as u64, length };
        part.note(place, checksum, &Effect::of(&commit));
        if let Commit::Append { events, fence: _ } = &commit {
            for event in events {
                let base = event.version.previous();
                let stream = *streams
                    .entry(event.stream.clone())
                    .or_insert_with(|| part.table.begin(event.stream.clone(), base));
                part.table.push(stream, event.event.id, event.position);
            }
            if let Some(first) = events.first() {
                place.first = first.position;
                part.frames.push(place);
            }
        }
        at += frame::HEADER + body.len();
    }
    Ok(part)
}

/// Counts the frames of a segment that cannot be read in its place any more.
fn look(
    disk: &dyn Disk,
    folder: &Path,
    first: Position,
    report: &mut SegmentReport,
) -> Result<(), String> {
    let opened = segment::open(disk, folder, first).map_err(|_| "no sound header".to_owned())?;
    let length = opened.file.length().map_err(|error| error.to_string())?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let bytes = read_full(opened.file.as_ref(), 0, length).map_err(|error| error.to_string())?;
    let (bytes, mut at) = (Bytes::from(bytes), usize::try_from(segment::HEADER).unwrap_or(0));
    loop {
        report.bytes = at as u64;
        let found = body_at(&bytes, at).map_err(|why| format!("byte {at}: {why}"))?;
        let Some((body, _)) = found else { return Ok(()) };
        let commit = frame::decode(&body).map_err(|error| format!("byte {at}: {error}"))?;
        report.commits += 1;
        if let Commit::Append { events, fence: _ } = commit {
            report.events += events.len() as u64;
        }
        at += frame::HEADER + body.len();
    }
}
