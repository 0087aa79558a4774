//! Any program of appends, truncations, tombstones and restarts: the log is as the memory store.

use std::sync::Arc;

use infra_core::{
    SystemClock,
    event::{Append, Direction, EventStore, Filter, NewEvent, RecordedEvent},
    id::StreamName,
    version::{Expected, Position, Version},
};
use infra_events::{MemoryEventStore, Mode};
use infra_testkit::seed::Seed;
use rand::RngExt as _;

use crate::support::{event, open};

/// What can be compared of an event: all but the time.
fn essence(events: &[RecordedEvent]) -> Vec<(u64, String, u64, NewEvent)> {
    let tell = |recorded: &RecordedEvent| {
        let (position, version) = (recorded.position.get(), recorded.version.get());
        (position, recorded.stream.to_string(), version, recorded.event.clone())
    };
    events.iter().map(tell).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_as_the_memory_store_over_any_program_and_restarts() {
    for seed in Seed::each(25) {
        let mut dice = seed.dice();
        let folder = tempfile::tempdir().unwrap();
        let model: Arc<dyn EventStore> = Arc::new(MemoryEventStore::new(SystemClock::shared()));
        let (mut log, _) = open(folder.path(), Mode::Strict).await.unwrap();
        let mut last: Option<Append> = None;
        for step in 0..60 {
            let stream = StreamName::new(format!("s{}", dice.random_range(0..4))).unwrap();
            let version = Version::new(dice.random_range(0..6));
            let outcomes = match dice.random_range(0..20) {
                0 => {
                    log.close().await;
                    log = open(folder.path(), Mode::Strict).await.unwrap().0;
                    continue;
                }
                1 => {
                    let right = model.truncate_before(&stream, version).await;
                    (
                        format!("{right:?}"),
                        format!("{:?}", log.truncate_before(&stream, version).await),
                    )
                }
                2 => {
                    let right = model.tombstone(&stream, Expected::Exactly(version)).await;
                    let found = log.tombstone(&stream, Expected::Exactly(version)).await;
                    (format!("{right:?}"), format!("{found:?}"))
                }
                choice => {
                    let expected = match choice {
                        3..6 => Expected::Absent,
                        6..9 => Expected::Exactly(version),
                        9 => Expected::Exists,
                        _ => Expected::Any,
                    };
                    let words = ["a", "b", "c"].into_iter().take(dice.random_range(0..4));
                    let append = Append::to(stream, expected, words.map(event).collect());
                    // Now and then the last append is repeated.
                    let append = last.take().filter(|_| choice == 19).unwrap_or(append);
                    last = Some(append.clone());
                    let right = model.append(append.clone()).await;
                    (format!("{right:?}"), format!("{:?}", log.append(append).await))
                }
            };
            assert_eq!(outcomes.0, outcomes.1, "step {step}, {seed}");
        }
        compare(model.as_ref(), &log, seed).await;
    }
}

/// Reads everything from both.
async fn compare(model: &dyn EventStore, log: &dyn EventStore, seed: Seed) {
    let everything = Filter::default();
    let right = model.read_all(Position::ZERO, &everything, 1_000).await.unwrap();
    let found = log.read_all(Position::ZERO, &everything, 1_000).await.unwrap();
    assert_eq!(essence(&right.events), essence(&found.events), "{seed}");
    for number in 0..4 {
        let stream = StreamName::new(format!("s{number}")).unwrap();
        let mut read = Vec::new();
        for store in [model, log] {
            let events = store.read_stream(&stream, Version::MAX, Direction::Backward, 7).await;
            read.push((essence(&events.unwrap()), store.stream_info(&stream).await.unwrap()));
        }
        assert_eq!(read[0], read[1], "{stream}, {seed}");
    }
}
