//! Our log, by its port.

use std::{path::Path, sync::Arc, time::Instant};

use infra_core::{
    SystemClock,
    clock::Clock,
    codec::Payload,
    event::{Append, Direction, EventStore, Filter, NewEvent},
    id::{EventId, EventType, StreamName},
    random::Random,
    version::{Expected, Position, Version},
};
use infra_events::{LogEventStore, Options, RecoveryReport};
use measure::run;
use tempfile::TempDir;

use crate::appenders::{BODY, Latencies, Load, folder, in_tasks, stream};

fn event(random: &Random) -> NewEvent {
    let id = EventId::generate(SystemClock::new().wall(), random);
    NewEvent::new(id, EventType::new("played").unwrap(), Payload::raw(vec![7; BODY]))
}

async fn open(folder: &Path) -> (Arc<LogEventStore>, RecoveryReport) {
    let (log, report) = LogEventStore::open(Options::new(folder.join("log"))).await.unwrap();
    (Arc::new(log), report)
}

/// Appends, and notes how long each append took.
pub fn append_timed(load: Load, latencies: &Arc<Latencies>) -> f64 {
    let folder = folder();
    run(async {
        let store = open(folder.path()).await.0;
        in_tasks(load, |appender| {
            let (store, latencies) = (Arc::clone(&store), Arc::clone(latencies));
            async move {
                let (stream, random) =
                    (StreamName::new(stream(appender)).unwrap(), Random::from_system());
                let mut times = Vec::with_capacity(load.each as usize);
                for version in 0..load.each {
                    let expected = match version {
                        0 => Expected::Absent,
                        version => Expected::Exactly(Version::new(version)),
                    };
                    let append = Append::to(stream.clone(), expected, vec![event(&random)]);
                    let begun = Instant::now();
                    store.append(append).await.unwrap();
                    times.push(begun.elapsed().as_secs_f64());
                }
                latencies.add(times);
            }
        })
        .await
    })
}

pub fn append(load: Load) -> f64 {
    append_timed(load, &Arc::default())
}

/// The 99th percentile of an append, in milliseconds.
pub fn p99(load: Load) -> f64 {
    let latencies = Arc::default();
    append_timed(load, &latencies);
    latencies.p99()
}

/// Writes one long stream at once and reads it so many times.
pub fn read(events: u64, times: u64) -> u64 {
    let folder = folder();
    run(async {
        let (store, random) = (open(folder.path()).await.0, Random::from_system());
        let stream = StreamName::new("room").unwrap();
        let all = (0..events).map(|_| event(&random)).collect();
        store.append(Append::to(stream.clone(), Expected::Absent, all)).await.unwrap();
        for _ in 0..times {
            let from = Version::new(1);
            let read = store.read_stream(&stream, from, Direction::Forward, events as usize).await;
            assert_eq!(read.unwrap().len() as u64, events);
        }
    });
    times * events
}

/// A closed log of a thousand streams, an event an append.
pub struct Filled {
    folder: TempDir,
    events: u64,
}

impl Filled {
    pub fn new(events: u64) -> Self {
        let folder = folder();
        run(async {
            let store = open(folder.path()).await.0;
            let random = Random::from_system();
            for first in (0..events).step_by(1_000) {
                // A thousand appends at a time share few syncs.
                let appends = (first..first + 1_000).map(|number| {
                    let name = StreamName::new(stream(number % 1_000)).unwrap();
                    let append = Append::to(name, Expected::Any, vec![event(&random)]);
                    let store = Arc::clone(&store);
                    tokio::spawn(async move { store.append(append).await.unwrap() })
                });
                for append in appends.collect::<Vec<_>>() {
                    append.await.unwrap();
                }
            }
            store.close().await;
        });
        Self { folder, events }
    }

    /// How long the opening takes, in milliseconds.
    pub fn reopen(&self) -> f64 {
        run(async {
            let begun = Instant::now();
            let (store, report) = open(self.folder.path()).await;
            let took = begun.elapsed().as_secs_f64() * 1e3;
            assert_eq!(report.events, self.events);
            store.close().await;
            took
        })
    }

    /// Events that are read in a second, all of them in the order of the log.
    pub fn replay(&self) -> f64 {
        run(async {
            let store = open(self.folder.path()).await.0;
            let begun = Instant::now();
            let (mut after, mut seen) = (Position::ZERO, 0);
            loop {
                let page = store.read_all(after, &Filter::default(), 1_024).await.unwrap();
                seen += page.events.len() as u64;
                after = page.read_to;
                if page.is_end {
                    break;
                }
            }
            let took = begun.elapsed().as_secs_f64();
            assert_eq!(seen, self.events);
            store.close().await;
            seen as f64 / took
        })
    }

    /// Bytes on the disk for an event: what is used of segments, and indexes.
    pub fn bytes(&self) -> f64 {
        let report = run(LogEventStore::verify(Options::new(self.folder.path().join("log"))));
        let used: u64 = report.unwrap().details.iter().map(|segment| segment.bytes).sum();
        let entries =
            std::fs::read_dir(self.folder.path().join("log")).unwrap().map(Result::unwrap);
        let indexes = entries.filter(|entry| entry.path().extension() == Some("idx".as_ref()));
        let indexes: u64 = indexes.map(|entry| entry.metadata().unwrap().len()).sum();
        (used + indexes) as f64 / self.events as f64
    }

    /// What the process grows by when the log is opened, in MiB for a million events.
    pub fn memory(&self) -> f64 {
        run(async {
            let before = resident();
            let store = open(self.folder.path()).await.0;
            let grown = resident().saturating_sub(before);
            store.close().await;
            grown as f64 / (1 << 20) as f64 * 1e6 / self.events as f64
        })
    }
}

/// The bytes of this process that are in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}
