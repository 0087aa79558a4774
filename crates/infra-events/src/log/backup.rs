//! Online backup: everything that was acknowledged, copied while appends go on.

use std::{io, path::Path};

use infra_core::{Error, ErrorKind, Result, version::Position};

use super::{
    disk::{Disk, DiskFile, read_full},
    options::Options,
    recovery::{self, RecoveryReport},
    segment,
    witness::{self, Testimony, Witness},
};

const BACKUP: &str = "back up event log";

/// How many bytes are copied at a time.
const PIECE: u64 = 1024 * 1024;

/// Copies a log up to its last acknowledged commit, and checks every frame of the copy.
pub(super) fn copy(options: &Options, to: &Path) -> Result<RecoveryReport> {
    let disk = options.disk.as_ref();
    copy_files(disk, &options.folder, to)?;
    let copied = Options { folder: to.to_owned(), ..options.clone() };
    recovery::check(&copied)
}

fn copy_files(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    let fail = |cause: io::Error| Error::new(ErrorKind::Unavailable, BACKUP).because(cause);
    disk.create_folder(to).map_err(fail)?;
    let is_taken = disk.list(to).map_err(fail)?.iter().any(|name| segment_of(name).is_some());
    if is_taken {
        return Err(Error::invalid(BACKUP, format!("{} holds a log already", to.display())));
    }
    // Frames up to the testimony are whole and never change, whatever is written meanwhile.
    let testimony = witness::read(disk, from).map_err(fail)?;
    let testimony = testimony
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, BACKUP).detail("there is no witness"))?;
    for name in disk.list(from).map_err(fail)? {
        let Some(first) = segment_of(&name) else { continue };
        if first.get() <= testimony.segment {
            copy_segment(disk, (&from.join(&name), &to.join(&name)), first, &testimony)
                .map_err(fail)?;
        }
    }
    let (witness, _) = Witness::open(disk, to, true).map_err(fail)?;
    witness.write(&testimony).and_then(|()| witness.sync()).map_err(fail)?;
    disk.sync_folder(to).map_err(fail)
}

fn segment_of(name: &str) -> Option<Position> {
    segment::first_position(name)
}

fn copy_segment(
    disk: &dyn Disk,
    (from, to): (&Path, &Path),
    first: Position,
    testimony: &Testimony,
) -> io::Result<()> {
    let source: Box<dyn DiskFile> = disk.open(from, false)?;
    let target = disk.open(to, true)?;
    let length = source.length()?;
    let end = if first.get() == testimony.segment { testimony.end.min(length) } else { length };
    target.allocate(length)?;
    let mut at = 0;
    while at < end {
        let piece = usize::try_from(PIECE.min(end - at)).unwrap_or(usize::MAX);
        let bytes = read_full(source.as_ref(), at, piece)?;
        if bytes.is_empty() {
            break;
        }
        target.write_at(&bytes, at)?;
        at += bytes.len() as u64;
    }
    target.sync()
}
