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
};
use object_store::{
    GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    local::LocalFileSystem, memory::InMemory, path::Path as Name,
};

use super::failure::{failed, found, unsure};

/// Keeps whole objects in files, in memory, or in a bucket of S3.
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
    pub(super) objects: Arc<dyn ObjectStore>,
    /// The same, for what must not be repeated.
    pub(super) creates: Arc<dyn ObjectStore>,
    pub(super) place: Place,
}

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Memory,
    Folder(PathBuf),
    #[cfg(feature = "s3")]
    Bucket,
}

impl Archive {
    /// Creates an archive that is lost with the process.
    pub fn in_memory() -> Self {
        Self::local(Arc::new(InMemory::new()), Place::Memory)
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
        Ok(Self::local(Arc::new(files), Place::Folder(folder.to_owned())))
    }

    fn local(objects: Arc<dyn ObjectStore>, place: Place) -> Self {
        Self { creates: Arc::clone(&objects), objects, place }
    }

    /// Opens the archive at an address: `memory:`, a folder's path, `file:///folder`, or, with the
    /// feature `s3`, `s3://bucket/prefix?endpoint=URL&region=NAME`, where prefix, endpoint and
    /// region may be left out. Credentials never stand in it: they are the environment's.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for an address that is none,
    /// [`Unsupported`](ErrorKind::Unsupported) for S3 without the feature, and what opening a folder
    /// fails with.
    pub fn open(address: &str) -> Result<Self> {
        const OPEN: &str = "open archive";
        if address == "memory:" {
            return Ok(Self::in_memory());
        }
        let Some((scheme, rest)) = address.split_once("://") else {
            return Self::in_folder(address);
        };
        match scheme {
            "file" if rest.starts_with('/') => Self::in_folder(rest),
            #[cfg(feature = "s3")]
            "s3" => Self::in_bucket(&super::S3Options::parse(rest)?),
            #[cfg(not(feature = "s3"))]
            "s3" => {
                Err(Error::new(ErrorKind::Unsupported, OPEN).detail("S3 needs the feature `s3`"))
            }
            _ => Err(Error::invalid(OPEN, format!("the address {address:?}"))),
        }
    }

    /// Returns the folder of an archive in files.
    pub fn folder(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder(folder) => Some(folder),
            Place::Memory => None,
            #[cfg(feature = "s3")]
            Place::Bucket => None,
        }
    }

    /// Tries whether the engine really refuses to create a name twice, by a small object under
    /// `probes/` that is removed again.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if it does not refuse, and what it fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the small object there.
    pub async fn probe(&self) -> Result<()> {
        let number = infra_core::random::Random::from_system().next_u64();
        let name = format!("probes/{number:016x}");
        self.create(&name, Bytes::from_static(b"1")).await?;
        let again = self.create(&name, Bytes::from_static(b"2")).await;
        let kept = self.get(&name).await;
        self.delete(&name).await?;
        match again {
            Err(error) if !matches!(error.kind(), ErrorKind::Conflict { .. }) => Err(error),
            Err(_) if kept?.as_deref() == Some(b"1") => Ok(()),
            _ => {
                let error = Error::new(ErrorKind::Unsupported, "probe archive");
                Err(error.detail("the server ignores the condition of a put"))
            }
        }
    }

    /// Whether names come in their order, so that a list may end early.
    const fn is_ordered(&self) -> bool {
        match self.place {
            Place::Memory | Place::Folder(_) => false,
            #[cfg(feature = "s3")]
            Place::Bucket => true,
        }
    }
}

/// Takes a name as one of the port's.
pub(super) fn parse(operation: &'static str, name: &str) -> Result<Name> {
    let is_segment =
        |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    let refuse = || Error::invalid(operation, format!("the name {name:?}"));
    if !name.split('/').all(is_segment) {
        return Err(refuse());
    }
    Name::parse(name).map_err(|error| refuse().because(error))
}

fn info(meta: &ObjectMeta) -> ObjectInfo {
    let millis = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
    let stored = Timestamp::from_millis(millis);
    ObjectInfo { name: meta.location.as_ref().to_owned(), length: meta.size, stored }
}

#[async_trait]
impl ArchiveStore for Archive {
    async fn create(&self, name: &str, body: Bytes) -> Result<()> {
        const CREATE: &str = "create object";
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let at = parse(CREATE, name)?;
        let put = self.creates.put_opts(&at, PutPayload::from_bytes(body), options).await;
        put.map(|_| ()).map_err(|error| unsure(CREATE, name, error))
    }

    async fn replace(&self, name: &str, body: Bytes) -> Result<()> {
        const REPLACE: &str = "replace object";
        let at = parse(REPLACE, name)?;
        let put = self.objects.put(&at, PutPayload::from_bytes(body)).await;
        put.map(|_| ()).map_err(|error| unsure(REPLACE, name, error).idempotent())
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        const READ: &str = "read object";
        let got = self.objects.get(&parse(READ, name)?).await;
        let Some(got) = found(READ, name, got)? else { return Ok(None) };
        found(READ, name, got.bytes().await)
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>> {
        const LOOK: &str = "look at object";
        let at = parse(LOOK, name)?;
        let head = match self.objects.head(&at).await {
            // The answer has no body that would tell a missing object from a missing bucket.
            Err(object_store::Error::NotFound { .. }) if self.is_ordered() => {
                let options = GetOptions::new().with_range(Some(0..1));
                self.objects.get_opts(&at, options).await.map(|found| found.meta)
            }
            said => said,
        };
        Ok(found(LOOK, name, head)?.as_ref().map(info))
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<ObjectInfo>> {
        const LIST: &str = "list objects";
        let below = if prefix.is_empty() { None } else { Some(parse(LIST, prefix)?) };
        let refuse = |error| failed(LIST, prefix, error);
        let mut all = match Name::parse(after) {
            Ok(after) if self.is_ordered() => self.objects.list_with_offset(below.as_ref(), &after),
            _ => self.objects.list(below.as_ref()),
        };
        // Other engines list in any order: the first names are kept, and no more than are wanted.
        let mut first: BinaryHeap<Named> = BinaryHeap::new();
        let is_enough = |found: usize| self.is_ordered() && limit <= found;
        while !is_enough(first.len())
            && let Some(meta) = all.try_next().await.map_err(refuse)?
        {
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
        match said {
            Err(error @ object_store::Error::NotFound { .. }) => {
                found::<()>(DELETE, name, Err(error)).map(|_| ())
            }
            said => said.map_err(|error| unsure(DELETE, name, error).idempotent()),
        }
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
