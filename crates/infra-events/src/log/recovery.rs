//! Opening a log: every frame is read and checked, the index rebuilt, the tail made sound.

use std::{fs::File, io, path::Path};

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    id::{EventId, StreamName},
    version::Position,
};

use super::{
    disk::{Disk, read_full},
    frame::{self, Commit},
    options::{Mode, Options},
    reader::{Catalogue, FrameAt},
    segment::{self, BadSegment, Segment},
    witness::{self, Testimony, Witness},
};

const OPEN: &str = "open event log";

/// What was lost, as far as it can be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The segment file in which the damage begins.
    pub segment: String,
    /// Where in that file it begins.
    pub offset: u64,
    /// How many acknowledged commits at least are missing, by the witness.
    pub commits: u64,
    /// What is wrong there.
    pub why: String,
}

/// What was found when a log was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Events that can be read (truncated ones included).
    pub events: u64,
    /// Commits that were found.
    pub commits: u64,
    /// Segment files.
    pub segments: usize,
    /// Bytes of an unfinished, never acknowledged write at the end, which were removed.
    pub torn_bytes: u64,
    /// Whether the log had commits but no witness.
    pub is_witness_missing: bool,
    /// What was lost; only `Salvage` and `ReadOnly` open a log that lost something.
    pub lost: Option<Lost>,
}

/// An opened log, ready for its writer.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) catalogue: Catalogue,
    pub(super) segments: Vec<Segment>,
    /// Where the next frame goes in the last segment.
    pub(super) end: u64,
    pub(super) testimony: Testimony,
    pub(super) witness: Option<Witness>,
    pub(super) lock: Option<File>,
    pub(super) report: RecoveryReport,
}

/// Opens the log of `options`; blocks on the disk.
pub(super) fn open(options: &Options) -> Result<Opened> {
    let disk = options.disk.as_ref();
    let folder = options.folder.as_path();
    let writable = options.mode != Mode::ReadOnly;
    if writable {
        disk.create_folder(folder).map_err(io_error)?;
    }
    let lock = if writable { Some(lock(folder)?) } else { None };
    let (witness, testimony) = if writable {
        let (witness, testimony) = Witness::open(disk, folder, true).map_err(io_error)?;
        (Some(witness), testimony)
    } else {
        // A log without a witness can still be read.
        (None, Witness::open(disk, folder, false).ok().and_then(|(_, testimony)| testimony))
    };
    let mut scan = Scan::new(disk, folder, testimony);
    scan.run()?;
    scan.judge_witness();
    if let Some(lost) = scan.report.lost.as_ref().filter(|_| options.mode == Mode::Strict) {
        return Err(Error::new(ErrorKind::Corrupt, OPEN).detail(format!(
            "{} at byte {}: {}; {} acknowledged commits or more are missing",
            lost.segment, lost.offset, lost.why, lost.commits
        )));
    }
    if writable {
        scan.repair(options).map_err(io_error)?;
    }
    scan.finish(witness, lock).map_err(io_error)
}

/// Checks every frame of a log without changing anything; it may be written to meanwhile.
pub(super) fn check(options: &Options) -> Result<RecoveryReport> {
    let reading = Options { mode: Mode::ReadOnly, ..options.clone() };
    open(&reading).map(|opened| opened.report)
}

fn io_error(cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, OPEN).because(cause)
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(io_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(cause) => Err(Error::new(ErrorKind::Unavailable, OPEN)
            .detail(format!("{} is held by another process", path.display()))
            .because(cause)),
    }
}

struct Scan<'a> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    testimony: Option<Testimony>,
    catalogue: Catalogue,
    segments: Vec<Segment>,
    end: u64,
    frames: u64,
    digest: u32,
    /// Segments that come after the damage, or were never finished.
    rest: Vec<Position>,
    report: RecoveryReport,
}

impl<'a> Scan<'a> {
    fn new(disk: &'a dyn Disk, folder: &'a Path, testimony: Option<Testimony>) -> Self {
        Self {
            disk,
            folder,
            testimony,
            catalogue: Catalogue::default(),
            segments: Vec::new(),
            end: segment::HEADER,
            frames: 0,
            digest: 0,
            rest: Vec::new(),
            report: RecoveryReport::default(),
        }
    }

