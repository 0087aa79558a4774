//! The archive of cold objects, over `object_store`.

use std::{
    collections::BinaryHeap,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use infra_core::{
    Error, ErrorKind, Result,
    archive::{ArchiveStore, ObjectInfo},
    clock::Timestamp,
    version::{Expected, Version},
};
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    local::LocalFileSystem, memory::InMemory, path::Path as Name,
};

/// Keeps whole objects in files or in memory.
///
/// ```
/// use infra_core::archive::ArchiveStore;
/// use infra_persistence::Archive;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let archive = Archive::in_memory();
/// archive.create("games/2026/g1.json", "[]".into()).await?;
/// assert!(archive.create("games/2026/g1.json", "{}".into()).await.is_err(), "written once");
/// assert_eq!(archive.list("games/2026", "", 10).await?[0].length, 2);
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Archive {
    objects: Arc<dyn ObjectStore>,
    folder: Option<PathBuf>,
}

impl Archive {
    /// Creates an archive that is lost with the process.
    pub fn in_memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), folder: None }
    }

    /// Opens the archive in a folder, which is made if it is not there: a file for each object, and
    /// a folder for each segment of its name but the last. A file appears whole, after it and the
    /// folder that it stands in were synced.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if the folder cannot be made or reached.
    pub fn in_folder(folder: impl AsRef<Path>) -> Result<Self> {
        const OPEN: &str = "open archive";
        let folder = folder.as_ref();
        let refuse = |cause: std::io::Error| {
            let detail = folder.display().to_string();
            Error::new(ErrorKind::Unavailable, OPEN).detail(detail).because(cause)
        };
        std::fs::create_dir_all(folder).map_err(refuse)?;
        let files = LocalFileSystem::new_with_prefix(folder);
        let files = files.map_err(|error| failed(OPEN, "", error))?.with_fsync(true);
        Ok(Self { objects: Arc::new(files), folder: Some(folder.to_owned()) })
    }

    /// Returns the folder of an archive in files.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    async fn put(&self, what: &'static str, name: &str, body: Bytes, mode: PutMode) -> Result<()> {
        let at = parse(what, name)?;
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = self.objects.put_opts(&at, PutPayload::from_bytes(body), options).await;
        put.map(|_| ()).map_err(|error| failed(what, name, error))
    }
}

/// Takes a name as one of the port's.
fn parse(operation: &'static str, name: &str) -> Result<Name> {
    let is_segment =
        |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    let refuse = || Error::invalid(operation, format!("the name {name:?}"));
    if !name.split('/').all(is_segment) {
        return Err(refuse());
    }
    Name::parse(name).map_err(|error| refuse().because(error))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is not understood is an outage")]
fn failed(operation: &'static str, name: &str, error: object_store::Error) -> Error {
    use object_store::Error as Cause;
    let said = match &error {
        Cause::AlreadyExists { .. } => {
            Error::conflict(operation, Expected::Absent, Version::new(1))
        }
        Cause::InvalidPath { .. } => Error::new(ErrorKind::Invalid, operation),
        Cause::NotSupported { .. } | Cause::NotImplemented { .. } => {
            Error::new(ErrorKind::Unsupported, operation)
        }
        Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => {
            Error::new(ErrorKind::Denied, operation)
        }
        _ => Error::new(ErrorKind::Unavailable, operation),
    };
    said.detail(format!("object {name:?}")).because(error)
}

/// Returns `None` for what is not there.
fn found<T>(
    operation: &'static str,
    name: &str,
    said: object_store::Result<T>,
) -> Result<Option<T>> {
    match said {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(operation, name, error)),
    }
}

fn info(meta: &ObjectMeta) -> ObjectInfo {
    let millis = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
    let stored = Timestamp::from_millis(millis);
    ObjectInfo { name: meta.location.as_ref().to_owned(), length: meta.size, stored }
}

#[async_trait]
impl ArchiveStore for Archive {
    async fn create(&self, name: &str, body: Bytes) -> Result<()> {
        self.put("create object", name, body, PutMode::Create).await
    }

    async fn replace(&self, name: &str, body: Bytes) -> Result<()> {
        self.put("replace object", name, body, PutMode::Overwrite).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        const READ: &str = "read object";
        let got = self.objects.get(&parse(READ, name)?).await;
        let Some(got) = found(READ, name, got)? else { return Ok(None) };
        found(READ, name, got.bytes().await)
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>> {
        const LOOK: &str = "look at object";
        let head = self.objects.head(&parse(LOOK, name)?).await;
        Ok(found(LOOK, name, head)?.as_ref().map(info))
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<ObjectInfo>> {
        const LIST: &str = "list objects";
        let prefix = if prefix.is_empty() { None } else { Some(parse(LIST, prefix)?) };
        let mut all = self.objects.list(prefix.as_ref());
        // Engines list in any order: the first names are kept, and no more than are wanted.
        let mut first: BinaryHeap<Named> = BinaryHeap::new();
        while let Some(meta) = all.try_next().await.map_err(|error| failed(LIST, "", error))? {
            if meta.location.as_ref() <= after {
                continue;
            }
            first.push(Named(info(&meta)));
            if limit < first.len() {
                first.pop();
            }
        }
        Ok(first.into_sorted_vec().into_iter().map(|named| named.0).collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        const DELETE: &str = "delete object";
        let said = self.objects.delete(&parse(DELETE, name)?).await;
        found(DELETE, name, said).map(|_| ())
    }
}

/// An object, ordered by its name.
#[derive(Debug, PartialEq, Eq)]
struct Named(ObjectInfo);

impl Ord for Named {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
