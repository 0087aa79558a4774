//! The witness: the last synced commit, kept beside the database.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// A commit's number with a running digest of all changes up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mark {
    pub(crate) commit: u64,
    pub(crate) digest: u32,
}

const LENGTH: usize = 16;
const SLOT: u64 = 64;

impl Mark {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = self.commit.to_le_bytes().to_vec();
        bytes.extend(self.digest.to_le_bytes());
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, own) = bytes.get(..LENGTH)?.split_last_chunk::<4>()?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*own) {
            return None;
        }
        let (commit, digest) = content.split_first_chunk::<8>()?;
        let digest = u32::from_le_bytes(digest.try_into().ok()?);
        Some(Self { commit: u64::from_le_bytes(*commit), digest })
    }
}

/// The witness file: two slots, written in turn.
#[derive(Debug)]
pub(crate) struct Witness(File);

impl Witness {
    /// Opens the file and reads its newest sound slot.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Mark>)> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut newest = None;
        for slot in [0, SLOT] {
            let mut bytes = [0; LENGTH];
            if file.read_exact_at(&mut bytes, slot).is_ok() {
                newest = newest.max(Mark::decode(&bytes));
            }
        }
        Ok((Self(file), newest))
    }

    /// Writes a mark, without a sync.
    pub(crate) fn write(&self, mark: Mark) -> io::Result<()> {
        self.0.write_all_at(&mark.encode(), (mark.commit % 2) * SLOT)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
