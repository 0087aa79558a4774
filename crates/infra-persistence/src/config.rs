//! Stores and repositories from a configuration value, which is refused if it contradicts itself.

use std::{collections::BTreeMap, fmt, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use infra_core::{
    Clock, Error, ErrorKind, Result, SystemClock, archive::ArchiveStore, health::HealthCheck,
    store::DocumentStore,
};
use serde::{Deserialize, Serialize};

use crate::{
    archive::{Archive, Vault},
    embedded::{Options, embedded},
    hybrid::{Archivist, Hybrid, HybridOptions},
    memory::memory,
    repository::{Entity, Limits, Repository},
};

const OPEN: &str = "open storage";

/// Where documents and archive are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "backend", rename_all = "snake_case", deny_unknown_fields)]
pub enum StorageConfig {
    /// In memory; lost with the process.
    Memory {},
    /// On disk, in a folder; archived in another one, if it is named.
    Embedded {
        /// The documents' folder.
        folder: PathBuf,
        /// The archive's folder or address, as [`Archive::open`] takes it.
        #[serde(default)]
        archive: Option<String>,
    },
    /// In PostgreSQL; needs the feature `postgres`.
    Postgres {
        /// The server's URL.
        url: String,
        /// The schema of the tables.
        #[serde(default)]
        schema: Option<String>,
        /// The archive's folder or address, as [`Archive::open`] takes it.
        #[serde(default)]
        archive: Option<String>,
    },
    /// In a backend that was registered under a name.
    Registered {
        /// The name.
        name: String,
    },
}

/// How much of a repository is in memory, and what becomes of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In memory first, in the document store always.
    MemoryFirst,
    /// As before, and in the archive once it is completed or idle.
    Hybrid,
}

/// What a repository is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// What becomes of entities.
    pub strategy: Strategy,
    /// The most entities in memory.
    pub entries: usize,
    /// Idle ones are archived after so many seconds; never by default.
    #[serde(default)]
    pub idle_seconds: Option<u64>,
}

/// What is usual for the entities of a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Rooms: 10,000 in memory.
    Room,
    /// Games: 1,000 in memory, archived when they are completed.
    Game,
    /// Statistics of players: 50,000 in memory.
    PlayerStatistics,
    /// Connections: 100,000 in memory.
    Connection,
}

impl Preset {
    /// Returns the configuration.
    pub const fn config(self) -> RepositoryConfig {
        let (strategy, entries) = match self {
            Self::Room => (Strategy::MemoryFirst, 10_000),
            Self::Game => (Strategy::Hybrid, 1_000),
            Self::PlayerStatistics => (Strategy::MemoryFirst, 50_000),
            Self::Connection => (Strategy::MemoryFirst, 100_000),
        };
        RepositoryConfig { strategy, entries, idle_seconds: None }
    }
}

/// What a backend gives.
#[derive(Debug, Clone)]
pub struct Backends {
    /// Where documents are kept.
    pub documents: Arc<dyn DocumentStore>,
    /// Where archived entities are kept, if anywhere.
    pub archive: Option<Arc<dyn ArchiveStore>>,
    /// What is to be watched.
    pub checks: Vec<Arc<dyn HealthCheck>>,
}

/// A backend that is being opened.
pub type Opening = Pin<Box<dyn Future<Output = Result<Backends>> + Send>>;

type Make = Box<dyn Fn() -> Opening + Send + Sync>;

/// Opens stores from configuration values; backends of others are registered by name. There is no
/// global one: whoever needs it holds it.
pub struct Factory {
    clock: Arc<dyn Clock>,
    registered: BTreeMap<String, Make>,
}

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.registered.keys().collect();
        f.debug_struct("Factory").field("registered", &names).finish_non_exhaustive()
    }
}

impl Default for Factory {
    fn default() -> Self {
        Self { clock: SystemClock::shared(), registered: BTreeMap::new() }
    }
}

impl Factory {
    /// Creates a factory that knows the backends of this crate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the clock of what is opened; the system's by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Registers a backend under a name.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for an empty name, or one that is taken.
    pub fn register(
        &mut self,
        name: impl Into<String>,
        make: impl Fn() -> Opening + Send + Sync + 'static,
    ) -> Result<()> {
        let name = name.into();
        let own = ["", "memory", "embedded", "postgres", "registered"];
        if own.contains(&name.as_str()) || self.registered.contains_key(&name) {
            return Err(Error::invalid("register backend", format!("the name {name:?} is taken")));
        }
        self.registered.insert(name, Box::new(make));
        Ok(())
    }

