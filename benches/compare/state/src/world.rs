//! The stores that machines stand on: the log beside documents on disk.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use infra_core::{
    Clock, SystemClock,
    codec::Payload,
    event::{Append, EventStore, NewEvent},
    id::{EventId, EventType, StreamName},
    random::Random,
    version::Expected,
};
use infra_events::LogEventStore;
use infra_persistence::{
    Documents, Snapshots,
    state::{Durable, DurableOptions, SnapshotPolicy, Strategy, Target, recover},
};
use tempfile::TempDir;

use crate::{
    before_the_last_hundred,
    table::{Table, played},
};

/// How many machines are recovered.
pub const MACHINES: u64 = 1_000;

/// How many events each of them has.
pub const EVENTS: u64 = 1_000;

pub struct World {
    pub log: Arc<LogEventStore>,
    documents: Arc<Documents>,
}

pub fn stream(number: u64) -> StreamName {
    StreamName::new(format!("table-{number}")).unwrap()
}

impl World {
    pub async fn open(folder: &Path) -> Self {
        let options = infra_events::Options::new(folder.join("events"));
        let log = Arc::new(LogEventStore::open(options).await.unwrap().0);
        let options = infra_persistence::Options::new(folder.join("documents"));
        let documents = Arc::new(infra_persistence::embedded(options).await.unwrap().0);
        Self { log, documents }
    }

    pub fn options(&self, strategy: Strategy) -> DurableOptions {
        DurableOptions::new(strategy, SystemClock::shared())
    }

    pub fn hybrid(&self) -> DurableOptions {
        let snapshots = Arc::new(Snapshots::new(self.documents.clone()).unwrap());
        self.options(Strategy::Hybrid { events: self.log.clone(), snapshots })
    }

    pub async fn close(self) {
        self.log.close().await;
        self.documents.close().await;
    }

    /// Returns the stores with a thousand machines of a thousand events, each with a snapshot before the last
    /// hundred; they are made once for all workloads that read them.
    pub fn prepared() -> &'static Self {
        static PREPARED: OnceLock<(World, TempDir, tokio::runtime::Runtime)> = OnceLock::new();
        let (world, ..) = PREPARED.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
            let world = runtime.block_on(async {
                let world = World::open(folder.path()).await;
                for number in 0..MACHINES {
                    world.play(&stream(number)).await;
                }
                world
            });
            (world, folder, runtime)
        });
        world
    }

    async fn play(&self, name: &StreamName) {
        let (clock, random) = (SystemClock::new(), Random::from_system());
        let happened = |turns: std::ops::Range<u64>| {
            let event = |turn| {
                let kind = EventType::new("played").unwrap();
                let id = EventId::generate(clock.wall(), &random);
                NewEvent::new(id, kind, Payload::json(1, &played(turn)).unwrap())
            };
            Append::to(name.clone(), Expected::Any, turns.map(event).collect())
        };
        let snapshot_at = before_the_last_hundred(EVENTS).get();
        self.log.append(happened(0..snapshot_at)).await.unwrap();
        let options = self.hybrid().policy(SnapshotPolicy::never());
        let (mut table, _) = Durable::<Table>::open(name.clone(), options.clone()).await.unwrap();
        table.snapshot().await.unwrap();
        self.log.append(happened(snapshot_at..EVENTS)).await.unwrap();
        let back = recover::<Table>(name, &options, Target::Latest).await.unwrap();
        assert_eq!(back.report.replayed, 100);
    }
}
