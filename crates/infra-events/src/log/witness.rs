//! The witness: the last acknowledged commit, kept beside the log.
//!
//! Two slots are written in turn, each with its checksum, so that a torn write leaves the other.

use std::{io, path::Path, sync::Arc};

use super::disk::{Disk, DiskFile, read_full};

const SLOT: u64 = 64;
const LENGTH: usize = 40;

/// The last acknowledged commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Testimony {
    /// How often a witness was written.
    pub(super) turn: u64,
    /// The first position of the segment of the commit.
    pub(super) segment: u64,
    /// Where the commit's frame ends in that segment.
    pub(super) end: u64,
    /// Frames up to here, over all segments.
    pub(super) frames: u64,
    /// A running CRC32C over the checksums of all frames.
    pub(super) digest: u32,
}

/// How far the log has come: its frames up to here, and their running digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) frames: u64,
    pub(super) digest: u32,
}

impl Mark {
    /// Goes on by a frame of this checksum.
    #[must_use]
    pub(super) fn then(self, checksum: u32) -> Self {
        let digest = crc32c::crc32c_append(self.digest, &checksum.to_le_bytes());
        Self { frames: self.frames + 1, digest }
    }
}

/// The witness file.
#[derive(Debug)]
pub(super) struct Witness {
    file: Arc<dyn DiskFile>,
}

impl Witness {
    /// Opens the witness of a folder and reads the newest sound slot.
    pub(super) fn open(
        disk: &dyn Disk,
        folder: &Path,
        create: bool,
    ) -> io::Result<(Self, Option<Testimony>)> {
        let file: Arc<dyn DiskFile> = Arc::from(disk.open(&folder.join("witness"), create)?);
        let slots = [0, SLOT].map(|at| read_full(file.as_ref(), at, LENGTH));
        let mut newest = None;
        for slot in slots {
            newest = newest.max(decode(&slot?));
        }
        Ok((Self { file }, newest.map(|Newest(testimony)| testimony)))
    }

    /// Writes a testimony, without a sync.
    pub(super) fn write(&self, testimony: &Testimony) -> io::Result<()> {
        self.file.write_at(&encode(testimony), (testimony.turn % 2) * SLOT)
    }

    /// Makes the last testimony durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Reads the newest testimony of a folder, if there is a sound one.
pub(super) fn read(disk: &dyn Disk, folder: &Path) -> io::Result<Option<Testimony>> {
    Witness::open(disk, folder, false).map(|(_, testimony)| testimony)
}

#[derive(Debug, PartialEq, Eq)]
struct Newest(Testimony);

impl PartialOrd for Newest {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Newest {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.turn.cmp(&other.0.turn)
    }
}

fn encode(testimony: &Testimony) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH);
    for word in [testimony.turn, testimony.segment, testimony.end, testimony.frames] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&testimony.digest.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Newest> {
    let (content, own) = bytes.get(..LENGTH)?.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*own) {
        return None;
    }
    let word = |place: usize| {
        let bytes = content.get(place * 8..place * 8 + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let digest = u32::from_le_bytes(content.get(32..36)?.try_into().ok()?);
    let (turn, segment, end, frames) = (word(0)?, word(1)?, word(2)?, word(3)?);
    Some(Newest(Testimony { turn, segment, end, frames, digest }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::RealDisk;

    #[test]
    fn the_newest_sound_slot_speaks() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Witness::open(&RealDisk, folder.path(), true).unwrap();
        let (witness, none) = open();
        assert_eq!(none, None);
        for turn in 1..=3 {
            let testimony = Testimony { turn, end: turn * 10, ..Testimony::default() };
            witness.write(&testimony).unwrap();
            assert_eq!(open().1, Some(testimony));
        }
        // A torn write of turn 4 leaves turn 3.
        witness.file.write_at(&[9; 7], 0).unwrap();
        assert_eq!(open().1.map(|testimony| testimony.turn), Some(3));
        witness.sync().unwrap();
    }
}
