//! The indexes of sealed segments: they stand for their segments, and are never believed wrongly.

use std::{collections::BTreeMap, fs, path::Path};

use infra_core::{
    ErrorKind,
    event::{Append, Direction, EventStore, RecordedEvent},
    id::{Scope, StreamName},
    lease::Fence,
    version::{Expected, FencingToken, Version},
};
use infra_events::{Check, LogEventStore, Mode, Options, RecoveryReport};
use infra_testkit::seed::Seed;
use rand::RngExt as _;

use crate::support::{all, copy, damage, open, segments, to, used, written};

async fn open_checked(folder: &Path) -> (LogEventStore, RecoveryReport) {
    let options = Options::new(folder).segment_bytes(4_096).check(Check::Everything);
    LogEventStore::open(options).await.unwrap()
}

/// The bytes of the indexes of a folder, by name.
fn indexes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let names = names.filter(|name| Path::new(name).extension() == Some("idx".as_ref()));
    names.map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

fn indexed(report: &RecoveryReport) -> Vec<bool> {
    report.details.iter().map(|detail| detail.is_indexed).collect()
}

/// Writes a log of everything a log can hold, by chance, and returns some appends of it.
async fn varied(folder: &Path, seed: Seed) -> Vec<Append> {
    let mut dice = seed.dice();
    let (log, _) = open(folder, Mode::Strict).await.unwrap();
    let mut kept = Vec::new();
    for step in 0..120 {
        let name = format!("s{}", dice.random_range(0..6));
        let stream = StreamName::new(&name).unwrap();
        let last = log.stream_info(&stream).await.unwrap().map_or(Version::ZERO, |info| info.last);
        // What is refused, as for a stream that has ended, is part of it.
        match dice.random_range(0..30) {
            0 => drop(log.tombstone(&stream, Expected::Any).await),
            1..4 => {
                let before = Version::new(dice.random_range(0..=last.get() + 1));
                drop(log.truncate_before(&stream, before).await);
            }
            choice => {
                let words = ["a", "b", "c"];
                let mut append = to(&name, &words[..dice.random_range(1..=3)]);
                if choice < 8 {
                    let scope = Scope::new(&name).unwrap();
                    let token = FencingToken::new(step);
                    append = append.fenced(Fence { scope, token });
                }
                kept.push(append.clone());
                drop(log.append(append).await);
            }
        }
    }
    log.close().await;
    kept
}

