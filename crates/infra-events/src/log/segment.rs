//! A segment file: a header that names the log and the first position, then frames.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use infra_core::version::Position;

use super::disk::{Disk, DiskFile, read_full};

/// The length of a segment's header.
pub(super) const HEADER: u64 = 32;

const MAGIC: &[u8; 8] = b"INFRAEVL";

/// The version of the format; another one is refused.
pub(super) const FORMAT: u32 = 1;

/// An open segment.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) first: Position,
}

/// Why a segment's header was refused.
#[derive(Debug)]
pub(super) enum BadSegment {
    Io(io::Error),
    Format(u32),
    Header,
}

/// Returns the file name of the segment that begins at `first`.
pub(super) fn file_name(first: Position) -> String {
    format!("{:020}.log", first.get())
}

/// Reads a file name; `None` if it is no segment's.
pub(super) fn first_position(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    digits.parse().ok().map(Position::new)
}

/// Creates a segment of `length` bytes, reserved and durable, with its header.
///
/// On an error nothing is left behind that a later open would trip over.
pub(super) fn create(
    disk: &dyn Disk,
    folder: &Path,
    first: Position,
    length: u64,
) -> io::Result<Segment> {
    let path = folder.join(file_name(first));
    let file = disk.open(&path, true)?;
    let made = file
        .set_len(0)
        .and_then(|()| file.allocate(length))
        .and_then(|()| file.write_at(&header(first), 0))
        .and_then(|()| file.sync())
        .and_then(|()| disk.sync_folder(folder));
    match made {
        Ok(()) => Ok(Segment { path, file: Arc::from(file), first }),
        Err(error) => {
            // What cannot be removed now is an empty segment, which the next open removes.
            let _removed = disk.remove(&path).is_ok();
            Err(error)
        }
    }
}

/// Opens a segment and checks its header.
pub(super) fn open(disk: &dyn Disk, folder: &Path, first: Position) -> Result<Segment, BadSegment> {
    let path = folder.join(file_name(first));
    let file = disk.open(&path, false).map_err(BadSegment::Io)?;
    let length = usize::try_from(HEADER).unwrap_or(usize::MAX);
    let found = read_full(file.as_ref(), 0, length).map_err(BadSegment::Io)?;
    if found == header(first) {
        return Ok(Segment { path, file: Arc::from(file), first });
    }
    let format = found.get(8..12).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match format {
        Some(format) if found.starts_with(MAGIC) && format != FORMAT => {
            Err(BadSegment::Format(format))
        }
        _ => Err(BadSegment::Header),
    }
}

fn header(first: Position) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&first.get().to_le_bytes());
    bytes.resize(28, 0);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}
