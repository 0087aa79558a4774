//! Documents on disk, in fjall.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use infra_core::{Clock, Error, ErrorKind, Result, SystemClock};

use crate::{
    disk::Disk,
    documents::{Documents, Setup},
    engine::Engine,
    judge::io_error,
    layout,
    telemetry::POISONED,
    witness::{Mark, Witness},
};

const OPEN: &str = "open document store";

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    accepts_loss: bool,
    history: u64,
    write_buffer: u64,
}

/// How much is written before it goes from memory to a table, in bytes.
const WRITE_BUFFER: u64 = 64 * 1024 * 1024;

impl Options {
    /// Creates the options of a store in `folder`, which is made if it is not there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            clock: SystemClock::shared(),
            accepts_loss: false,
            history: 0,
            write_buffer: WRITE_BUFFER,
        }
    }

    /// Sets how many bytes of what is written stay in memory, beside the journal, before they go to a
    /// sorted table; 64 MiB by default. It is taken when the store is made. Less costs more writing.
    #[must_use]
    pub const fn write_buffer(mut self, bytes: u64) -> Self {
        self.write_buffer = bytes;
        self
    }

    /// Sets where times come from; the system's clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Keeps the newest `versions` of each document; none beside the present one by default.
    /// Each put writes its value twice then.
    #[must_use]
    pub const fn history(mut self, versions: u64) -> Self {
        self.history = versions;
        self
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens the store even if the witness knows of commits that it has no more; the report says
    /// how many. By default it is refused.
    #[must_use]
    pub const fn accept_loss(mut self) -> Self {
        self.accepts_loss = true;
        self
    }
}

/// What was found when a store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// Commits that the store has.
    pub commits: u64,
    /// Commits that were acknowledged as durable and are gone.
    pub lost: u64,
}

/// Opens a document store on disk.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] if commits that were acknowledged are missing or the last one is another
/// than the witness saw; [`ErrorKind::Unsupported`] if a later version of this crate has laid it out;
/// [`ErrorKind::Unavailable`] if another process holds the folder, or a store of
/// this one that was not [closed](Documents::close), or if the disk fails.
///
/// # Cancel safety
///
/// Dropping the future lets the opening finish in the background and closes the store again.
pub async fn embedded(options: Options) -> Result<(Documents, OpenReport)> {
    let opening = tokio::task::spawn_blocking(move || open(&options));
    opening.await.unwrap_or_else(|cause| Err(Error::new(ErrorKind::Internal, OPEN).because(cause)))
}

/// Makes a database in a folder from the records that `next` gives, and returns how many there were.
pub(crate) fn fill(folder: &Path, group: usize, next: &mut Source<'_>) -> io::Result<u64> {
    std::fs::create_dir_all(folder)?;
    let engine = Disk::open(folder, None, WRITE_BUFFER)?;
    let (mut count, mut is_over) = (0, false);
    while !is_over {
        let mut changes = Vec::with_capacity(group);
        while !is_over && changes.len() < group {
            match next()? {
                Some((key, value)) => changes.push((key, Some(value))),
                None => is_over = true,
            }
        }
        count += changes.len() as u64;
        engine.apply(changes)?;
    }
    engine.sync()?;
    Ok(count)
}

/// Gives one key and value after the other.
pub(crate) type Source<'a> = dyn FnMut() -> io::Result<Option<(Vec<u8>, Vec<u8>)>> + 'a;

fn open(options: &Options) -> Result<(Documents, OpenReport)> {
    let failed = |cause: io::Error| Error::new(ErrorKind::Unavailable, OPEN).because(cause);
    std::fs::create_dir_all(&options.folder).map_err(failed)?;
    let lock = lock(&options.folder)?;
    let (witness, witnessed) = Witness::open(&options.folder.join("witness")).map_err(failed)?;
    let engine = Disk::open(&options.folder, Some(lock), options.write_buffer)
        .map_err(|cause| io_error(OPEN, cause))?;
    let is_new = !has_layout(&engine)?;
    if is_new {
        let version = layout::VERSION.to_le_bytes().to_vec();
        engine.apply(vec![(layout::LAYOUT.to_vec(), Some(version))]).map_err(failed)?;
    }
    // What the engine recovered is made durable before anything is read from it.
    engine.sync().map_err(failed)?;
    let mark = last_commit(&engine)?;
    let report = compare(mark, witnessed.unwrap_or_default(), options.accepts_loss)?;
    witness.write(mark).and_then(|()| witness.sync()).map_err(failed)?;
    POISONED.set(0.0);
    let (clock, history) = (Arc::clone(&options.clock), options.history);
    let setup = Setup { clock, mark, witness: Some(witness), history };
    Ok((Documents::start(Arc::new(engine), setup)?, report))
}

