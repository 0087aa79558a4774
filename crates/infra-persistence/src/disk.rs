//! The engine on disk: fjall, which is opened anew in its place after a write found no room.
//!
//! A database takes nothing more after a write that failed, whatever it failed with. What it had applied until
//! then is in its journal or in a buffer, which it writes as it is dropped; of the changes that found no room
//! the journal's end has a part at most, which is cut off as it is opened again. So with room a closed and
//! opened database has all that was applied, which [`Engine::revive`] makes sure of, and nothing else.
//!
//! ```text
//!          close, once there is room             opened, synced and whole
//!   Open ------------------------------> Closed ---------------------------> Open
//!                                         |  ^
//!                                         +--+ no room after all, or still held
//! ```

use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _};
use parking_lot::{Mutex, RwLock};

use crate::{
    engine::{Change, Engine, Range, Target, Visit, VisitTarget},
    journals::{Journals, find_room},
};

/// How long readers may keep the database from being closed; who comes meanwhile waits as long.
const PATIENCE: Duration = Duration::from_millis(20);

/// A database in a folder.
#[derive(Debug)]
pub(crate) struct Disk {
    place: RwLock<Place>,
    /// Set as soon as the database found no room, so that a sync that it makes later, and that fails, is
    /// heard of.
    journals: Mutex<Option<Arc<Journals>>>,
    folder: PathBuf,
    write_buffer: u64,
    _lock: Option<File>,
}

#[derive(Debug)]
enum Place {
    Open(Opened),
    Closed,
}

struct Opened {
    database: Database,
    map: Keyspace,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened")
    }
}

/// Tells damage from a failing disk.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not damage is an outage")]
fn io_of(error: fjall::Error) -> io::Error {
    use fjall::Error as Cause;
    match error {
        Cause::Io(cause) => cause,
        held @ Cause::Locked => io::Error::new(io::ErrorKind::WouldBlock, held),
        damage @ (Cause::Storage(_)
        | Cause::JournalRecovery(_)
        | Cause::InvalidVersion(_)
        | Cause::Decompress(_)
        | Cause::InvalidTrailer
        | Cause::InvalidTag(_)
        | Cause::Unrecoverable) => io::Error::new(io::ErrorKind::InvalidData, damage),
        other => io::Error::other(other),
    }
}

/// Says that an attempt was the last, whatever it failed with.
fn for_good(cause: io::Error) -> io::Error {
    io::Error::other(cause)
}

impl Opened {
    fn open(folder: &Path, write_buffer: u64) -> io::Result<Self> {
        let builder = Database::builder(database(folder)).manual_journal_persist(true);
        let database = builder.open().map_err(io_of)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(write_buffer);
        let map = database.keyspace("documents", options).map_err(io_of)?;
        Ok(Self { database, map })
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let found = self.map.get(key).map_err(io_of)?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn visit(&self, range: Range, is_reverse: bool, visit: &mut Visit<'_>) -> io::Result<()> {
        let mut entries = self.map.range(range);
        while let Some(entry) = if is_reverse { entries.next_back() } else { entries.next() } {
            let (key, value) = entry.into_inner().map_err(io_of)?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn visit_targets(
        &self,
        range: Range,
        is_reverse: bool,
        target: &Target<'_>,
        visit: &mut VisitTarget<'_>,
    ) -> io::Result<()> {
        let instant = self.database.snapshot();
        let mut entries = instant.range(&self.map, range);
        while let Some(entry) = if is_reverse { entries.next_back() } else { entries.next() } {
            let key = entry.key().map_err(io_of)?;
            let value = match target(&key) {
                Some(target) => instant.get(&self.map, target).map_err(io_of)?,
                None => None,
            };
            if !visit(&key, value.as_deref()) {
                break;
            }
        }
        Ok(())
    }

    fn dump(&self, visit: &mut Visit<'_>) -> io::Result<()> {
        for entry in self.database.snapshot().iter(&self.map) {
            let (key, value) = entry.into_inner().map_err(io_of)?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> io::Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.map, key, value),
                None => batch.remove(&self.map, key),
            }
        }
        batch.commit().map_err(io_of)
    }

    fn persist(&self, mode: PersistMode) -> io::Result<()> {
        self.database.persist(mode).map_err(io_of)
    }
}

fn database(folder: &Path) -> PathBuf {
    folder.join("database")
}

impl Disk {
    /// Opens the database in a folder, and holds the lock as long as it is there.
    pub(crate) fn open(folder: &Path, lock: Option<File>, write_buffer: u64) -> io::Result<Self> {
        let place = RwLock::new(Place::Open(Opened::open(folder, write_buffer)?));
        Ok(Self {
            place,
            journals: Mutex::default(),
            folder: folder.to_owned(),
            write_buffer,
            _lock: lock,
        })
    }

