//! Processes that are killed, and disks that lose what was not synced.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use infra_core::{
    ErrorKind, Result,
    event::{Append, Direction, EventStore},
    version::{Expected, Version},
};
use infra_events::{LogEventStore, Options};
use infra_testkit::seed::Seed;
use parking_lot::Mutex;
use rand::RngExt as _;

use crate::{
    game::{Event, stored, stream},
    power::{Files, Mistake, PowerDisk},
};

const FOLDER: &str = "INFRA_EVENTS_CRASH_FOLDER";
const WRITERS: u64 = 64;

/// After so many kills a new log is begun.
const KILLS_PER_LOG: usize = 40;

pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub(crate) fn numbered(number: u64) -> Event {
    Event::PhaseChanged { to: number.to_string() }
}

/// Opens a log in small segments, so that many are begun.
async fn open(folder: &Path) -> Result<LogEventStore> {
    Ok(LogEventStore::open(Options::new(folder).segment_bytes(64 * 1024)).await?.0)
}

/// The process that is killed: 64 writers, each of which tells what was acknowledged.
async fn write_until_killed(folder: PathBuf) {
    let store = Arc::new(open(&folder).await.unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let name = stream(&format!("w{writer}"));
            let info = store.stream_info(&name).await.unwrap();
            let first = info.map_or(0, |info| info.last.get());
            for number in first + 1.. {
                let event = stored(&numbered(number));
                let expected = if number == 1 {
                    Expected::Absent
                } else {
                    Expected::Exactly(Version::new(number - 1))
                };
                store.append(Append::to(name.clone(), expected, vec![event])).await.unwrap();
                // Whole lines, in one write each.
                io::stdout().write_all(format!("\nacked {writer} {number}\n").as_bytes()).unwrap();
            }
        });
    }
    writers.join_all().await;
}

/// Looks whether everything that was acknowledged is there and equal, and nothing is torn.
async fn audit(store: &LogEventStore, acked: &BTreeMap<u64, u64>, what: &str) {
    for (writer, number) in acked {
        let name = stream(&format!("w{writer}"));
        let from = Version::new(1);
        let events = store.read_stream(&name, from, Direction::Forward, 1_000_000).await.unwrap();
        let found = events.len() as u64;
        assert!(*number <= found, "{what}: writer {writer} was told {number}, {found} are there");
        assert!(found <= number + 1, "{what}: writer {writer} has more than it sent");
        for (event, number) in events.iter().zip(1..) {
            let decoded: Event = event.event.payload.decode().unwrap();
            assert_eq!(decoded, numbered(number), "{what}: writer {writer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_64_writers_that_is_killed_at_random_loses_nothing_acknowledged() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return write_until_killed(folder.into()).await;
    }
    let test =
        "crash::a_process_with_64_writers_that_is_killed_at_random_loses_nothing_acknowledged";
    let begin = || (tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), BTreeMap::new());
    let (mut folder, mut acked): (_, BTreeMap<u64, u64>) = begin();
    for (kill, seed) in Seed::each(setting("INFRA_EVENTS_KILLS", 8)).enumerate() {
        if kill % KILLS_PER_LOG == 0 {
            // All of the log is read after each kill, so it must not grow for ever.
            (folder, acked) = begin();
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let after = seed.dice().random_range(1..1_500);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = 0;
        let mut hear = |line: io::Result<String>| {
            let line = line.ok()?;
            let mut words = line.strip_prefix("acked ")?.split(' ');
            let writer: u64 = words.next()?.parse().ok()?;
            acked.insert(writer, words.next()?.parse().ok()?);
            Some(())
        };
        while told < after {
            let line = lines.next().expect("the child ended by itself");
            told += u64::from(hear(line).is_some());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it was killed counts as well.
        for line in lines {
            hear(line);
        }
        let store = open(folder.path()).await.unwrap();
        audit(&store, &acked, &format!("{seed}, after {told}")).await;
        // What was written and not acknowledged is the beginning of the next round.
        for writer in 0..WRITERS {
            let info = store.stream_info(&stream(&format!("w{writer}"))).await.unwrap();
            acked.insert(writer, info.map_or(0, |info| info.last.get()));
        }
        store.close().await;
    }
}

/// Writes, takes the power, opens again: returns whether everything acknowledged was there.
async fn survives(mistake: Mistake, seed: Seed) -> bool {
    let (folder, mut dice) = (tempfile::tempdir().unwrap(), seed.dice());
    let files = Files::default();
    let open = async |mistake| {
        let disk = PowerDisk::with(&files, mistake);
        let options = Options::new(folder.path()).segment_bytes(4_096).disk(Arc::new(disk));
        LogEventStore::open(options).await
    };
    let mut acked: BTreeMap<u64, u64> = BTreeMap::new();
    for _ in 0..3 {
        let log = match open(mistake).await {
            Ok((log, _)) => log,
            Err(error) => {
                assert_eq!(*error.kind(), ErrorKind::Corrupt, "{mistake:?}, {seed}: {error}");
                return false;
            }
        };
        for _ in 0..dice.random_range(5..40) {
            let writer = dice.random_range(0..4);
            let number = acked.get(&writer).copied().unwrap_or_default() + 1;
            let event = stored(&numbered(number));
            let offer = Append::to(stream(&format!("w{writer}")), Expected::Any, vec![event]);
            log.append(offer).await.unwrap();
            acked.insert(writer, number);
        }
        // The copy is taken while the log is open: closing it would make things durable.
        let left = Arc::new(Mutex::new(files.lock().clone()));
        log.close().await;
        PowerDisk::with(&left, Mistake::None).power_goes(&mut dice);
        files.lock().clone_from(&left.lock());
        let Ok((log, report)) = open(Mistake::None).await else { return false };
        assert_eq!(report.lost, None, "{mistake:?}, {seed}");
        for (writer, number) in &acked {
            let from = Version::new(1);
            let name = stream(&format!("w{writer}"));
            let events = log.read_stream(&name, from, Direction::Forward, 1_000).await;
            let right: Vec<Event> = (1..=*number).map(numbered).collect();
            let found = events.map(|events| {
                let events = events.iter().map(|event| event.event.payload.decode().unwrap());
                events.collect::<Vec<Event>>()
            });
            if found.ok() != Some(right) {
                return false;
            }
        }
        log.close().await;
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_power_and_five_mistakes_of_a_writer_are_caught() {
    let n_seeds = setting("INFRA_EVENTS_POWER_CUTS", 30);
    for seed in Seed::each(n_seeds) {
        assert!(survives(Mistake::None, seed).await, "{seed}");
    }
    for mistake in [
        Mistake::SkipsSync,
        Mistake::SkipsFolderSync,
        Mistake::WritesShort,
        Mistake::FlipsBit,
        Mistake::WritesBack,
    ] {
        let mut caught = false;
        for seed in Seed::each(n_seeds) {
            caught |= !survives(mistake, seed).await;
        }
        assert!(caught, "{mistake:?} was never caught");
    }
}