    /// Opens what a configuration names.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for a configuration that contradicts itself,
    /// [`Unsupported`](ErrorKind::Unsupported) for a backend that is not built in or not registered,
    /// and what opening it fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub async fn open(&self, config: &StorageConfig) -> Result<Opened> {
        let clock = Arc::clone(&self.clock);
        let (backends, own) = match config {
            StorageConfig::Memory {} => {
                let documents = Arc::new(memory(Arc::clone(&clock))?);
                let archive: Arc<dyn ArchiveStore> = Arc::new(Archive::in_memory());
                let check: Arc<dyn HealthCheck> = Arc::<crate::Documents>::clone(&documents);
                let own = Own::Documents(Arc::clone(&documents));
                (Backends { documents, archive: Some(archive), checks: vec![check] }, own)
            }
            StorageConfig::Embedded { folder, archive } => {
                if archive.as_ref().is_some_and(|archive| is_at(archive, folder)) {
                    return Err(Error::invalid(OPEN, "documents and archive in one folder"));
                }
                let options = Options::new(folder).clock(Arc::clone(&clock));
                let documents = Arc::new(embedded(options).await?.0);
                let check: Arc<dyn HealthCheck> = Arc::<crate::Documents>::clone(&documents);
                let own = Own::Documents(Arc::clone(&documents));
                let archive = archive_at(archive.as_deref())?;
                (Backends { documents, archive, checks: vec![check] }, own)
            }
            #[cfg(feature = "postgres")]
            StorageConfig::Postgres { url, schema, archive } => {
                let options = crate::PostgresOptions::new(url).clock(Arc::clone(&clock));
                let options = match schema {
                    Some(schema) => options.schema(schema),
                    None => options,
                };
                let documents = Arc::new(crate::PostgresDocuments::connect(&options).await?);
                let check: Arc<dyn HealthCheck> =
                    Arc::<crate::PostgresDocuments>::clone(&documents);
                let own = Own::Postgres(Arc::clone(&documents));
                let archive = archive_at(archive.as_deref())?;
                (Backends { documents, archive, checks: vec![check] }, own)
            }
            #[cfg(not(feature = "postgres"))]
            StorageConfig::Postgres { .. } => {
                let error = Error::new(ErrorKind::Unsupported, OPEN);
                return Err(error.detail("PostgreSQL needs the feature `postgres`"));
            }
            StorageConfig::Registered { name } => {
                let unknown = || {
                    let error = Error::new(ErrorKind::Unsupported, OPEN);
                    error.detail(format!("no backend {name:?} is registered"))
                };
                let make = self.registered.get(name).ok_or_else(unknown)?;
                (make().await?, Own::Nothing)
            }
        };
        Ok(Opened { backends, clock, own })
    }
}

/// Whether an archive's address is a folder.
fn is_at(address: &str, folder: &std::path::Path) -> bool {
    std::path::Path::new(address.strip_prefix("file://").unwrap_or(address)) == folder
}

fn archive_at(address: Option<&str>) -> Result<Option<Arc<dyn ArchiveStore>>> {
    let open =
        |address: &str| -> Result<Arc<dyn ArchiveStore>> { Ok(Arc::new(Archive::open(address)?)) };
    address.map(open).transpose()
}

/// Stores that were opened.
#[derive(Debug, Clone)]
pub struct Opened {
    backends: Backends,
    clock: Arc<dyn Clock>,
    own: Own,
}

/// What is closed with it.
#[derive(Debug, Clone)]
enum Own {
    Documents(Arc<crate::Documents>),
    #[cfg(feature = "postgres")]
    Postgres(Arc<crate::PostgresDocuments>),
    Nothing,
}

impl Opened {
    /// Returns where documents are kept.
    pub const fn documents(&self) -> &Arc<dyn DocumentStore> {
        &self.backends.documents
    }

    /// Returns where archived entities are kept.
    pub const fn archive(&self) -> Option<&Arc<dyn ArchiveStore>> {
        self.backends.archive.as_ref()
    }

    /// Returns what is to be watched.
    pub fn checks(&self) -> &[Arc<dyn HealthCheck>] {
        &self.backends.checks
    }

    /// Ends the store after everything that waits was stored; a registered one is its maker's to end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the closing finish in the background.
    pub async fn close(&self) {
        match &self.own {
            Own::Documents(documents) => documents.close().await,
            #[cfg(feature = "postgres")]
            Own::Postgres(documents) => documents.close().await,
            Own::Nothing => {}
        }
    }

    /// Makes a repository that is memory first.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for a limit of zero, or a configuration of another strategy.
    pub fn repository<E: Entity>(&self, config: RepositoryConfig) -> Result<Repository<E>> {
        if config.strategy != Strategy::MemoryFirst || config.idle_seconds.is_some() {
            return Err(Error::invalid(OPEN, "what goes to the archive is a hybrid repository"));
        }
        let limits = Limits::entries(config.entries).clock(Arc::clone(&self.clock));
        limits.check(OPEN)?;
        Repository::with_limits(Arc::clone(&self.backends.documents), limits)
    }

    /// Makes a hybrid repository, and the service that archives.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for a limit of zero, a configuration of another strategy, or
    /// where there is no archive; and what the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn hybrid<E: Entity>(
        &self,
        config: RepositoryConfig,
    ) -> Result<(Hybrid<E>, Archivist<E>)> {
        if config.strategy != Strategy::Hybrid {
            return Err(Error::invalid(OPEN, "this is no hybrid repository"));
        }
        let missing = || Error::invalid(OPEN, "a hybrid repository without an archive");
        let archive = self.backends.archive.clone().ok_or_else(missing)?;
        let options = HybridOptions::new(Limits::entries(config.entries));
        let options = options.clock(Arc::clone(&self.clock));
        let options = match config.idle_seconds {
            Some(seconds) => options.idle(Duration::from_secs(seconds)),
            None => options,
        };
        let documents = Arc::clone(&self.backends.documents);
        Hybrid::open(documents, Vault::new(archive), options).await
    }
}
