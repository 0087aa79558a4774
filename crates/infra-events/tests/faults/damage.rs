//! Torn writes, flipped bits, missing files.

use std::{fs, path::Path};

use infra_core::{
    ErrorKind, Result,
    event::{Direction, EventStore, RecordedEvent},
    id::StreamName,
    version::Version,
};
use infra_events::{Check, LogEventStore, Mode, Options, RecoveryReport};
use infra_testkit::seed::Seed;
use rand::RngExt as _;

use crate::support::{all, copy, damage, open, segments, setting, to, used, written};

/// Opens a log and checks every frame of it.
async fn opened(folder: &Path, mode: Mode) -> Result<(LogEventStore, RecoveryReport)> {
    let options = Options::new(folder).segment_bytes(4_096).mode(mode);
    LogEventStore::open(options.check(Check::Everything)).await
}

/// Opens a damaged log by its indexes: it refuses, or its reads have everything or refuse.
async fn judge_quickly(folder: &Path, events: &[RecordedEvent], what: &str) {
    let read = match open(folder, Mode::Strict).await {
        Ok((log, _)) => all(&log).await,
        Err(error) => Err(error),
    };
    match read {
        Ok(read) => assert_eq!(read, events, "{what}"),
        Err(error) => {
            let kind = error.kind();
            let is_typed = matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported);
            assert!(is_typed, "{what}: {error}");
        }
    }
}

