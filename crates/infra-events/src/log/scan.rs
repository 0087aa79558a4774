//! Reading a log from its first segment to its last: what is sound becomes the catalogue, the first
//! thing that is not ends it.
//!
//! A sealed segment before the witness's one is known by its index, if that is sound and fits; the
//! frames of all others are read and checked.

use std::path::Path;

use bytes::Bytes;
use infra_core::{Error, ErrorKind, Result, version::Position};

use super::{
    disk::{Disk, read_full},
    frame::{self, Commit},
    options::Check,
    reader::{Catalogue, FrameAt},
    recovery::{Lost, OPEN, RecoveryReport, SegmentReport, io_error},
    segment::{self, BadSegment, Segment},
    segment_index::{self, Builder, Effect, Mark, SegmentIndex},
    witness::{self, Testimony},
};

/// A log as far as it was read.
pub(super) struct Scan<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) folder: &'a Path,
    pub(super) testimony: Option<Testimony>,
    check: Check,
    /// Whether indexes that are not there may be written.
    writes: bool,
    pub(super) catalogue: Catalogue,
    pub(super) segments: Vec<Segment>,
    /// Where the next frame goes in the last segment.
    pub(super) end: u64,
    pub(super) mark: Mark,
    /// The index of the last segment, as far as it goes; none if not all its frames were read.
    pub(super) builder: Option<Builder>,
    /// Segments that come after the damage, or were never finished.
    pub(super) rest: Vec<Position>,
    pub(super) report: RecoveryReport,
}

impl<'a> Scan<'a> {
    pub(super) fn new(disk: &'a dyn Disk, folder: &'a Path, testimony: Option<Testimony>) -> Self {
        Self {
            disk,
            folder,
            testimony,
            check: Check::Everything,
            writes: false,
            catalogue: Catalogue::default(),
            segments: Vec::new(),
            end: segment::HEADER,
            mark: Mark::default(),
            builder: None,
            rest: Vec::new(),
            report: RecoveryReport::default(),
        }
    }

    /// Reads as much as `check` says, and writes indexes that are missing if it may.
    pub(super) fn run(&mut self, check: Check, writes: bool) -> Result<()> {
        (self.check, self.writes) = (check, writes);
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
        let opened = match segment::open(self.disk, self.folder, first) {
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
        (self.end, self.builder) = (segment::HEADER, None);
        if self.check == Check::Unsealed && first.get() < witnessed && self.indexed(&opened) {
            return Ok(true);
        }
        self.builder = Some(Builder::new(self.mark));
        self.frames_of(&opened, is_last)?;
        if !is_last && self.report.lost.is_none() {
            self.save_index(first);
        }
        Ok(false)
    }

    /// Writes the index that a sealed segment has not, if the log may be changed.
    fn save_index(&mut self, first: Position) {
        if let Some(builder) = self.builder.take().filter(|_| self.writes) {
            let bytes = builder.seal(first, self.end, self.mark);
            segment_index::store(self.disk, self.folder, first, &bytes);
        }
    }

    /// Takes a segment's index for its frames, if it may.
    fn indexed(&mut self, segment: &Segment) -> bool {
        let index = segment_index::read(self.disk, self.folder, segment);
        // An index that the witness contradicts is none: the frames tell what is wrong.
        let fits = |index: &SegmentIndex| index.before == self.mark && self.agrees(index.after);
        let Some(index) = index.filter(fits) else { return false };
        let number = self.number();
        for entry in index.entries {
            let (offset, length) = (entry.offset, entry.length);
            let place = FrameAt { first: Position::ZERO, segment: number, offset, length };
            self.catalogue.apply(place, &entry.effect, Position::MAX);
        }
        (self.mark, self.end) = (index.after, index.end);
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
            self.mark.frames += 1;
            self.mark.digest = witness::digest(self.mark.digest, checksum);
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
        if let Some(builder) = &mut self.builder {
            builder.add((self.end, length), checksum, &effect);
        }
        self.catalogue.apply(place, &effect, Position::MAX);
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
            detail.damage = look(self.disk, self.folder, *first, &mut detail).err();
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
