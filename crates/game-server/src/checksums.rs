//! `SHA256SUMS`: what the files of a backup were when it was made, as `sha256sum -c` reads it.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::Path};

use sha2::{Digest as _, Sha256};

const FILE: &str = "SHA256SUMS";

/// The digest of each file by its path below the folder.
///
/// The segments of the log are left out: each of their frames has a checksum of its own, and the
/// witness, which is in, holds a digest over all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checksums(BTreeMap<String, String>);

impl Checksums {
    /// Reads the files of a copy.
    ///
    /// # Errors
    ///
    /// What the file system fails with.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let mut sums = BTreeMap::new();
        for name in ["archive", "events/witness", "keys.json", "people"] {
            add(folder, name, &mut sums)?;
        }
        Ok(Self(sums))
    }

    /// Reads what was written when the copy was finished; `None` if it never was.
    ///
    /// # Errors
    ///
    /// What the file system fails with.
    pub(crate) fn read(folder: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(folder.join(FILE)) {
            Ok(text) => Ok(Some(Self(text.lines().filter_map(line).collect()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes them beside the files, synced.
    ///
    /// # Errors
    ///
    /// What the file system fails with.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let lines = self
            .0
            .iter()
            .fold(String::new(), |text, (name, digest)| text + digest + "  " + name + "\n");
        let path = folder.join(FILE);
        fs::write(&path, lines)?;
        fs::File::open(path)?.sync_all()
    }

    /// Returns the first file that is not the same in both: changed, missing or added.
    pub(crate) fn difference<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        let differs = |name: &&String| self.0.get(*name) != other.0.get(*name);
        self.0.keys().chain(other.0.keys()).find(differs).map(String::as_str)
    }
}

fn line(line: &str) -> Option<(String, String)> {
    let (digest, name) = line.split_once("  ")?;
    Some((name.to_owned(), digest.to_owned()))
}

fn add(folder: &Path, name: &str, sums: &mut BTreeMap<String, String>) -> io::Result<()> {
    let path = folder.join(name);
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            let below = entry?.file_name();
            add(folder, &format!("{name}/{}", below.to_string_lossy()), sums)?;
        }
        return Ok(());
    }
    if path.exists() {
        sums.insert(name.to_owned(), hex(&Sha256::digest(fs::read(path)?)));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _written = write!(text, "{byte:02x}").is_ok();
        text
    })
}
