//! `game-server archive`: archived games listed, read, copied back and removed, wherever they are.

use std::{io::Write, path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::{Args, Subcommand};
use infra_core::{
    Error, ErrorKind, Result,
    archive::{ArchiveStore, ObjectInfo},
    clock::Timestamp,
};
use infra_observability::log::rfc3339;
use infra_persistence::Archive;

use crate::config::{Backend, Role};

/// How many objects are listed at a time.
const PAGE: usize = 1_000;

const DAY: Duration = Duration::from_hours(24);

/// Which archive, and what is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Arguments {
    /// The archive: `file:FOLDER` or `s3://BUCKET/PREFIX?endpoint=URL&region=NAME`. The key of a
    /// bucket is the environment's: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`.
    #[arg(
        long,
        global = true,
        env = "GAME_SERVER_ARCHIVE",
        value_name = "URL",
        default_value = "file:data/archive"
    )]
    pub archive: String,
    /// What is to be done.
    #[command(subcommand)]
    pub task: Task,
}

/// What is done with archived games.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Task {
    /// Prints a line for each object: when it was stored, its length, its name.
    List {
        /// Which ones.
        #[command(flatten)]
        chosen: Chosen,
        /// Ends after so many.
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
    },
    /// Writes one object to standard output, or into a file that is not there yet.
    Get {
        /// The object's name, as `list` prints it.
        name: String,
        /// The file.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Copies objects into another archive. What is there already is never replaced: if it is
    /// another one, that is said and the command fails.
    Restore {
        /// Which ones.
        #[command(flatten)]
        chosen: Chosen,
        /// The other archive's URL.
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// Removes old objects for good. Without `--yes` it only says which ones.
    Purge {
        /// Which ones; `--older-than` is needed.
        #[command(flatten)]
        chosen: Chosen,
        /// Really removes them.
        #[arg(long, requires = "older_than")]
        yes: bool,
    },
}

/// Which objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Chosen {
    /// Those whose names begin so, up to a `/`.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub prefix: String,
    /// Those that were stored so many days ago or earlier.
    #[arg(long, value_name = "DAYS")]
    pub older_than: Option<u32>,
}

impl Chosen {
    fn takes(&self, info: &ObjectInfo, now: Timestamp) -> bool {
        let is_old = |days| DAY.saturating_mul(days) <= now.since(info.stored);
        self.older_than.is_none_or(is_old)
    }
}

/// Opens an archive as the server's option names it.
fn open(url: &str) -> Result<Archive> {
    const OPEN: &str = "open archive";
    match Backend::parse(Role::Archive, url).map_err(|why| Error::invalid(OPEN, why))? {
        Backend::Memory => Err(Error::invalid(OPEN, "memory is another process's")),
        Backend::Files(folder) if !folder.is_dir() => {
            let detail = format!("there is no folder {}", folder.display());
            Err(Error::new(ErrorKind::NotFound, OPEN).detail(detail))
        }
        Backend::Files(folder) => Archive::in_folder(folder),
        #[cfg(feature = "s3")]
        Backend::Bucket(address) => Archive::open(&address),
        #[cfg(feature = "postgres")]
        Backend::Postgres(_) => Err(Error::invalid(OPEN, "no archive is in PostgreSQL")),
        #[cfg(feature = "nats")]
        Backend::Nats(_) => Err(Error::invalid(OPEN, "no archive is in NATS")),
        #[cfg(feature = "redis")]
        Backend::Redis(_) => Err(Error::invalid(OPEN, "no archive is in Redis")),
    }
}

/// Opens an archive that is copied to; a folder is made.
fn open_target(url: &str) -> Result<Archive> {
    match Backend::parse(Role::Archive, url) {
        Ok(Backend::Files(folder)) => Archive::in_folder(folder),
        _ => open(url),
    }
}

/// Does what `arguments` say, and prints to `out`.
///
/// # Errors
///
/// What the archive fails with, and [`Unavailable`](ErrorKind::Unavailable) if nothing can be printed.
///
/// # Cancel safety
///
/// Dropping the future leaves what was done so far; it may be repeated.
pub async fn run(
    arguments: &Arguments,
    now: Timestamp,
    out: &mut (impl Write + Send),
) -> Result<()> {
    let archive = open(&arguments.archive)?;
    match &arguments.task {
        Task::List { chosen, limit } => {
            let all = Listing::new(&archive, chosen, now);
            list(all, limit.unwrap_or(usize::MAX), out).await
        }
        Task::Get { name, out: None } => {
            let body = read(&archive, name).await?;
            printed(out.write_all(&body))
        }
        Task::Get { name, out: Some(file) } => save(&read(&archive, name).await?, file),
        Task::Restore { chosen, to } => {
            let all = Listing::new(&archive, chosen, now);
            restore(all, &open_target(to)?, out).await
        }
        Task::Purge { chosen, yes } => {
            if chosen.older_than.is_none() {
                return Err(Error::invalid("purge archive", "it takes --older-than DAYS"));
            }
            purge(Listing::new(&archive, chosen, now), *yes, out).await
        }
    }
}

