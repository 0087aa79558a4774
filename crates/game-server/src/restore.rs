//! A data folder made of a backup, after every byte of the backup was checked.

use std::{fs, io, path::Path};

use infra_core::{Error, ErrorKind, Result};

use crate::{
    backup::{Backup, copy},
    checksums::Checksums,
    verify::verify,
};

const RESTORE: &str = "restore data folder";

/// Makes the data folder `data` of the backup in `from`, and returns what it holds.
///
/// Nothing is written before the backup was found to be finished and sound.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] if `data` holds anything, [`ErrorKind::NotFound`] if `from` is no finished
/// backup, [`ErrorKind::Corrupt`] with the file if one was changed, removed or added since,
/// [`ErrorKind::Unavailable`] if the disk fails.
///
/// # Cancel safety
///
/// Dropping the future lets the copying of the events finish in the background; what is in `data`
/// then is to be removed.
pub async fn restore(from: &Path, data: &Path) -> Result<Backup> {
    if holds_anything(data).map_err(failed)? {
        return Err(Error::invalid(RESTORE, format!("{} is not empty", data.display())));
    }
    let Some(written) = Checksums::read(from).map_err(failed)? else {
        let what = format!("{} is no finished backup: it has no SHA256SUMS", from.display());
        return Err(Error::new(ErrorKind::NotFound, RESTORE).detail(what));
    };
    let found = Checksums::of(from).map_err(failed)?;
    if let Some(name) = written.difference(&found) {
        return Err(corrupt(format!("{name} is not as it was backed up")));
    }
    let verdict = verify(from.join("events")).await?;
    if !verdict.is_sound() {
        return Err(corrupt(verdict.to_string()));
    }
    copy(from, data).await
}

fn holds_anything(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn corrupt(what: String) -> Error {
    Error::new(ErrorKind::Corrupt, RESTORE).detail(what)
}

fn failed(cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, RESTORE).because(cause)
}
