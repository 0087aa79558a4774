//! Where machines are kept: on disk or in PostgreSQL; a place can be told to another process in a line.

use std::{path::PathBuf, sync::Arc, time::Duration};

use infra_core::{
    Clock, SystemClock, event::EventStore, id::StreamName, random::Random, snapshot::SnapshotStore,
};
use infra_events::{LogEventStore, PostgresEventStore};
use infra_persistence::{
    Documents, PostgresDocuments, PostgresLeases, Snapshots,
    state::{DurableOptions, SnapshotPolicy, Strategy},
};
use infra_testkit::server::{Kind, shared};

/// Where machines are kept.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Folder(PathBuf),
    Postgres { url: String, schema: String },
}

/// Returns a stream's name.
pub(crate) fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

impl Place {
    /// Names tables of one's own on the shared server.
    pub(crate) fn on_postgres() -> Self {
        let url = shared(Kind::Postgres).unwrap();
        Self::Postgres { url, schema: format!("state_{:016x}", Random::from_system().next_u64()) }
    }

    /// Reads what [`line`](Self::line) has written.
    pub(crate) fn of_line(line: &str) -> Self {
        match line.split_once('|') {
            Some((url, schema)) => {
                Self::Postgres { url: url.to_owned(), schema: schema.to_owned() }
            }
            None => Self::Folder(line.into()),
        }
    }

    pub(crate) fn line(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Postgres { url, schema } => format!("{url}|{schema}"),
        }
    }

    /// The same tables, reached through another address.
    pub(crate) fn through(&self, addr: std::net::SocketAddr) -> Self {
        let Self::Postgres { url, schema } = self else { panic!("a folder has no address") };
        let (before, after) = url.split_once('@').unwrap();
        let (_, database) = after.split_once('/').unwrap();
        Self::Postgres { url: format!("{before}@{addr}/{database}"), schema: schema.clone() }
    }

    /// Returns where the server of this place listens.
    pub(crate) fn addr(&self) -> std::net::SocketAddr {
        let Self::Postgres { url, .. } = self else { panic!("a folder has no address") };
        let (_, after) = url.split_once('@').unwrap();
        after.split_once('/').unwrap().0.parse().unwrap()
    }

    pub(crate) async fn open(&self) -> Stores {
        self.open_with(SystemClock::shared()).await
    }

    /// Opens the stores for a process whose clock is this one.
    pub(crate) async fn open_with(&self, clock: Arc<dyn Clock>) -> Stores {
        match self {
            Self::Folder(folder) => {
                let options = infra_events::Options::new(folder.join("events"));
                let (log, report) = LogEventStore::open(options).await.unwrap();
                assert!(report.lost.is_none(), "{report:?}");
                let options = infra_persistence::Options::new(folder.join("documents"));
                let (documents, report) = infra_persistence::embedded(options).await.unwrap();
                assert_eq!(report.lost, 0);
                let (log, documents) = (Arc::new(log), Arc::new(documents));
                let snapshots = Arc::new(Snapshots::new(documents.clone()).unwrap());
                let kept = Some((log.clone(), documents));
                Stores { clock, events: log, snapshots, kept }
            }
            Self::Postgres { url, .. } => {
                let options = infra_events::PostgresOptions::new(url)
                    .schema(self.schema("events"))
                    .unwrap()
                    .lanes(2)
                    .readers(2)
                    .patience(Duration::from_secs(5));
                let events = Arc::new(PostgresEventStore::open(options).await.unwrap());
                let documents = PostgresDocuments::connect(&self.options()).await.unwrap();
                let snapshots = Arc::new(Snapshots::new(Arc::new(documents)).unwrap());
                Stores { clock, events, snapshots, kept: None }
            }
        }
    }

    pub(crate) async fn leases(&self) -> PostgresLeases {
        PostgresLeases::connect(&self.options()).await.unwrap()
    }

    fn options(&self) -> infra_persistence::PostgresOptions {
        let Self::Postgres { url, .. } = self else { panic!("a folder has no server") };
        infra_persistence::PostgresOptions::new(url)
            .schema(self.schema("documents"))
            .connections(3)
            .patience(Duration::from_secs(5))
    }

    fn schema(&self, of: &str) -> String {
        let Self::Postgres { schema, .. } = self else { panic!("a folder has no schema") };
        format!("{schema}_{of}")
    }
}

/// The stores of a place, open.
#[derive(Debug)]
pub(crate) struct Stores {
    clock: Arc<dyn Clock>,
    pub(crate) events: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
    kept: Option<(Arc<LogEventStore>, Arc<Documents>)>,
}

impl Stores {
    pub(crate) fn hybrid(&self) -> DurableOptions {
        let (events, snapshots) = (self.events.clone(), self.snapshots.clone());
        self.options(Strategy::Hybrid { events, snapshots })
    }

    pub(crate) fn strategies(&self) -> [(&'static str, DurableOptions); 4] {
        let (events, snapshots) = (|| self.events.clone(), || self.snapshots.clone());
        [
            ("event-sourced", self.options(Strategy::EventSourced(events()))),
            ("hybrid", self.hybrid()),
            ("snapshot-only", self.options(Strategy::SnapshotOnly(snapshots()))),
            ("versioned", self.options(Strategy::Versioned(snapshots()))),
        ]
    }

    fn options(&self, strategy: Strategy) -> DurableOptions {
        let policy = SnapshotPolicy::never().every(7).keep(3).on_shutdown();
        DurableOptions::new(strategy, self.clock.clone()).policy(policy)
    }

    /// Lets go of the folder, if there is one.
    pub(crate) async fn close(self) {
        if let Some((log, documents)) = self.kept {
            log.close().await;
            documents.close().await;
        }
    }
}
