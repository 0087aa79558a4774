//! Verification, online backup, and files that open for ever.

use std::{fs, path::Path, sync::Arc};

use infra_core::{
    ErrorKind,
    clock::Timestamp,
    codec::Payload,
    context::Context,
    event::{Append, EventStore, Filter, NewEvent},
    id::{CorrelationId, EventId, EventType, Scope, StreamName},
    lease::Fence,
    random::Random,
    trace::TraceContext,
    version::{Expected, FencingToken, Position, Version},
};
use infra_events::{LogEventStore, Mode, Options};
use infra_testkit::{clock::ManualClock, seed::Seed};
use rand::RngExt as _;

use crate::support::{all, copy, damage, open, segments, to, written};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_reads_every_frame_of_an_open_log_and_names_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let events = written(folder.path(), 150).await;
    let options = || Options::new(folder.path());
    let (log, _) = open(folder.path(), Mode::Strict).await.unwrap();
    let report = LogEventStore::verify(options()).await.unwrap();
    assert_eq!((report.events, report.lost), (events.len() as u64, None));
    log.append(to("a", &["more"])).await.unwrap();
    assert_eq!(LogEventStore::verify(options()).await.unwrap().events, report.events + 1);
    log.close().await;
    let name = segments(folder.path())[1].clone();
    damage(&folder.path().join(&name), |bytes| bytes[100] ^= 1);
    let lost = LogEventStore::verify(options()).await.unwrap().lost.unwrap();
    assert_eq!(lost.segment, name);
    let nowhere = LogEventStore::verify(Options::new(folder.path().join("nowhere"))).await;
    assert_eq!(*nowhere.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_log_that_is_written_to_is_a_whole_beginning_of_it() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 100).await;
    let log = Arc::new(open(folder.path(), Mode::Strict).await.unwrap().0);
    let writing = {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            for number in 0..400 {
                log.append(to("busy", &[&format!("{number}")])).await.unwrap();
            }
        })
    };
    let mut copies = Vec::new();
    for number in 0..5 {
        let before = log.stable_head().await.unwrap().get();
        let target = tempfile::tempdir().unwrap();
        let report = log.backup(target.path()).await.unwrap();
        assert!(before <= report.events, "backup {number}: what was acknowledged is in it");
        copies.push((target, report));
    }
    writing.await.unwrap();
    let whole = all(&log).await.unwrap();
    for (target, report) in copies {
        let (restored, found) = open(target.path(), Mode::Strict).await.unwrap();
        let events = all(&restored).await.unwrap();
        assert_eq!((events.len() as u64, found.lost), (report.events, None));
        assert!(whole.starts_with(&events));
        restored.append(to("after", &["restored"])).await.unwrap();
        let again = log.backup(target.path()).await.unwrap_err();
        assert_eq!(*again.kind(), ErrorKind::Invalid, "a folder that holds a log is left alone");
    }
    damage(&folder.path().join(&segments(folder.path())[0]), |bytes| bytes[90] ^= 1);
    let target = tempfile::tempdir().unwrap();
    let refused = log.backup(target.path()).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Corrupt, "{refused}");
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/format-1");

/// Writes one of everything, the same bytes each time.
async fn write_golden(folder: &Path) -> LogEventStore {
    let clock = ManualClock::new();
    let options = Options::new(folder).segment_bytes(4_096).clock(Arc::new(clock.clone()));
    let (log, _) = LogEventStore::open(options).await.unwrap();
    let random = Random::seeded(1);
    let stream = |name: &str| StreamName::new(name).unwrap();
    for number in 0..30_u32 {
        let id = EventId::generate(Timestamp::from_millis(u64::from(number)), &random);
        let event_type = EventType::new("played").unwrap();
        let mut event = NewEvent::new(id, event_type, Payload::json(2, &number).unwrap());
        if number % 3 == 0 {
            event = event.with("action", number.to_string()).caused_by(id);
        }
        let name = stream(&format!("room-{}", number % 4));
        let mut append = Append::to(name, Expected::Any, vec![event]);
        if number % 7 == 0 {
            let token = FencingToken::new(u64::from(number));
            append = append.fenced(Fence { scope: Scope::new("room").unwrap(), token });
        }
        let correlation = CorrelationId::generate(Timestamp::EPOCH, &random);
        let context = Context::default().correlation(correlation);
        let context = context.trace(TraceContext::root(&random, true));
        clock.advance(std::time::Duration::from_millis(7));
        context.scope(async { log.append(append).await }).await.unwrap();
    }
    log.truncate_before(&stream("room-1"), Version::new(3)).await.unwrap();
    log.tombstone(&stream("room-2"), Expected::Any).await.unwrap();
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_format_1_open_as_they_were_written_and_are_written_so_still() {
    // The files of a new format are written by naming their folder here.
    let folder = match std::env::var("INFRA_EVENTS_GOLDEN") {
        Ok(folder) => tempfile::Builder::new().disable_cleanup(true).tempdir_in(folder).unwrap(),
        Err(_) => tempfile::tempdir().unwrap(),
    };
    let log = write_golden(folder.path()).await;
    let right = all(&log).await.unwrap();
    log.close().await;
    let golden = copy(Path::new(GOLDEN));
    let (opened, report) = open(golden.path(), Mode::Strict).await.unwrap();
    assert_eq!(all(&opened).await.unwrap(), right);
    assert_eq!((report.commits, report.torn_bytes, report.lost), (32, 0, None));
    assert!(!report.is_witness_missing);
    let names = segments(folder.path());
    assert_eq!(segments(Path::new(GOLDEN)), names);
    for name in names {
        let (golden, fresh) = (Path::new(GOLDEN).join(&name), folder.path().join(&name));
        assert_eq!(fs::read(golden).unwrap(), fs::read(fresh).unwrap(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_the_same_whether_they_are_in_memory_in_part_there_or_on_the_disk_alone() {
    let mut logs = Vec::new();
    for recent in [16 << 20, 2_000, 0] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path()).segment_bytes(4_096).recent_bytes(recent);
        let (log, _) = LogEventStore::open(options).await.unwrap();
        for number in 0..120 {
            let stream = format!("s{}", number % 3);
            log.append(to(&stream, &[&number.to_string(), "x"])).await.unwrap();
        }
        log.truncate_before(&StreamName::new("s1").unwrap(), Version::new(30)).await.unwrap();
        logs.push((folder, log));
    }
    for seed in Seed::each(200) {
        let mut dice = seed.dice();
        let after = Position::new(dice.random_range(0..=240));
        let limit = dice.random_range(0..=40_usize);
        let prefix = ["s", "s1", "nobody"][dice.random_range(0..3_usize)];
        let filter = Filter { stream_prefix: Some(prefix.to_owned()), ..Filter::default() };
        let mut pages = Vec::new();
        for (_, log) in &logs {
            let page = log.read_all(after, &filter, limit).await.unwrap();
            let events: Vec<_> = page
                .events
                .into_iter()
                .map(|event| (event.position, event.stream, event.event.payload))
                .collect();
            pages.push((events, page.read_to, page.is_end));
        }
        assert!(pages.windows(2).all(|two| two[0] == two[1]), "{seed}: {pages:?}");
    }
}