/// Opens a damaged log in every mode: Strict has everything or refuses, and the others have a sound
/// beginning and report what they lost. Returns whether Strict refused.
async fn judge(folder: &Path, events: &[RecordedEvent], what: &str) -> bool {
    if 1 < segments(folder).len() {
        judge_quickly(copy(folder).path(), events, what).await;
    }
    let is_refused = match opened(copy(folder).path(), Mode::Strict).await {
        Ok((log, report)) => {
            let read = all(&log).await;
            assert_eq!(read.as_deref().ok(), Some(events), "{what}: {report:?}");
            assert_eq!(report.lost, None, "{what}");
            false
        }
        Err(error) => {
            let kind = error.kind();
            let is_typed = matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported);
            assert!(is_typed, "{what}: {error}");
            if *kind == ErrorKind::Unsupported {
                return true;
            }
            true
        }
    };
    for mode in [Mode::ReadOnly, Mode::Salvage] {
        let copy = copy(folder);
        let Ok((log, report)) = opened(copy.path(), mode).await else {
            assert!(is_refused, "{what}: {mode:?} refuses what Strict takes");
            continue;
        };
        let read = all(&log).await.unwrap();
        assert!(events.starts_with(&read), "{what}: {mode:?} shows what was not written");
        let is_whole = read.len() == events.len();
        assert!(is_whole || report.lost.is_some(), "{what}: {mode:?} lost events in silence");
        log.close().await;
        if mode == Mode::Salvage {
            let (again, report) = open(copy.path(), Mode::Strict).await.unwrap();
            assert_eq!(all(&again).await.unwrap(), read, "{what}: salvaged for good, {report:?}");
        }
    }
    is_refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_anywhere_in_a_small_log_is_reported_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let events = written(folder.path(), 3).await;
    let mut refused = 0;
    for name in fs::read_dir(folder.path()).unwrap() {
        let name = name.unwrap().file_name();
        let length = used(&fs::read(folder.path().join(&name)).unwrap());
        for at in 0..length + 3 {
            let flipped = copy(folder.path());
            damage(&flipped.path().join(&name), |bytes| {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (at % 8);
                }
            });
            let what = format!("bit {} of byte {at} of {name:?}", at % 8);
            refused += usize::from(judge(flipped.path(), &events, &what).await);
        }
    }
    // Every byte of every frame is covered by a checksum.
    assert!(200 < refused, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_at_random_places_of_a_longer_log_are_never_silent() {
    let folder = tempfile::tempdir().unwrap();
    let (n_flips, n_commits) =
        (setting("INFRA_EVENTS_FLIPS", 60), setting("INFRA_EVENTS_FLIPPED", 150));
    let events = written(folder.path(), usize::try_from(n_commits).unwrap()).await;
    let names = segments(folder.path());
    assert!(3 < names.len(), "the log has several segments: {names:?}");
    for seed in Seed::each(n_flips) {
        let mut dice = seed.dice();
        let flipped = copy(folder.path());
        let name = &names[dice.random_range(0..names.len())];
        let mut place = 0;
        damage(&flipped.path().join(name), |bytes| {
            place = dice.random_range(0..used(bytes));
            bytes[place] ^= 1 << dice.random_range(0..8);
        });
        let is_refused = judge(flipped.path(), &events, &format!("{seed}: {name} {place}")).await;
        assert!(is_refused, "{seed}: byte {place} of {name} is covered by nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_torn_at_any_byte_is_gone_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let acknowledged = written(folder.path(), 3).await;
    let before = copy(folder.path());
    let (log, _) = open(folder.path(), Mode::Strict).await.unwrap();
    log.append(to("s0", &["last"])).await.unwrap();
    let whole = all(&log).await.unwrap();
    log.close().await;
    let name = segments(folder.path()).pop().unwrap();
    let longer = fs::read(folder.path().join(&name)).unwrap();
    let (start, end) = (used(&fs::read(before.path().join(&name)).unwrap()), used(&longer));
    assert!(start < end);
    for cut in start..=end {
        // The write got this far, and was never acknowledged: the witness does not know it.
        let torn = copy(before.path());
        damage(&torn.path().join(&name), |bytes| {
            bytes[start..cut].copy_from_slice(&longer[start..cut]);
        });
        let (log, report) = open(torn.path(), Mode::Strict).await.unwrap();
        let read = all(&log).await.unwrap();
        assert_eq!(report.lost, None, "at {cut}");
        assert!(read == acknowledged || read == whole, "at {cut}: {report:?}");
        let is_torn = read == acknowledged && 0 < used(&longer[start..cut]);
        assert_eq!(is_torn, 0 < report.torn_bytes, "at {cut}: {report:?}");
        let next = log.append(to("s0", &["next"])).await.unwrap();
        assert_eq!(next.position.get(), read.len() as u64 + 1);
        log.close().await;
        let (log, _) = open(torn.path(), Mode::Strict).await.unwrap();
        assert_eq!(all(&log).await.unwrap().len(), read.len() + 1, "at {cut}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_tail_is_told_from_a_torn_write_by_the_witness() {
    let folder = tempfile::tempdir().unwrap();
    let events = written(folder.path(), 4).await;
    let name = segments(folder.path()).pop().unwrap();
    let length = used(&fs::read(folder.path().join(&name)).unwrap());
    for cut in [length - 1, length - 20, length / 2] {
        let cut_off = copy(folder.path());
        damage(&cut_off.path().join(&name), |bytes| bytes[cut..].fill(0));
        assert!(judge(cut_off.path(), &events, &format!("cut at {cut}")).await);
    }
    let (_, report) = {
        let cut_off = copy(folder.path());
        damage(&cut_off.path().join(&name), |bytes| bytes[length - 1..].fill(0));
        open(cut_off.path(), Mode::Salvage).await.unwrap()
    };
    let lost = report.lost.unwrap();
    assert_eq!((lost.commits, lost.segment.as_str()), (1, name.as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_segment_is_named_and_a_missing_witness_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let events = written(folder.path(), 150).await;
    let names = segments(folder.path());
    for gone in [&names[0], &names[1], &names[names.len() - 1]] {
        let copy = copy(folder.path());
        fs::remove_file(copy.path().join(gone)).unwrap();
        assert!(judge(copy.path(), &events, &format!("without {gone}")).await);
    }
    let unseen = copy(folder.path());
    for entry in fs::read_dir(unseen.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "log") {
            fs::remove_file(path).unwrap();
        }
    }
    let (log, report) = open(unseen.path(), Mode::Strict).await.unwrap();
    assert!(report.is_witness_missing, "{report:?}");
    assert_eq!(all(&log).await.unwrap(), events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_is_refused_whole_has_no_sound_byte() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 150).await;
    let name = segments(folder.path()).remove(1);
    damage(&folder.path().join(&name), |bytes| bytes[0] ^= 1);
    let report = LogEventStore::verify(Options::new(folder.path())).await.unwrap();
    let told = report.details.iter().find(|segment| segment.name == name).unwrap();
    assert!(told.bytes == 0 && told.damage.is_some(), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_of_another_format_is_refused_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 1).await;
    let name = segments(folder.path()).pop().unwrap();
    let original = fs::read(folder.path().join(&name)).unwrap();
    let mut kinds = Vec::new();
    for at in 0..16 {
        let changed = copy(folder.path());
        damage(&changed.path().join(&name), |bytes| bytes[at] = original[at].wrapping_add(1));
        kinds.push(
            open(changed.path(), Mode::Strict).await.map_err(|error| error.kind().name()).err(),
        );
    }
    assert!(kinds.iter().all(Option::is_some), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_is_damaged_under_an_open_log_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 40).await;
    // Nothing stays in memory: every read is one of the disk.
    let options = Options::new(folder.path()).segment_bytes(4_096).recent_bytes(0);
    let (log, _) = LogEventStore::open(options).await.unwrap();
    let read = async || {
        let stream = StreamName::new("s0").unwrap();
        let of_stream = log.read_stream(&stream, Version::new(1), Direction::Forward, 9).await;
        (of_stream.map(|_| ()), all(&log).await.map(|_| ()))
    };
    assert!(matches!(read().await, (Ok(()), Ok(()))));
    let name = segments(folder.path())[0].clone();
    let path = folder.path().join(&name);
    // Byte 32 begins the header of the first frame, byte 48 its body.
    for (at, why) in [(40, "the frame's header is damaged"), (60, "the frame fails its checksum")] {
        damage(&path, |bytes| bytes[at] ^= 1);
        let (of_stream, of_all) = read().await;
        for error in [of_stream.unwrap_err(), of_all.unwrap_err()] {
            let text = error.to_string();
            assert_eq!(*error.kind(), ErrorKind::Corrupt, "{text}");
            assert!(text.contains(why) && text.contains(&name), "{text}");
        }
        damage(&path, |bytes| bytes[at] ^= 1);
    }
    assert!(matches!(read().await, (Ok(()), Ok(()))));
    fs::write(&path, b"").unwrap();
    assert_eq!(*read().await.1.unwrap_err().kind(), ErrorKind::Corrupt, "an empty file");
}
