//! A copy of a data folder, made while its server runs.

use std::{fmt, fs, io, path::Path};

use infra_core::{Error, ErrorKind, Result};
use infra_events::{LogEventStore, Options};

use crate::checksums::Checksums;

const BACKUP: &str = "back up data folder";

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The position of the last event.
    pub events: u64,
    /// Commits of the log.
    pub commits: u64,
    /// Archived games.
    pub archived: u64,
}

impl fmt::Display for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, commits, archived } = self;
        write!(f, "{events} events in {commits} commits, {archived} archived games")
    }
}

/// Copies everything of `data` that cannot be made anew to `to`: events, archive, the keys of people and
/// those of tokens.
///
/// The events are those that were acknowledged when the copying began; every byte of them is
/// checked. The server may run meanwhile. `SHA256SUMS` is written last, so that a copy without it is
/// no finished one.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] if `to` holds events already, [`ErrorKind::NotFound`] if `data` holds none,
/// [`ErrorKind::Corrupt`] if they are damaged, [`ErrorKind::Unavailable`] if the disk fails.
///
/// # Cancel safety
///
/// Dropping the future lets the copying of the events finish in the background.
pub async fn backup(data: &Path, to: &Path) -> Result<Backup> {
    let made = copy(data, to).await?;
    Checksums::of(to).and_then(|sums| sums.write(to)).map_err(failed)?;
    sync(to).map_err(failed)?;
    Ok(made)
}

/// Copies a data folder as [`backup`] does, without `SHA256SUMS`.
pub(crate) async fn copy(data: &Path, to: &Path) -> Result<Backup> {
    let log = data.join("events");
    if !log.is_dir() {
        let what = format!("{} holds no events", data.display());
        return Err(Error::new(ErrorKind::NotFound, BACKUP).detail(what));
    }
    if to.join("events").exists() {
        return Err(Error::invalid(BACKUP, format!("{} holds events already", to.display())));
    }
    // No game is in the copied archive whose end is not among the copied events.
    let archived = copy_objects(&data.join("archive"), &to.join("archive")).map_err(failed)?;
    let report = LogEventStore::backup_of(Options::new(log), to.join("events")).await?;
    // After the events: a key is there before the event that needs it.
    copy_people(&data.join("people"), &to.join("people")).map_err(failed)?;
    copy_keys(&data.join("keys.json"), &to.join("keys.json")).map_err(failed)?;
    // The names in the folder itself, the keys' last of all.
    sync(to).map_err(failed)?;
    Ok(Backup { events: report.events, commits: report.commits, archived })
}

fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Copies the objects below a folder, and returns how many; they are written once and never change.
fn copy_objects(from: &Path, to: &Path) -> io::Result<u64> {
    if !from.is_dir() {
        return Ok(0);
    }
    fs::create_dir_all(to)?;
    let mut copied = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copied += copy_objects(&entry.path(), &target)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "json") {
            // Anything else is an object that is being written.
            fs::copy(entry.path(), &target)?;
            fs::File::open(&target)?.sync_all()?;
            copied += 1;
        }
    }
    sync(to)?;
    Ok(copied)
}

/// Copies the keys of people with their permissions.
fn copy_people(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        // A file that is being written, or that is forgotten meanwhile, is none of the copy.
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match fs::copy(entry.path(), to.join(&name)) {
            Ok(_) => fs::File::open(to.join(&name))?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    sync(to)
}

/// Copies the keys with their permissions; without keys, tokens of before are refused by the copy.
fn copy_keys(from: &Path, to: &Path) -> io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    fs::copy(from, to)?;
    fs::File::open(to)?.sync_all()
}

fn failed(cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, BACKUP).because(cause)
}
