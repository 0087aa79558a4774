//! Online backup of a document store into one file, and its restoration.
//!
//! ```text
//! magic | records: key length u32, value length u32, chain u32, key, value | end
//! ```
//!
//! The chain is a CRC32C over everything before, so that a record that is missing, moved or changed
//! is noticed; the end is a record of the length `u32::MAX` whose value is the count of records.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use infra_core::{Error, ErrorKind, Result};

use crate::{
    documents::Documents,
    embedded::{Options, fill},
    judge::io_error,
};

const MAGIC: &[u8; 8] = b"IPBACK01";
const BACK_UP: &str = "back up documents";
const RESTORE: &str = "restore documents";
const END: u32 = u32::MAX;

/// How many records are applied together when a store is restored.
const GROUP: usize = 1_000;

impl Documents {
    /// Writes all documents, indexes, kept versions and fences, as they are at one instant, to a file,
    /// while reads and writes go on; returns how many records it holds.
    ///
    /// The file appears under its name whole, after it was synced; one that was there is replaced.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if a disk fails, [`Corrupt`](ErrorKind::Corrupt) if
    /// the store is damaged.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the backup finish in the background.
    pub async fn backup(&self, to: impl AsRef<Path>) -> Result<u64> {
        let (engine, to) = (self.engine(), to.as_ref().to_owned());
        let writing = tokio::task::spawn_blocking(move || {
            let draft = draft(&to);
            let count =
                write(&mut BufWriter::new(File::create(&draft)?), |visit| engine.dump(visit))?;
            std::fs::rename(&draft, &to)?;
            sync_folder(&to)?;
            Ok(count)
        });
        let died = |cause| Error::new(ErrorKind::Internal, BACK_UP).because(cause);
        writing.await.map_err(died)?.map_err(|cause| io_error(BACK_UP, cause))
    }
}

/// Makes the store of `options` from a backup; its folder may not be there yet. Open it afterwards.
/// Returns how many records it holds.
///
/// The folder appears under its name whole, after everything in it was synced.
///
/// # Errors
///
/// [`Corrupt`](ErrorKind::Corrupt) if the file is damaged or unfinished, [`Invalid`](ErrorKind::Invalid)
/// if the folder is there already, [`Unavailable`](ErrorKind::Unavailable) if a disk fails.
///
/// # Cancel safety
///
/// Dropping the future lets the restoration finish in the background.
pub async fn restore(from: impl AsRef<Path>, options: Options) -> Result<u64> {
    let from = from.as_ref().to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let folder = options.folder();
        if folder.exists() {
            let detail = format!("{} is there already", folder.display());
            return Err(Error::invalid(RESTORE, detail));
        }
        let failed = |cause| io_error(RESTORE, cause);
        let draft = draft(folder);
        if draft.exists() {
            std::fs::remove_dir_all(&draft).map_err(failed)?;
        }
        // The whole file is checked before anything is made of it.
        let mut reader = Reader::open(&from).map_err(failed)?;
        while reader.next().map_err(failed)?.is_some() {}
        let mut reader = Reader::open(&from).map_err(failed)?;
        let count = fill(&draft, GROUP, &mut || reader.next()).map_err(failed)?;
        std::fs::rename(&draft, folder).map_err(failed)?;
        sync_folder(folder).map_err(failed)?;
        Ok(count)
    });
    reading
        .await
        .unwrap_or_else(|cause| Err(Error::new(ErrorKind::Internal, RESTORE).because(cause)))
}

fn draft(of: &Path) -> PathBuf {
    let mut name = of.as_os_str().to_owned();
    name.push(".unfinished");
    PathBuf::from(name)
}

fn sync_folder(of: &Path) -> io::Result<()> {
    let folder = of.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

type Dump<'a> = &'a mut (dyn FnMut(&[u8], &[u8]) -> bool + 'a);

fn write(
    file: &mut BufWriter<File>,
    dump: impl FnOnce(Dump<'_>) -> io::Result<()>,
) -> io::Result<u64> {
    file.write_all(MAGIC)?;
    let (mut chain, mut count, mut failed) = (0, 0_u64, None);
    let mut visit = |key: &[u8], value: &[u8]| {
        failed = record(file, &mut chain, (key, value)).err();
        count += 1;
        failed.is_none()
    };
    dump(&mut visit)?;
    if let Some(cause) = failed {
        return Err(cause);
    }
    let end = count.to_le_bytes();
    chain = crc32c::crc32c_append(chain, &end);
    file.write_all(&END.to_le_bytes())?;
    file.write_all(&[8, 0, 0, 0])?;
    file.write_all(&chain.to_le_bytes())?;
    file.write_all(&end)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok(count)
}

fn record(
    file: &mut BufWriter<File>,
    chain: &mut u32,
    (key, value): (&[u8], &[u8]),
) -> io::Result<()> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
    let lengths = [length(key)?.to_le_bytes(), length(value)?.to_le_bytes()].concat();
    for bytes in [&lengths[..], key, value] {
        *chain = crc32c::crc32c_append(*chain, bytes);
    }
    file.write_all(&lengths)?;
    file.write_all(&chain.to_le_bytes())?;
    file.write_all(key)?;
    file.write_all(value)
}

/// Reads a backup record by record.
struct Reader {
    file: BufReader<File>,
    chain: u32,
    count: u64,
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Reader {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(damaged("this is no backup"));
        }
        Ok(Self { file, chain: 0, count: 0 })
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads bytes of a length that may be forged: no more is reserved than there is.
    fn bytes(&mut self, length: u32) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.by_ref().take(u64::from(length)).read_to_end(&mut bytes)?;
        if bytes.len() < length as usize {
            return Err(damaged("the backup is cut off"));
        }
        Ok(bytes)
    }

    /// Returns the next record, or none at the sound end.
    fn next(&mut self) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let (key_length, value_length, chain) = (self.number()?, self.number()?, self.number()?);
        if key_length == END {
            let end = self.bytes(8.min(value_length))?;
            let is_sound = value_length == 8
                && crc32c::crc32c_append(self.chain, &end) == chain
                && end == self.count.to_le_bytes();
            return if is_sound { Ok(None) } else { Err(damaged("the end does not fit")) };
        }
        let (key, value) = (self.bytes(key_length)?, self.bytes(value_length)?);
        let lengths = [key_length.to_le_bytes(), value_length.to_le_bytes()].concat();
        for bytes in [&lengths, &key, &value] {
            self.chain = crc32c::crc32c_append(self.chain, bytes);
        }
        if self.chain != chain {
            return Err(damaged("a record fails its checksum"));
        }
        self.count += 1;
        Ok(Some((key, value)))
    }
}