    fn with<T>(&self, ask: impl FnOnce(&Opened) -> io::Result<T>) -> io::Result<T> {
        match &*self.place.read() {
            Place::Open(opened) => ask(opened),
            Place::Closed => {
                let detail = "the database is being opened anew";
                Err(io::Error::new(io::ErrorKind::WouldBlock, detail))
            }
        }
    }

    /// Passes on what a write said.
    fn watch<T>(&self, said: io::Result<T>) -> io::Result<T> {
        if said.is_err() {
            // What cannot be opened now is tried again before the database is closed.
            let _are_open = self.journals().is_ok();
        }
        said
    }

    fn journals(&self) -> io::Result<Arc<Journals>> {
        let mut journals = self.journals.lock();
        if let Some(journals) = &*journals {
            return Ok(Arc::clone(journals));
        }
        let open = Arc::new(Journals::open(&database(&self.folder))?);
        *journals = Some(Arc::clone(&open));
        Ok(open)
    }

    /// Closes the database, unless it is.
    fn close(&self) -> io::Result<()> {
        let held = || io::Error::new(io::ErrorKind::WouldBlock, "the database is read");
        let mut place = self.place.try_write_for(PATIENCE).ok_or_else(held)?;
        let opened = std::mem::replace(&mut *place, Place::Closed);
        // To close takes a while, in which who reads is told so and does not wait.
        drop(place);
        drop(opened);
        Ok(())
    }
}

impl Engine for Disk {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.with(|opened| opened.get(key))
    }

    fn visit(&self, range: Range, is_reverse: bool, visit: &mut Visit<'_>) -> io::Result<()> {
        self.with(|opened| opened.visit(range, is_reverse, visit))
    }

    fn visit_targets(
        &self,
        range: Range,
        is_reverse: bool,
        target: &Target<'_>,
        visit: &mut VisitTarget<'_>,
    ) -> io::Result<()> {
        self.with(|opened| opened.visit_targets(range, is_reverse, target, visit))
    }

    fn dump(&self, visit: &mut Visit<'_>) -> io::Result<()> {
        self.with(|opened| opened.dump(visit))
    }

    fn apply(&self, changes: Vec<Change>) -> io::Result<()> {
        self.watch(self.with(|opened| opened.apply(changes)))
    }

    fn flush(&self) -> io::Result<()> {
        self.watch(self.with(|opened| opened.persist(PersistMode::Buffer)))
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|opened| opened.persist(PersistMode::SyncAll))
    }

    fn revive(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        find_room(&self.folder)?;
        let journals = self.journals()?;
        self.close()?;
        journals.wait_until_free()?;
        journals.sync().map_err(for_good)?;
        let opened = Opened::open(&self.folder, self.write_buffer)?;
        opened.persist(PersistMode::SyncAll).map_err(for_good)?;
        if opened.get(key)?.as_deref() != value {
            let detail = "what was applied is not what the journal gave back";
            return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
        }
        *self.place.write() = Place::Open(opened);
        *self.journals.lock() = None;
        Ok(())
    }
}
