//! The work that all sides do: so many appenders, each with a stream of its own, each append awaited
//! before the next, 256 bytes, durable. A side says how one append is done.

use std::{
    sync::{Mutex, OnceLock},
    time::Instant,
};

/// What each append carries.
pub const BODY: usize = 256;

/// How many appenders, and how many appends each.
#[derive(Clone, Copy)]
pub struct Load {
    pub appenders: u64,
    pub each: u64,
}

impl Load {
    /// The appends in a second since `begun`.
    fn rate(self, begun: Instant) -> f64 {
        (self.appenders * self.each) as f64 / begun.elapsed().as_secs_f64()
    }
}

/// Runs a blocking appender in a thread for each stream; returns appends in a second.
pub fn in_threads(load: Load, append: impl Fn(u64, u64) + Sync) -> f64 {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for appender in 0..load.appenders {
            let append = &append;
            scope.spawn(move || (0..load.each).for_each(|number| append(appender, number)));
        }
    });
    load.rate(begun)
}

/// Runs an appender in a task for each stream; returns appends in a second.
pub async fn in_tasks<F: Future<Output = ()> + Send + 'static>(
    load: Load,
    appender: impl Fn(u64) -> F,
) -> f64 {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..load.appenders {
        tasks.spawn(appender(number));
    }
    tasks.join_all().await;
    load.rate(begun)
}

/// The stream's name of an appender.
pub fn stream(appender: u64) -> String {
    format!("room-{appender}")
}

/// Returns a fresh folder on the disk that is measured; in memory nothing is durable.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    static LATENCY: OnceLock<()> = OnceLock::new();
    LATENCY.get_or_init(|| {
        let mut stat = std::process::Command::new("stat");
        let found = stat.args(["-f", "-c", "%T"]).arg(folder.path()).output().unwrap();
        let kind = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        assert!(kind != "tmpfs", "{} is in memory: set TMPDIR to a disk", folder.path().display());
        eprintln!("disk: {kind}, one fdatasync {:.0} µs", fsync_micros(folder.path()));
    });
    folder
}

/// The median time of a small write and its sync.
fn fsync_micros(folder: &std::path::Path) -> f64 {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::create(folder.join("latency")).unwrap();
    file.set_len(1 << 20).unwrap();
    file.sync_all().unwrap();
    let mut times: Vec<f64> = (0..101_u64)
        .map(|number| {
            let start = Instant::now();
            file.write_all_at(&[7; BODY], number * 512).unwrap();
            file.sync_data().unwrap();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The times of single appends, of all appenders.
#[derive(Default)]
pub struct Latencies(Mutex<Vec<f64>>);

impl Latencies {
    pub fn add(&self, mut of_one: Vec<f64>) {
        self.0.lock().unwrap().append(&mut of_one);
    }

    /// The 99th percentile in milliseconds.
    pub fn p99(&self) -> f64 {
        let mut all = self.0.lock().unwrap();
        all.sort_by(f64::total_cmp);
        all[all.len() * 99 / 100] * 1e3
    }
}
