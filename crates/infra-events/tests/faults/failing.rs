//! Operations of the disk that fail under a running log.

use std::{path::Path, sync::Arc, time::Duration};

use infra_core::{
    ErrorKind, Result,
    event::{Append, EventStore},
    health::{HealthCheck, Status},
    id::StreamName,
    version::{Expected, Version},
};
use infra_events::{LogEventStore, Mode, Options};
use infra_testkit::disk::{DiskFaults, Fault, Operation};

use crate::{
    disk::FaultyDisk,
    support::{all, open, to, written},
};

async fn on(folder: &Path, faults: &DiskFaults) -> Result<LogEventStore> {
    let disk = Arc::new(FaultyDisk(faults.clone()));
    let options = Options::new(folder)
        .segment_bytes(4_096)
        // The witness is synced at the end, so that a planned fault meets the log's own file.
        .witness_interval(Duration::from_hours(1))
        .disk(disk);
    LogEventStore::open(options).await.map(|(log, _)| log)
}

async fn is_up(log: &LogEventStore) -> bool {
    log.check().await.status == Status::Up
}

fn kind<T>(result: Result<T>) -> &'static str {
    result.err().map_or("ok", |error| error.kind().name())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_write_or_sync_the_fate_is_unknown_and_the_log_poisoned() {
    for operation in [Operation::Write, Operation::Sync] {
        let folder = tempfile::tempdir().unwrap();
        let faults = DiskFaults::none();
        let log = on(folder.path(), &faults).await.unwrap();
        log.append(to("a", &["one"])).await.unwrap();
        faults.once(operation, Fault::Broken, 0);
        assert_eq!(kind(log.append(to("a", &["two"])).await), "indeterminate", "{operation:?}");
        // The disk works again, but nobody knows what it has.
        assert_eq!(kind(log.append(to("a", &["three"])).await), "poisoned", "{operation:?}");
        let stream = StreamName::new("a").unwrap();
        assert_eq!(kind(log.tombstone(&stream, Expected::Any).await), "poisoned");
        assert_eq!(all(&log).await.unwrap().len(), 1, "an unacknowledged event is not shown");
        assert!(!is_up(&log).await);
        log.close().await;
        assert_eq!(kind(log.append(to("a", &["four"])).await), "closed");
        let (log, report) = open(folder.path(), Mode::Strict).await.unwrap();
        assert_eq!(report.lost, None, "{operation:?}");
        let events = all(&log).await.unwrap();
        assert!((1..=2).contains(&events.len()), "{operation:?}: {events:?}");
        log.append(to("a", &["after"])).await.unwrap();
        assert_eq!((log.name(), is_up(&log).await), ("events", true));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_in_a_group_that_fails_is_told_that_its_fate_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let faults = DiskFaults::none();
    let log = Arc::new(on(folder.path(), &faults).await.unwrap());
    faults.always(Operation::Sync, Fault::Broken);
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..64 {
        let log = Arc::clone(&log);
        writers.spawn(async move { kind(log.append(to(&format!("s{number}"), &["x"])).await) });
    }
    let told = writers.join_all().await;
    assert!(told.iter().all(|kind| ["indeterminate", "poisoned"].contains(kind)), "{told:?}");
    assert!(told.contains(&"indeterminate"));
    assert_eq!(all(&log).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_an_append_as_a_whole_and_takes_it_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let faults = DiskFaults::none();
    let log = on(folder.path(), &faults).await.unwrap();
    faults.always(Operation::Allocate, Fault::Full);
    let text = "long ".repeat(100);
    let mut taken = 0_usize;
    while log.append(to("a", &[&text])).await.is_ok() {
        taken += 1;
    }
    let refused = log.append(to("a", &[&text])).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(refused.is_transient());
    assert_eq!(all(&log).await.unwrap().len(), taken, "nothing of it was written");
    assert!(!is_up(&log).await);
    faults.heal();
    assert!(is_up(&log).await, "it looks for room by itself");
    log.append(to("a", &[&text])).await.unwrap();
    log.close().await;
    let (log, _) = open(folder.path(), Mode::Strict).await.unwrap();
    assert_eq!(all(&log).await.unwrap().len(), taken + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_made_durable_takes_no_new_segment() {
    let folder = tempfile::tempdir().unwrap();
    let faults = DiskFaults::none();
    let log = on(folder.path(), &faults).await.unwrap();
    faults.always(Operation::SyncFolder, Fault::Broken);
    let text = "long ".repeat(100);
    let mut taken = 0_usize;
    while log.append(to("a", &[&text])).await.is_ok() {
        taken += 1;
        assert!(taken < 100, "a segment was made though its folder could not be synced");
    }
    drop(log);
    let (log, report) = open_again(folder.path()).await;
    assert_eq!(report.lost, None);
    assert_eq!(all(&log).await.unwrap().len(), taken);
}

/// Opens a log whose writer is about to end.
async fn open_again(folder: &Path) -> (LogEventStore, infra_events::RecoveryReport) {
    for _ in 0..500 {
        match open(folder, Mode::Strict).await {
            Ok(opened) => return opened,
            Err(error) => assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the folder is never released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_at_the_opening_is_an_outage_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let events = written(folder.path(), 150).await;
    for operation in [Operation::Open, Operation::Read, Operation::Sync, Operation::SyncFolder] {
        for after in 0..4 {
            let faults = DiskFaults::none();
            faults.once(operation, Fault::Broken, after);
            let opened = on(folder.path(), &faults).await;
            if let Ok(log) = &opened {
                assert_eq!(all(log).await.unwrap(), events);
                log.close().await;
                continue;
            }
            assert_eq!(kind(opened), "unavailable", "{operation:?} after {after}");
        }
    }
    let (log, report) = open(folder.path(), Mode::Strict).await.unwrap();
    assert_eq!((all(&log).await.unwrap(), report.lost), (events, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_loses_nothing_and_groups_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let faults = DiskFaults::none();
    let log = Arc::new(on(folder.path(), &faults).await.unwrap());
    faults.always(Operation::Sync, Fault::Slow(Duration::from_millis(20)));
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..64 {
        let log = Arc::clone(&log);
        writers.spawn(async move { log.append(to(&format!("s{number}"), &["x"])).await.is_ok() });
    }
    assert!(writers.join_all().await.into_iter().all(|is_ok| is_ok));
    assert_eq!(all(&log).await.unwrap().len(), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_has_one_writer_and_any_number_of_readers() {
    let folder = tempfile::tempdir().unwrap();
    let events = written(folder.path(), 2).await;
    let (writer, _) = open(folder.path(), Mode::Strict).await.unwrap();
    let second = open(folder.path(), Mode::Strict).await.map(|_| ());
    assert!(
        second.as_ref().is_err_and(|error| error.to_string().contains("lock is held")),
        "{second:?}"
    );
    let (reader, _) = open(folder.path(), Mode::ReadOnly).await.unwrap();
    assert_eq!(all(&reader).await.unwrap(), events);
    assert_eq!(kind(reader.append(to("a", &["x"])).await), "denied");
    let stream = StreamName::new("s0").unwrap();
    assert_eq!(kind(reader.truncate_before(&stream, Version::new(1)).await), "denied");
    writer.append(to("a", &["x"])).await.unwrap();
    writer.close().await;
    assert_eq!(kind(open(folder.path(), Mode::Strict).await), "ok");
    let nowhere = folder.path().join("nowhere");
    assert_eq!(kind(open(&nowhere, Mode::ReadOnly).await), "unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_of_an_append_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path(), Mode::Strict).await.unwrap();
    let big = "x".repeat(2 * 1_024 * 1_024);
    assert_eq!(kind(log.append(to("a", &[&big])).await), "invalid");
    let many: Vec<&str> = vec!["x"; 10_001];
    assert_eq!(kind(log.append(to("a", &many)).await), "invalid");
    let large = "y".repeat(100_000);
    log.append(to("a", &[&large])).await.unwrap();
    let empty = Append { streams: Vec::new(), ..to("a", &[]) };
    assert_eq!(kind(log.append(empty).await), "invalid");
    assert_eq!(all(&log).await.unwrap().len(), 1, "larger than a segment, yet kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_time_is_up_takes_no_more_however_many_wait() {
    let folder = tempfile::tempdir().unwrap();
    let faults = DiskFaults::none();
    let options = Options::new(folder.path())
        .latency_budget(Duration::ZERO)
        .witness_interval(Duration::from_hours(1))
        .disk(Arc::new(FaultyDisk(faults.clone())));
    let (log, _) = LogEventStore::open(options).await.unwrap();
    let log = Arc::new(log);
    // Each append has a sync of its own, and the sixth fails.
    faults.once(Operation::Sync, Fault::Broken, 5);
    let appending = (0..20).map(|number| {
        let log = Arc::clone(&log);
        tokio::spawn(async move { kind(log.append(to(&format!("s{number}"), &["x"])).await) })
    });
    let mut ends = std::collections::BTreeMap::<_, u32>::new();
    for task in appending.collect::<Vec<_>>() {
        *ends.entry(task.await.unwrap()).or_default() += 1;
    }
    assert_eq!(
        ends.into_iter().collect::<Vec<_>>(),
        [("indeterminate", 1), ("ok", 5), ("poisoned", 14)]
    );
}
