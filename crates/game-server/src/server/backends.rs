//! The stores that the settings chose.

use std::sync::Arc;

use infra_core::{
    Clock, Result, archive::ArchiveStore, event::EventStore, health::HealthCheck, pubsub::PubSub,
    store::DocumentStore,
};
use infra_events::{LogEventStore, MemoryEventStore};
use infra_messaging::MemoryPubSub;
use infra_persistence::{Archive, Documents};

use crate::config::{Backend, Settings};

/// How many messages of the bus may wait for a subscriber.
const MAILBOX: usize = 256;

/// The stores of a server.
#[derive(Debug, Clone)]
pub struct Backends {
    /// Where rooms are recorded.
    pub events: Arc<dyn EventStore>,
    /// Where everything else is kept.
    pub documents: Arc<dyn DocumentStore>,
    /// Where finished games are kept.
    pub archive: Arc<dyn ArchiveStore>,
    /// Who is told what has changed.
    pub bus: Arc<dyn PubSub>,
    /// What is to be watched of them.
    pub checks: Vec<Arc<dyn HealthCheck>>,
    log: Option<Arc<LogEventStore>>,
    kept: Arc<Documents>,
}

impl Backends {
    /// Opens the stores that `settings` name.
    ///
    /// # Errors
    ///
    /// What opening them fails with: a folder held by another process, damage, a failing disk.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub async fn open(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Self> {
        let documents = match &settings.documents {
            Backend::Memory => infra_persistence::memory(Arc::clone(clock))?,
            Backend::Files(folder) => {
                let options = infra_persistence::Options::new(folder).clock(Arc::clone(clock));
                let (documents, report) = infra_persistence::embedded(options).await?;
                tracing::info!(commits = report.commits, "documents opened");
                documents
            }
        };
        let mut backends = match &settings.events {
            Backend::Memory => {
                let events = Arc::new(MemoryEventStore::new(Arc::clone(clock)));
                Self::new(events, None, Arc::new(documents))
            }
            Backend::Files(folder) => {
                let options = infra_events::Options::new(folder).clock(Arc::clone(clock));
                Self::with_log(options, documents).await?
            }
        };
        if let Backend::Files(folder) = &settings.archive {
            backends.archive = Arc::new(Archive::in_folder(folder)?);
        }
        Ok(backends)
    }

    /// Opens an event log with options of one's own beside a document store; the archive is in memory.
    ///
    /// # Errors
    ///
    /// What opening the log fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the log again.
    pub async fn with_log(options: infra_events::Options, documents: Documents) -> Result<Self> {
        let (log, report) = LogEventStore::open(options).await?;
        let (events, torn) = (report.events, report.torn_bytes);
        tracing::info!(events, torn, segments = report.segments, "event log opened");
        let log = Arc::new(log);
        let events: Arc<dyn EventStore> = Arc::<LogEventStore>::clone(&log);
        Ok(Self::new(events, Some(log), Arc::new(documents)))
    }

    fn new(
        events: Arc<dyn EventStore>,
        log: Option<Arc<LogEventStore>>,
        kept: Arc<Documents>,
    ) -> Self {
        let documents: Arc<dyn DocumentStore> = Arc::<Documents>::clone(&kept);
        let mut checks: Vec<Arc<dyn HealthCheck>> = vec![Arc::<Documents>::clone(&kept)];
        if let Some(log) = &log {
            checks.push(Arc::<LogEventStore>::clone(log));
        }
        let archive = Arc::new(Archive::in_memory());
        let bus = Arc::new(MemoryPubSub::new(MAILBOX));
        Self { events, documents, archive, bus, checks, log, kept }
    }

    /// Ends the stores after everything that waits was stored.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the closing finish in the background.
    pub async fn close(&self) {
        if let Some(log) = &self.log {
            log.close().await;
        }
        self.kept.close().await;
    }
}
