//! Other processes: this program, run again as one of its own tests.

use std::{
    env,
    fs::File,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::places::Place;

const PLACE: &str = "STATE_PLACE";
const LINES: &str = "STATE_LINES";
const WORDS: &str = "STATE_WORDS";

/// What a child was told; `None` if this process is none.
pub(crate) struct Told {
    pub(crate) place: Place,
    pub(crate) words: String,
    lines: File,
}

/// Returns what this process was told as a child.
pub(crate) fn told() -> Option<Told> {
    let place = Place::of_line(&env::var(PLACE).ok()?);
    let lines = File::options().append(true).create(true).open(env::var(LINES).unwrap()).unwrap();
    Some(Told { place, words: env::var(WORDS).unwrap(), lines })
}

impl Told {
    /// Says a line, in one call: what was written is the system's, also when this process is killed.
    pub(crate) fn say(&self, line: &str) {
        (&self.lines).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// A child; it ends with this value.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(test: &str, place: &Place, lines: &Path, words: &str) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .envs([(PLACE, place.line()), (WORDS, words.to_owned())])
            .env(LINES, lines)
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// Waits until a condition over what was said holds.
    pub(crate) fn wait_until(&mut self, lines: &Path, holds: impl Fn(&[String]) -> bool) {
        while !holds(&said(lines)) {
            if let Some(ended) = self.0.try_wait().unwrap() {
                assert!(ended.success() && holds(&said(lines)), "the child has ended: {ended:?}");
                return;
            }
            pause();
        }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        // One that has ended cannot be killed, which is fine.
        let _killed = self.0.kill().is_ok();
        self.0.wait().unwrap();
    }

    /// Waits until it has ended by itself, this long at most.
    #[expect(clippy::disallowed_methods, reason = "another process is waited for, by its own time")]
    pub(crate) fn join(&mut self, patience: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if let Some(ended) = self.0.try_wait().unwrap() {
                assert!(ended.success(), "the child has failed: {ended:?}");
                return;
            }
            pause();
        }
        panic!("the child has not ended within {patience:?}");
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "another process is waited for, by its own time")]
fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

/// Returns what was said, whole lines.
pub(crate) fn said(lines: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(lines).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(str::to_owned).collect()
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(future)
}
