//! Keys as files: one for each, so that a copy of the folder is a backup and a file that is
//! overwritten and removed is gone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{Error, ErrorKind, Result};

use super::vault::Vault;

/// A folder that the server's user alone may read.
#[derive(Debug, Clone)]
pub(crate) struct FolderVault {
    folder: Arc<Path>,
    /// Tells files apart that are being written.
    written: Arc<AtomicU64>,
}

impl FolderVault {
    /// Opens the folder, which is made if it is not there.
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        make(&folder).map_err(|cause| failed("open keys of people", cause))?;
        Ok(Self { folder: folder.into(), written: Arc::default() })
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = Arc::clone(&self.folder);
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        let done =
            done.map_err(|cause| Error::new(ErrorKind::Internal, operation).because(cause))?;
        done.map_err(|cause| failed(operation, cause))
    }
}

fn failed(operation: &'static str, cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, operation).because(cause)
}

/// Makes the folder, and removes what a crash left of files that were being written.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            fs::remove_file(entry.path())?;
        }
    }
    sync(folder)?;
    folder.parent().map_or(Ok(()), sync)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn found(read: io::Result<Vec<u8>>) -> io::Result<Option<Bytes>> {
    match read {
        Ok(body) => Ok(Some(body.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file beside the name and links it there, which fails if the name is taken.
fn keep(folder: &Path, name: &str, beside: &str, body: &[u8]) -> io::Result<Bytes> {
    let path = folder.join(name);
    if let Some(there) = found(fs::read(&path))? {
        // Whoever wrote it may have failed before its name was durable.
        sync(folder)?;
        return Ok(there);
    }
    let beside = folder.join(beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(body)?;
    file.sync_all()?;
    let linked = fs::hard_link(&beside, &path);
    fs::remove_file(&beside)?;
    sync(folder)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::read(&path).map(Bytes::from),
    }
}

/// Writes zeros over a file before it is removed: where a file system writes in place, its blocks
/// hold nothing then.
fn destroy(path: &Path, folder: &Path) -> io::Result<bool> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    sync(folder)?;
    Ok(true)
}

fn names(folder: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string();
        names.extend(name.ok().filter(|name| name.starts_with(prefix)));
    }
    Ok(names)
}

#[async_trait]
impl Vault for FolderVault {
    async fn keep(&self, name: &str, body: Bytes) -> Result<Bytes> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let (name, beside) = (name.to_owned(), format!(".{number}"));
        self.run("keep key", move |folder| keep(folder, &name, &beside, &body)).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let name = name.to_owned();
        self.run("read key", move |folder| found(fs::read(folder.join(name)))).await
    }

    async fn destroy(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.run("destroy key", move |folder| destroy(&folder.join(name), folder)).await
    }

    async fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.run("list keys", move |folder| names(folder, &prefix)).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_many_who_keep_a_key_all_get_the_same_and_a_destroyed_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("people");
        fs::create_dir(&place).unwrap();
        fs::write(place.join(".7"), "a crash left it").unwrap();
        let vault = FolderVault::open(place.clone()).unwrap();
        let keep = |number: u8| {
            let vault = vault.clone();
            tokio::spawn(async move { vault.keep("person.a", Bytes::from(vec![number; 32])).await })
        };
        let mut kept = Vec::new();
        for keeping in (0..8).map(keep).collect::<Vec<_>>() {
            kept.push(keeping.await.unwrap().unwrap());
        }
        let stored = vault.get("person.a").await.unwrap().unwrap();
        assert_eq!(kept, vec![stored; 8]);
        let mode = fs::metadata(place.join("person.a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        vault.keep("person.b", Bytes::from_static(b"other")).await.unwrap();
        let reopened = FolderVault::open(place.clone()).unwrap();
        let mut names = reopened.names("").await.unwrap();
        names.sort();
        assert_eq!(names, ["person.a", "person.b"], "nothing is left of what was being written");
        assert!(reopened.destroy("person.a").await.unwrap());
        assert!(!reopened.destroy("person.a").await.unwrap());
        assert_eq!(reopened.get("person.a").await.unwrap(), None);
        assert_eq!(reopened.names("person.").await.unwrap(), ["person.b"]);
    }
}
