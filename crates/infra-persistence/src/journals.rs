//! The journals of a database that is closed to be opened again: whether it wrote all that it had, nobody
//! holds them any more, and what was written is on the disk.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
    time::Duration,
};

/// How much room there must be before a database is opened again, in bytes.
const ROOM: usize = 1024 * 1024;

/// How often it is looked whether a journal is still held, and how long is waited in between.
const LOOKS: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(1);

/// Returns whether a folder takes a megabyte; fails as a write would.
pub(crate) fn find_room(folder: &Path) -> io::Result<()> {
    let path = folder.join("room");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0; ROOM])?;
        file.sync_all()
    });
    // A disk without room for the file's name has none of it.
    let _is_gone = fs::remove_file(&path).is_ok();
    written
}

/// The journals of a database, opened while it still is: so a sync that failed since then is told here, too,
/// even if it was the database's own and nobody heard of it.
#[derive(Debug)]
pub(crate) struct Journals(Vec<File>);

impl Journals {
    /// Opens what a database writes at present.
    pub(crate) fn open(database: &Path) -> io::Result<Self> {
        let mut all = Vec::new();
        for entry in fs::read_dir(database)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "jnl") {
                all.push(File::open(path)?);
            }
        }
        Ok(Self(all))
    }

    /// Waits until nobody else in this process holds one: a database that is dropped is let go of by threads
    /// of its own, the last of which writes what it had not written yet.
    ///
    /// Fails with [`TimedOut`](io::ErrorKind::TimedOut) after a second.
    pub(crate) fn wait_until_free(&self) -> io::Result<()> {
        for _ in 0..LOOKS {
            if !self.are_held()? {
                return Ok(());
            }
            wait(PAUSE);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the journal is still held"))
    }

    fn are_held(&self) -> io::Result<bool> {
        let own: Vec<String> = self.0.iter().map(|file| file.as_raw_fd().to_string()).collect();
        let mut journals = Vec::with_capacity(self.0.len());
        for file in &self.0 {
            let file = file.metadata()?;
            journals.push((file.dev(), file.ino()));
        }
        for entry in fs::read_dir("/proc/self/fd")? {
            let entry = entry?;
            let is_own = own.iter().any(|own| entry.file_name().to_str() == Some(own));
            // One that was closed meanwhile is none.
            let Ok(file) = fs::metadata(entry.path()) else { continue };
            if !is_own && journals.contains(&(file.dev(), file.ino())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes durable what was written, and fails if that failed for anyone since these were opened.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.iter().try_for_each(File::sync_all)
    }
}

#[expect(clippy::disallowed_methods, reason = "the store's own thread has nothing else to do")]
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_held_as_long_as_anybody_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let writer = File::create(folder.path().join("0.jnl")).unwrap();
        File::create(folder.path().join("lock")).unwrap();
        let journals = Journals::open(folder.path()).unwrap();
        assert_eq!(journals.0.len(), 1);
        assert!(journals.are_held().unwrap());
        drop(writer);
        journals.wait_until_free().unwrap();
        journals.sync().unwrap();
    }

    #[test]
    fn a_folder_in_which_room_was_found_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        find_room(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(find_room(&folder.path().join("none")).is_err());
    }
}