fn lock(folder: &Path) -> Result<File> {
    let failed = |cause: io::Error| Error::new(ErrorKind::Unavailable, OPEN).because(cause);
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(failed)?;
    file.try_lock().map_err(|cause| {
        Error::new(ErrorKind::Unavailable, OPEN)
            .detail(format!(
                "{} is held by another process, or by a store of this one that was not closed",
                path.display()
            ))
            .because(cause)
    })?;
    Ok(file)
}

/// Returns whether the store says which layout it has; refuses one that is not known.
fn has_layout(engine: &dyn Engine) -> Result<bool> {
    let found = engine
        .get(layout::LAYOUT)
        .map_err(|cause| Error::new(ErrorKind::Corrupt, OPEN).because(cause))?;
    let Some(found) = found else { return Ok(false) };
    let version = found.try_into().map_or(u32::MAX, u32::from_le_bytes);
    if version <= layout::VERSION {
        return Ok(true);
    }
    let detail = format!("the layout has version {version}, known is {}", layout::VERSION);
    Err(Error::new(ErrorKind::Unsupported, OPEN).detail(detail))
}

fn last_commit(engine: &dyn Engine) -> Result<Mark> {
    let found = engine
        .get(layout::COMMIT)
        .map_err(|cause| Error::new(ErrorKind::Corrupt, OPEN).because(cause))?;
    let Some(found) = found else { return Ok(Mark::default()) };
    Mark::decode(&found).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, OPEN).detail("the last commit's number is damaged")
    })
}

/// Holds what the store has against what the witness saw.
fn compare(has: Mark, saw: Mark, accepts_loss: bool) -> Result<OpenReport> {
    let lost = saw.commit.saturating_sub(has.commit);
    let is_other = has.commit == saw.commit && has.digest != saw.digest;
    if (0 < lost || is_other) && !accepts_loss {
        let detail = if is_other {
            format!("commit {} is another one than the witness saw", has.commit)
        } else {
            format!("{lost} commits after commit {} are missing", has.commit)
        };
        return Err(Error::new(ErrorKind::Corrupt, OPEN).detail(detail));
    }
    Ok(OpenReport { commits: has.commit, lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_witness_tells_a_loss_from_an_unfinished_write() {
        let mark = |commit, digest| Mark { commit, digest };
        assert_eq!(compare(mark(7, 1), mark(7, 1), false).unwrap().lost, 0);
        assert_eq!(compare(mark(9, 2), mark(7, 1), false).unwrap().commits, 9);
        let lost = compare(mark(5, 2), mark(7, 1), false).unwrap_err();
        assert!(lost.to_string().contains("2 commits after commit 5"), "{lost}");
        assert!(compare(mark(7, 2), mark(7, 1), false).is_err());
        assert_eq!(compare(mark(5, 2), mark(7, 1), true).unwrap().lost, 2);
    }
    #[tokio::test]
    async fn a_layout_of_a_later_version_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = embedded(Options::new(folder.path())).await.unwrap();
        store.close().await;
        drop(store);
        let later = vec![(layout::LAYOUT.to_vec(), Some(2_u32.to_le_bytes().to_vec()))];
        let database = Disk::open(folder.path(), None, WRITE_BUFFER).unwrap();
        database.apply(later).and_then(|()| database.sync()).unwrap();
        drop(database);
        let witness = std::fs::read(folder.path().join("witness")).unwrap();
        let refused = embedded(Options::new(folder.path())).await.unwrap_err();
        assert_eq!(refused.kind(), &ErrorKind::Unsupported);
        assert!(refused.to_string().contains("version 2, known is 1"), "{refused}");
        assert_eq!(std::fs::read(folder.path().join("witness")).unwrap(), witness);
        let database = Disk::open(folder.path(), None, WRITE_BUFFER).unwrap();
        assert_eq!(database.get(layout::LAYOUT).unwrap().unwrap(), 2_u32.to_le_bytes());
    }
}
