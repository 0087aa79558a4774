//! A disk in memory that loses what was not synced when its power goes, and that writers can use
//! wrongly.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use infra_events::{Disk, DiskFile, RealDisk};
use parking_lot::Mutex;
use rand::RngExt as _;

/// A mistake of a writer, as the disk sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
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
pub(crate) struct Blocks {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    is_linked: bool,
}

/// The files of a disk.
pub(crate) type Files = Arc<Mutex<BTreeMap<PathBuf, Blocks>>>;

/// A disk in memory whose power can go, at a named point if one is armed.
#[derive(Debug, Clone)]
pub(crate) struct PowerDisk {
    files: Files,
    mistake: Mistake,
    points: Points,
}

/// The named points of a disk: before and after each operation on each kind of file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Points(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    /// How often each point was passed.
    passed: BTreeMap<String, u64>,
    armed: Option<(String, u64)>,
    is_off: bool,
}

impl Points {
    /// The power goes when the point is passed for the n-th time.
    pub(crate) fn armed(point: &str, times: u64) -> Self {
        let armed = Some((point.to_owned(), times));
        Self(Arc::new(Mutex::new(Plan { armed, ..Plan::default() })))
    }

    pub(crate) fn passed(&self) -> BTreeMap<String, u64> {
        self.0.lock().passed.clone()
    }

    pub(crate) fn is_off(&self) -> bool {
        self.0.lock().is_off
    }

    /// Refuses everything once the power is off.
    fn alive(&self) -> io::Result<()> {
        if self.is_off() { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn pass(&self, point: String) -> io::Result<()> {
        let mut plan = self.0.lock();
        if plan.is_off {
            return Err(io::Error::other("the power is off"));
        }
        let times = plan.passed.entry(point.clone()).or_default();
        *times += 1;
        let now = (point, *times);
        plan.is_off = plan.armed.as_ref() == Some(&now);
        if plan.is_off { Err(io::Error::other("the power goes")) } else { Ok(()) }
    }

    fn around<T>(&self, what: &str, work: impl FnOnce() -> T) -> io::Result<T> {
        self.pass(format!("before {what}"))?;
        let done = work();
        self.pass(format!("after {what}"))?;
        Ok(done)
    }
}

/// What a file is to the log.
fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("log") => "segment",
        Some("idx") => "index",
        _ => "witness",
    }
}

#[derive(Debug)]
struct PowerFile(PowerDisk, PathBuf);

fn put(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.resize(bytes.len().max(at + piece.len()), 0);
    bytes[at..at + piece.len()].copy_from_slice(piece);
}

impl PowerDisk {
    pub(crate) fn with(files: &Files, mistake: Mistake) -> Self {
        Self { files: Arc::clone(files), mistake, points: Points::default() }
    }

    pub(crate) fn at(files: &Files, points: &Points) -> Self {
        Self { points: points.clone(), ..Self::with(files, Mistake::None) }
    }

    /// Takes the power: of each unsynced write some sectors are there, or none; a file whose
    /// folder was not synced may be gone.
    pub(crate) fn power_goes(&self, dice: &mut impl rand::Rng) {
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
        let files = self.files.lock();
        if !create && !files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let is_new = !files.contains_key(path);
        drop(files);
        let make = || {
            self.files.lock().entry(path.to_owned()).or_default();
        };
        if is_new {
            self.points.around(&format!("create {}", kind(path)), make)?;
        }
        Ok(Box::new(PowerFile(self.clone(), path.to_owned())))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let files = self.files.lock();
        let names = files.keys().filter_map(|path| path.strip_prefix(folder).ok());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.points.alive()?;
        self.files.lock().remove(path);
        Ok(())
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        let link = || self.files.lock().values_mut().for_each(|file| file.is_linked = true);
        let is_skipped = self.mistake == Mistake::SkipsFolderSync;
        self.points.around("sync folder", || {
            if !is_skipped {
                link();
            }
        })
    }
}

impl PowerFile {
    fn with<T>(&self, work: impl FnOnce(&mut Blocks) -> T) -> T {
        work(self.0.files.lock().entry(self.1.clone()).or_default())
    }

    fn around(&self, what: &str, work: impl FnOnce(&mut Blocks)) -> io::Result<()> {
        self.0.points.around(what, || self.with(work))
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
        let is_log = self.1.extension().is_some_and(|extension| extension == "log") && 32 <= at;
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
        let what = if is_log { "frames".to_owned() } else { kind(&self.1).to_owned() };
        self.around(&format!("write {what}"), |file| {
            put(&mut file.live, at, &bytes);
            file.unsynced.push((at, bytes));
        })
    }

    fn sync(&self) -> io::Result<()> {
        let is_skipped = self.0.mistake == Mistake::SkipsSync;
        self.around(&format!("sync {}", kind(&self.1)), |file| {
            if !is_skipped {
                file.unsynced.clear();
                file.durable = file.live.clone();
            }
        })
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap();
        self.around(&format!("allocate {}", kind(&self.1)), |file| {
            file.live.resize(file.live.len().max(length), 0);
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap();
        self.around(&format!("resize {}", kind(&self.1)), |file| {
            file.live.resize(length, 0);
            file.unsynced.retain(|(at, _)| *at < length);
        })
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.with(|file| file.live.len() as u64))
    }
}