fn printed<T>(said: std::io::Result<T>) -> Result<T> {
    said.map_err(|cause| Error::new(ErrorKind::Unavailable, "print").because(cause))
}

async fn read(archive: &Archive, name: &str) -> Result<Bytes> {
    let missing = || Error::new(ErrorKind::NotFound, "read object").detail(name.to_owned());
    archive.get(name).await?.ok_or_else(missing)
}

fn save(body: &[u8], file: &std::path::Path) -> Result<()> {
    let refuse = |cause: std::io::Error| {
        let error = Error::new(ErrorKind::Unavailable, "write file");
        error.detail(file.display().to_string()).because(cause)
    };
    let mut new = std::fs::File::create_new(file).map_err(refuse)?;
    new.write_all(body).and_then(|()| new.sync_all()).map_err(refuse)
}

/// The chosen objects, page by page.
struct Listing<'a> {
    archive: &'a Archive,
    chosen: &'a Chosen,
    now: Timestamp,
    after: String,
    is_over: bool,
}

impl<'a> Listing<'a> {
    const fn new(archive: &'a Archive, chosen: &'a Chosen, now: Timestamp) -> Self {
        Self { archive, chosen, now, after: String::new(), is_over: false }
    }

    /// Returns the chosen ones of the next page, which may be none; nothing after the last.
    async fn next(&mut self) -> Result<Option<Vec<ObjectInfo>>> {
        if self.is_over {
            return Ok(None);
        }
        let mut page = self.archive.list(&self.chosen.prefix, &self.after, PAGE).await?;
        self.is_over = page.len() < PAGE;
        if let Some(last) = page.last() {
            self.after.clone_from(&last.name);
        }
        page.retain(|info| self.chosen.takes(info, self.now));
        Ok(Some(page))
    }
}

async fn list(mut all: Listing<'_>, limit: usize, out: &mut (impl Write + Send)) -> Result<()> {
    let mut left = limit;
    while 0 < left
        && let Some(page) = all.next().await?
    {
        for info in page.iter().take(left) {
            printed(writeln!(out, "{} {:>9} {}", day(info.stored), info.length, info.name))?;
        }
        left = left.saturating_sub(page.len());
    }
    Ok(())
}

async fn restore(mut all: Listing<'_>, to: &Archive, out: &mut (impl Write + Send)) -> Result<()> {
    let (mut copied, mut same, mut other) = (0_u64, 0_u64, 0_u64);
    let from = all.archive;
    while let Some(page) = all.next().await? {
        for info in page {
            let body = read(from, &info.name).await?;
            match to.create(&info.name, body.clone()).await {
                Ok(()) => copied += 1,
                Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {
                    if to.get(&info.name).await?.as_ref() == Some(&body) {
                        same += 1;
                    } else {
                        other += 1;
                        printed(writeln!(out, "another one is there: {}", info.name))?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    printed(writeln!(out, "copied {copied}, already there {same}, different {other}"))?;
    if 0 < other {
        return Err(Error::invalid("restore", "some names are taken by other objects"));
    }
    Ok(())
}

async fn purge(mut all: Listing<'_>, really: bool, out: &mut (impl Write + Send)) -> Result<()> {
    let (mut objects, mut bytes) = (0_u64, 0_u64);
    let archive = all.archive;
    while let Some(page) = all.next().await? {
        for info in page {
            printed(writeln!(out, "{} {:>9} {}", day(info.stored), info.length, info.name))?;
            if really {
                archive.delete(&info.name).await?;
            }
            objects += 1;
            bytes += info.length;
        }
    }
    let what = if really { "removed" } else { "would be removed; repeat with --yes:" };
    printed(writeln!(out, "{what} {objects} objects, {bytes} bytes"))
}

/// Writes a time as a date and a minute in UTC.
fn day(time: Timestamp) -> String {
    let whole = rfc3339(time);
    let minute = whole.rsplit_once(':').map_or(whole.as_str(), |(minute, _)| minute);
    format!("{minute}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_a_date() {
        for (millis, wanted) in [
            (0, "1970-01-01T00:00Z"),
            (951_782_400_000, "2000-02-29T00:00Z"),
            (951_868_799_000, "2000-02-29T23:59Z"),
            (951_868_800_000, "2000-03-01T00:00Z"),
            (1_798_761_599_000, "2026-12-31T23:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00Z"),
        ] {
            assert_eq!(day(Timestamp::from_millis(millis)), wanted);
        }
    }
}