/// Everything that the log says of its streams.
async fn told(log: &LogEventStore, appends: &[Append]) -> (Vec<RecordedEvent>, Vec<String>) {
    let mut said = Vec::new();
    for number in 0..6 {
        let stream = StreamName::new(format!("s{number}")).unwrap();
        said.push(format!("{:?}", log.stream_info(&stream).await));
        let read = log.read_stream(&stream, Version::MAX, Direction::Backward, 9).await;
        said.push(format!("{read:?}"));
    }
    let before = all(log).await.unwrap();
    for append in appends {
        said.push(format!("{:?}", log.append(append.clone()).await));
    }
    (before, said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_known_by_its_indexes_is_the_log_that_is_read_whole() {
    for seed in Seed::each(8) {
        let folder = tempfile::tempdir().unwrap();
        let appends = varied(folder.path(), seed).await;
        let other = copy(folder.path());
        let (quick, by_index) = open(folder.path(), Mode::Strict).await.unwrap();
        let (whole, by_frames) = open_checked(other.path()).await;
        let n_sealed = segments(folder.path()).len() - 1;
        assert!(1 < n_sealed, "{seed}");
        let marks = indexed(&by_index);
        assert!(marks[..n_sealed].iter().all(|is_indexed| *is_indexed), "{marks:?}, {seed}");
        assert!(!marks[n_sealed] && !indexed(&by_frames).contains(&true), "{seed}");
        assert_eq!((by_index.events, by_index.commits), (by_frames.events, by_frames.commits));
        let (quick, whole) = (told(&quick, &appends).await, told(&whole, &appends).await);
        assert_eq!(quick.0, whole.0, "{seed}");
        assert_eq!(quick.1, whole.1, "{seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_missing_or_damaged_is_made_again_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let appends = varied(folder.path(), Seed::each(1).next().unwrap()).await;
    let right = indexes(folder.path());
    let (log, _) = open(copy(folder.path()).path(), Mode::Strict).await.unwrap();
    let said = told(&log, &appends).await;
    let name = right.keys().next().unwrap();
    let check = async |spoilt: &Path, what: &str| {
        let (log, report) = open(spoilt, Mode::Strict).await.unwrap();
        assert_eq!(report.lost, None, "{what}");
        let is_believed = indexed(&report)[0];
        assert_eq!(told(&log, &appends).await, said, "{what}");
        log.close().await;
        if !is_believed {
            assert_eq!(indexes(spoilt)[name], right[name], "{what}");
        }
        is_believed
    };
    let gone = copy(folder.path());
    fs::remove_file(gone.path().join(name)).unwrap();
    let (reader, _) = open(gone.path(), Mode::ReadOnly).await.unwrap();
    assert_eq!(all(&reader).await.unwrap(), said.0);
    assert!(!gone.path().join(name).exists(), "who only reads writes nothing");
    assert!(!check(gone.path(), "without it").await);
    let mut n_believed = 0;
    for at in (0..right[name].len()).step_by(41) {
        let spoilt = copy(folder.path());
        damage(&spoilt.path().join(name), |bytes| bytes[at] ^= 1 << (at % 8));
        n_believed += usize::from(check(spoilt.path(), &format!("byte {at}")).await);
        let spoilt = copy(folder.path());
        damage(&spoilt.path().join(name), |bytes| bytes.truncate(at));
        assert!(!check(spoilt.path(), &format!("cut at {at}")).await);
    }
    assert!(0 < n_believed, "what is not read at the opening is found damaged by the reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_damaged_or_lost_under_an_open_log_is_made_again_by_who_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let appends = varied(folder.path(), Seed::each(1).next().unwrap()).await;
    let right = indexes(folder.path());
    let (log, _) = open(copy(folder.path()).path(), Mode::Strict).await.unwrap();
    let said = told(&log, &appends).await;
    for mode in [Mode::Strict, Mode::ReadOnly] {
        let spoilt = copy(folder.path());
        let (log, report) = open(spoilt.path(), mode).await.unwrap();
        assert!(indexed(&report)[..right.len()].iter().all(|is_indexed| *is_indexed));
        for (number, name) in right.keys().enumerate() {
            let path = spoilt.path().join(name);
            match number % 3 {
                0 => fs::remove_file(path).unwrap(),
                1 => damage(&path, |bytes| bytes.truncate(bytes.len() / 2)),
                _ => damage(&path, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55)),
            }
        }
        let spoilt_before = indexes(spoilt.path());
        assert_eq!(all(&log).await.unwrap(), said.0);
        if mode == Mode::ReadOnly {
            assert_eq!(indexes(spoilt.path()), spoilt_before, "who only reads writes nothing");
            continue;
        }
        assert_eq!(told(&log, &appends).await, said);
        log.close().await;
        let healed = indexes(spoilt.path());
        assert!(right.iter().all(|(name, bytes)| healed.get(name) == Some(bytes)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_index_of_another_segment_is_not_believed() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let events = written(folder.path(), 60).await;
    written(other.path(), 60).await;
    let name = indexes(folder.path()).into_keys().next().unwrap();
    for (from, what) in [
        (other.path().join(&name), "of another log"),
        (folder.path().join(indexes(folder.path()).into_keys().nth(1).unwrap()), "of the next one"),
    ] {
        let mixed = copy(folder.path());
        fs::copy(from, mixed.path().join(&name)).unwrap();
        let (log, report) = open(mixed.path(), Mode::Strict).await.unwrap();
        assert!(!indexed(&report)[0], "{what}");
        assert_eq!(all(&log).await.unwrap(), events, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_a_sealed_segment_is_met_by_the_read_by_verify_and_by_salvage() {
    let folder = tempfile::tempdir().unwrap();
    let events = written(folder.path(), 120).await;
    let names = segments(folder.path());
    for name in &names[1..3] {
        damage(&folder.path().join(name), |bytes| {
            let middle = used(bytes) / 2;
            bytes[middle] ^= 4;
        });
    }
    let (log, report) = open(folder.path(), Mode::Strict).await.unwrap();
    assert!(indexed(&report)[1], "it was not read: {report:?}");
    let error = all(&log).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(&names[1]), "{error}");
    log.append(to("s0", &["goes on"])).await.unwrap();
    log.close().await;
    let report = LogEventStore::verify(Options::new(folder.path())).await.unwrap();
    let damaged: Vec<&str> = report
        .details
        .iter()
        .filter(|detail| detail.damage.is_some())
        .map(|detail| detail.name.as_str())
        .collect();
    assert_eq!(damaged, [&names[1], &names[2]], "both are named: {report:?}");
    assert_eq!(report.details.len(), names.len());
    let (log, report) = open(folder.path(), Mode::Salvage).await.unwrap();
    let kept = all(&log).await.unwrap();
    assert!(events.starts_with(&kept) && kept.len() < events.len());
    assert_eq!(report.lost.unwrap().segment, names[1]);
    log.append(to("s0", &["after"])).await.unwrap();
    log.close().await;
    let (log, _) = open_checked(folder.path()).await;
    assert_eq!(all(&log).await.unwrap().len(), kept.len() + 1);
}