    fn run(&mut self) -> Result<()> {
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
            self.segment(first, place + 1 == n_segments)?;
        }
        Ok(())
    }

    /// Reads one segment; what is wrong with it goes into the report.
    fn segment(&mut self, first: Position, is_last: bool) -> Result<()> {
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
                return Ok(());
            }
            Err(BadSegment::Header) => {
                self.lose(first, 0, "the segment's header is damaged");
                self.rest.push(first);
                return Ok(());
            }
        };
        let expected = self.catalogue.index.head().next();
        if first != expected {
            let why = format!("position {expected} was expected, the segment begins at {first}");
            self.lose(first, 0, &why);
            self.rest.push(first);
            return Ok(());
        }
        self.segments.push(opened.clone());
        self.end = segment::HEADER;
        self.frames_of(&opened, is_last)
    }

    fn frames_of(&mut self, segment: &Segment, is_last: bool) -> Result<()> {
        let length = segment.file.length().map_err(io_error)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = Bytes::from(read_full(segment.file.as_ref(), 0, length).map_err(io_error)?);
        loop {
            let at = usize::try_from(self.end).unwrap_or(usize::MAX);
            let head = bytes.get(at..bytes.len().min(at + frame::HEADER)).unwrap_or_default();
            let (length, checksum) = match frame::header(head) {
                frame::Header::End => return Ok(()),
                frame::Header::Frame { length, checksum } => (length, checksum),
                frame::Header::Bad => {
                    self.broken(segment, &bytes, is_last, "a frame's header is damaged");
                    return Ok(());
                }
            };
            let from = at + frame::HEADER;
            let body = bytes.get(from..from + length).map(|_| bytes.slice(from..from + length));
            let Some(body) = body.filter(|body| crc32c::crc32c(body) == checksum) else {
                self.broken(segment, &bytes, is_last, "a frame fails its checksum");
                return Ok(());
            };
            let taken = frame::decode(&body).and_then(|commit| self.take(&commit, length));
            if let Err(error) = taken {
                self.lose(segment.first, self.end, &error.to_string());
                return Ok(());
            }
            self.frames += 1;
            self.digest = witness::digest(self.digest, checksum);
            self.end += (frame::HEADER + length) as u64;
            if !self.agrees() {
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
    fn take(&mut self, commit: &Commit, length: usize) -> Result<()> {
        match commit {
            Commit::Append { events, fence } => {
                let next = self.catalogue.index.head().next();
                let found = events.first().map_or(next, |event| event.position);
                if found != next {
                    let detail = format!("position {next} was expected, the frame has {found}");
                    return Err(Error::new(ErrorKind::Corrupt, OPEN).detail(detail));
                }
                let mut parts: Vec<(StreamName, Vec<EventId>)> = Vec::new();
                for event in events {
                    match parts.last_mut() {
                        Some((stream, ids)) if *stream == event.stream => ids.push(event.event.id),
                        _ => parts.push((event.stream.clone(), vec![event.event.id])),
                    }
                }
                self.catalogue.index.apply(&parts, fence.as_ref());
                if !events.is_empty() {
                    let segment = u32::try_from(self.segments.len() - 1).unwrap_or(u32::MAX);
                    let length = u32::try_from(length).unwrap_or(u32::MAX);
                    self.catalogue.frames.push(FrameAt {
                        first: next,
                        segment,
                        offset: self.end,
                        length,
                    });
                }
            }
            Commit::Truncate { stream, before } => {
                self.catalogue.index.truncate(stream, *before, Position::MAX);
            }
            Commit::Tombstone { stream } => self.catalogue.index.tombstone(stream),
        }
        Ok(())
    }

    /// Returns whether the witness's digest fits, where it speaks of exactly these frames.
    fn agrees(&self) -> bool {
        self.testimony.is_none_or(|testimony| {
            testimony.frames != self.frames || testimony.digest == self.digest
        })
    }

    fn lose(&mut self, first: Position, offset: u64, why: &str) {
        let acknowledged = self.testimony.map_or(0, |testimony| testimony.frames);
        self.report.lost = Some(Lost {
            segment: segment::file_name(first),
            offset,
            commits: acknowledged.saturating_sub(self.frames),
            why: why.to_owned(),
        });
    }

    /// Notices a tail that the witness knows and the log has no more.
    fn judge_witness(&mut self) {
        self.report.is_witness_missing = self.testimony.is_none() && 0 < self.frames;
        let acknowledged = self.testimony.map_or(0, |testimony| testimony.frames);
        if self.report.lost.is_none() && self.frames < acknowledged {
            let first = self.segments.last().map_or(Position::new(1), |segment| segment.first);
            self.lose(first, self.end, "the log ends before the last acknowledged commit");
        }
    }

    /// Puts lost bytes aside, removes torn ones, and makes the rest durable.
    fn repair(&mut self, options: &Options) -> io::Result<()> {
        let has_lost = self.report.lost.is_some();
        for first in std::mem::take(&mut self.rest) {
            let path = self.folder.join(segment::file_name(first));
            if has_lost {
                let file = self.disk.open(&path, false)?;
                let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
                self.put_aside(first, 0, &read_full(file.as_ref(), 0, length)?)?;
            }
            self.disk.remove(&path)?;
        }
        let Some(last) = self.segments.last() else {
            let first = self.catalogue.index.head().next();
            let length = options.segment;
            self.segments.push(segment::create(self.disk, self.folder, first, length)?);
            self.end = segment::HEADER;
            return Ok(());
        };
        let length = last.file.length()?;
        let tail = usize::try_from(length.saturating_sub(self.end)).unwrap_or(usize::MAX);
        if has_lost {
            let bytes = read_full(last.file.as_ref(), self.end, tail)?;
            self.put_aside(last.first, self.end, &bytes)?;
        }
        if has_lost || 0 < self.report.torn_bytes {
            last.file.set_len(self.end)?;
            last.file.allocate(length.max(self.end))?;
        }
        last.file.sync()?;
        self.disk.sync_folder(self.folder)
    }

    /// Keeps bytes that cannot be read any more in a file of their own.
    fn put_aside(&self, first: Position, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if used == 0 {
            return Ok(());
        }
        let name = format!("{:020}-{offset}.lost", first.get());
        let file = self.disk.open(&self.folder.join(name), true)?;
        file.write_at(bytes.get(..used).unwrap_or_default(), 0)?;
        file.sync()
    }

    fn finish(mut self, witness: Option<Witness>, lock: Option<File>) -> io::Result<Opened> {
        self.report.events = self.catalogue.index.head().get();
        self.report.commits = self.frames;
        self.report.segments = self.segments.len();
        let testimony = Testimony {
            turn: self.testimony.map_or(1, |testimony| testimony.turn + 1),
            segment: self.segments.last().map_or(0, |segment| segment.first.get()),
            end: self.end,
            frames: self.frames,
            digest: self.digest,
        };
        if let Some(witness) = &witness {
            witness.write(&testimony)?;
            witness.sync()?;
        }
        Ok(Opened {
            catalogue: self.catalogue,
            segments: self.segments,
            end: self.end,
            testimony,
            witness,
            lock,
            report: self.report,
        })
    }
}
