//! Opening a log: what it is read for, what is said of it, and how its tail is made sound.

use std::{fs::File, io, path::Path};

use infra_core::{Error, ErrorKind, Result, version::Position};

use super::{
    catalogue::Catalogue,
    disk::read_full,
    options::{Check, Mode, Options},
    scan::{Keep, Scan},
    segment::{self, Segment},
    segment_index,
    witness::{Testimony, Witness},
};

pub(super) const OPEN: &str = "open event log";

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

/// What was found in one segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentReport {
    /// Its file.
    pub name: String,
    /// Events in it (truncated ones included).
    pub events: u64,
    /// Commits in it.
    pub commits: u64,
    /// Bytes up to the end of its last sound frame.
    pub bytes: u64,
    /// Whether its index stood for it, so that its frames were not read.
    pub is_indexed: bool,
    /// Where it is damaged, and how.
    pub damage: Option<String>,
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
    /// The segments one by one; [`verify`](crate::LogEventStore::verify) also looks at those behind
    /// the first damage.
    pub details: Vec<SegmentReport>,
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
    let mut scan = Scan::new(&options.disk, folder, testimony);
    // What is damaged is not to be found by chance, when something is to be done about it.
    let check = if options.mode == Mode::Salvage { Check::Everything } else { options.check };
    scan.run(check, if writable { Keep::OnDisk } else { Keep::InMemory })?;
    if let Some(lost) = scan.report.lost.as_ref().filter(|_| options.mode == Mode::Strict) {
        return Err(Error::new(ErrorKind::Corrupt, OPEN).detail(format!(
            "{} at byte {}: {}; {} acknowledged commits or more are missing",
            lost.segment, lost.offset, lost.why, lost.commits
        )));
    }
    if writable {
        repair(&mut scan, options).map_err(io_error)?;
    }
    finish(scan, witness, lock).map_err(io_error)
}

/// Checks every frame of a log without changing anything; it may be written to meanwhile.
pub(super) fn check(options: &Options) -> Result<RecoveryReport> {
    let (disk, folder) = (options.disk.as_ref(), options.folder.as_path());
    let testimony = Witness::open(disk, folder, false).ok().and_then(|(_, testimony)| testimony);
    let mut scan = Scan::new(&options.disk, folder, testimony);
    scan.run(Check::Everything, Keep::Nothing)?;
    scan.look_at_the_rest();
    Ok(summary(&scan))
}

fn summary(scan: &Scan<'_>) -> RecoveryReport {
    RecoveryReport {
        events: scan.catalogue.index.head().get(),
        commits: scan.mark.frames,
        segments: scan.segments.len(),
        ..scan.report.clone()
    }
}

pub(super) fn io_error(cause: io::Error) -> Error {
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

/// Puts lost bytes aside, removes torn ones, and makes the rest durable.
fn repair(scan: &mut Scan<'_>, options: &Options) -> io::Result<()> {
    let (disk, has_lost) = (scan.disk.as_ref(), scan.report.lost.is_some());
    for first in std::mem::take(&mut scan.rest) {
        segment_index::remove(disk, scan.folder, first)?;
        let path = scan.folder.join(segment::file_name(first));
        if has_lost {
            let file = scan.disk.open(&path, false)?;
            let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
            put_aside(scan, first, 0, &read_full(file.as_ref(), 0, length)?)?;
        }
        scan.disk.remove(&path)?;
    }
    let Some(last) = scan.segments.last() else {
        let first = scan.catalogue.index.head().next();
        let length = options.segment;
        scan.segments.push(segment::create(disk, scan.folder, first, length)?);
        scan.end = segment::HEADER;
        scan.catalogue.begin(scan.mark);
        return Ok(());
    };
    let length = last.file.length()?;
    let tail = usize::try_from(length.saturating_sub(scan.end)).unwrap_or(usize::MAX);
    if has_lost {
        segment_index::remove(disk, scan.folder, last.first)?;
        let bytes = read_full(last.file.as_ref(), scan.end, tail)?;
        put_aside(scan, last.first, scan.end, &bytes)?;
    }
    if has_lost || 0 < scan.report.torn_bytes {
        last.file.set_len(scan.end)?;
        last.file.allocate(length.max(scan.end))?;
    }
    last.file.sync()?;
    scan.disk.sync_folder(scan.folder)
}

/// Keeps bytes that cannot be read any more in a file of their own.
fn put_aside(scan: &Scan<'_>, first: Position, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if used == 0 {
        return Ok(());
    }
    let name = format!("{:020}-{offset}.lost", first.get());
    let file = scan.disk.open(&scan.folder.join(name), true)?;
    file.write_at(bytes.get(..used).unwrap_or_default(), 0)?;
    file.sync()
}

fn finish(scan: Scan<'_>, witness: Option<Witness>, lock: Option<File>) -> io::Result<Opened> {
    let report = summary(&scan);
    let testimony = Testimony {
        turn: scan.testimony.map_or(1, |testimony| testimony.turn + 1),
        segment: scan.segments.last().map_or(0, |segment| segment.first.get()),
        end: scan.end,
        frames: scan.mark.frames,
        digest: scan.mark.digest,
    };
    if let Some(witness) = &witness {
        witness.write(&testimony)?;
        witness.sync()?;
    }
    let Scan { catalogue, segments, end, .. } = scan;
    Ok(Opened { catalogue, segments, end, testimony, witness, lock, report })
}
