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
use infra_events::{Disk, DiskFile, LogEventStore, Options, RealDisk};
use infra_testkit::seed::Seed;
use parking_lot::Mutex;
use rand::RngExt as _;

use crate::game::{Event, stored, stream};

const FOLDER: &str = "INFRA_EVENTS_CRASH_FOLDER";
const WRITERS: u64 = 64;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn numbered(number: u64) -> Event {
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
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut acked: BTreeMap<u64, u64> = BTreeMap::new();
    for seed in Seed::each(setting("INFRA_EVENTS_KILLS", 8)) {
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

/// A mistake of a writer, as the disk sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// It acknowledges before the sync.
    SkipsSync,
    /// It does not sync the folder of a new segment.
    SkipsFolderSync,
    /// It takes a short write for a whole one.
    WritesShort,
    /// It writes a bit wrong.
    FlipsBit,
    /// It writes a group at the place of the one before.
    WritesBack,
}

/// A file: what is there, and what would be there after the power went.
#[derive(Debug, Default, Clone)]
struct Blocks {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    is_linked: bool,
}

/// A disk in memory whose power can go.
#[derive(Debug, Clone)]
struct PowerDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Blocks>>>,
    mistake: Mistake,
}

#[derive(Debug)]
struct PowerFile(PowerDisk, PathBuf);

fn put(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.resize(bytes.len().max(at + piece.len()), 0);
    bytes[at..at + piece.len()].copy_from_slice(piece);
}

impl PowerDisk {
    const fn with(files: Arc<Mutex<BTreeMap<PathBuf, Blocks>>>, mistake: Mistake) -> Self {
        Self { files, mistake }
    }

    /// Takes the power: of each unsynced write some sectors are there, or none; a file whose
    /// folder was not synced may be gone.
    fn power_goes(&self, dice: &mut impl rand::Rng) {
        self.files.lock().retain(|_, file| {
            for (at, bytes) in std::mem::take(&mut file.unsynced) {
                for (number, sector) in bytes.chunks(512).enumerate() {
                    if dice.random_range(0..2) == 0 {
                        put(&mut file.durable, at + number * 512, sector);
                    }
                }
            }
            file.live = file.durable.clone();
            file.is_linked
        });
    }
}

impl Disk for PowerDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.create_folder(folder)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut files = self.files.lock();
        if !create && !files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        files.entry(path.to_owned()).or_default();
        Ok(Box::new(PowerFile(self.clone(), path.to_owned())))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let files = self.files.lock();
        let names = files.keys().filter_map(|path| path.strip_prefix(folder).ok());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().remove(path);
        Ok(())
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        if self.mistake != Mistake::SkipsFolderSync {
            self.files.lock().values_mut().for_each(|file| file.is_linked = true);
        }
        Ok(())
    }
}

impl PowerFile {
    fn with<T>(&self, work: impl FnOnce(&mut Blocks) -> T) -> T {
        work(self.0.files.lock().entry(self.1.clone()).or_default())
    }
}

impl DiskFile for PowerFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| {
            let from = usize::try_from(offset).unwrap().min(file.live.len());
            let length = buffer.len().min(file.live.len() - from);
            buffer[..length].copy_from_slice(&file.live[from..from + length]);
            Ok(length)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut bytes, mut at) = (bytes.to_vec(), usize::try_from(offset).unwrap());
        let is_log = self.1.extension().is_some_and(|extension| extension == "log") && 32 < at;
        match self.0.mistake {
            Mistake::WritesShort if is_log => bytes.truncate(bytes.len() / 2),
            Mistake::FlipsBit if is_log => bytes[20] ^= 1,
            Mistake::WritesBack if is_log => at -= 1,
            Mistake::None
            | Mistake::SkipsSync
            | Mistake::SkipsFolderSync
            | Mistake::WritesShort
            | Mistake::FlipsBit
            | Mistake::WritesBack => {}
        }
        self.with(|file| {
            put(&mut file.live, at, &bytes);
            file.unsynced.push((at, bytes));
        });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.0.mistake != Mistake::SkipsSync {
            self.with(|file| {
                file.unsynced.clear();
                file.durable = file.live.clone();
            });
        }
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap();
        self.with(|file| file.live.resize(file.live.len().max(length), 0));
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap();
        self.with(|file| {
            file.live.resize(length, 0);
            file.unsynced.retain(|(at, _)| *at < length);
        });
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.with(|file| file.live.len() as u64))
    }
}

/// Writes, takes the power, opens again: returns whether everything acknowledged was there.
async fn survives(mistake: Mistake, seed: Seed) -> bool {
    let (folder, mut dice) = (tempfile::tempdir().unwrap(), seed.dice());
    let files = Arc::default();
    let open = async |mistake| {
        let disk = PowerDisk::with(Arc::clone(&files), mistake);
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
        let copy = PowerDisk::with(Arc::new(Mutex::new(files.lock().clone())), Mistake::None);
        log.close().await;
        copy.power_goes(&mut dice);
        files.lock().clone_from(&copy.files.lock());
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
