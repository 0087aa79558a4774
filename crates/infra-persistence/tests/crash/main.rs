//! A process that plays, completes, archives and removes games is killed again and again: nothing that
//! it acknowledged is missing, nothing that was removed comes back, no archive is older than its game,
//! also after everything that waited for the archive went there.
//! `INFRA_PERSISTENCE_KILLS` sets how often; 6 by default.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod transfers;

use std::{
    collections::HashMap,
    env,
    fs::File,
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use infra_core::{
    Result, SystemClock,
    lifecycle::Shutdown,
    random::Random,
    store::{DocumentStore, Term},
    version::Expected,
};
use infra_persistence::{
    Archive, Archivist, Documents, Entity, Hybrid, HybridOptions, Limits, Options, Standing, Vault,
    embedded,
};
use serde::{Deserialize, Serialize};

const FOLDER: &str = "INFRA_CRASH_FOLDER";
const GAMES: u64 = 64;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Game {
    id: u64,
    turns: u64,
    is_over: bool,
}

impl Entity for Game {
    const COLLECTION: &'static str = "games";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        Bytes::from(self.id.to_string())
    }

    fn terms(&self) -> Result<Vec<Term>> {
        Ok(Vec::new())
    }

    fn standing(&self) -> Standing {
        if self.is_over { Standing::Completed } else { Standing::Active }
    }
}

async fn open(folder: &Path) -> (Arc<Documents>, Hybrid<Game>, Archivist<Game>) {
    let (documents, report) = embedded(Options::new(folder.join("documents"))).await.unwrap();
    assert_eq!(report.lost, 0);
    let documents = Arc::new(documents);
    let vault = Vault::new(Arc::new(Archive::in_folder(folder.join("archive")).unwrap()));
    let options = HybridOptions::new(Limits::entries(100)).batch(8, Duration::ZERO);
    let options = options.clock(SystemClock::shared());
    let store: Arc<dyn DocumentStore> = Arc::<Documents>::clone(&documents);
    let (hybrid, archivist) = Hybrid::open(store, vault, options).await.unwrap();
    (documents, hybrid, archivist)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// What is going to be done to a game, or was done and acknowledged: its turns, none if it is removed.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: u64,
    turns: Option<u64>,
    is_done: bool,
}

impl Line {
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap() + "\n"
    }
}

/// The child's life: it ends when it is killed. As a test of its own it has nothing to do.
#[test]
fn child_of_the_crash_test() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    run(async {
        let folder = Path::new(&folder).to_owned();
        let (_documents, hybrid, archivist) = open(&folder).await;
        let shutdown = Shutdown::new();
        let stop = shutdown.stop();
        shutdown.spawn(async move {
            archivist.run(stop).await;
        });
        // One write call a line: what was written is the system's, also when the process is killed.
        let log =
            Arc::new(File::options().append(true).create(true).open(folder.join("log")).unwrap());
        let mut players = tokio::task::JoinSet::new();
        for id in 0..GAMES {
            let (hybrid, log) = (hybrid.clone(), Arc::clone(&log));
            players.spawn(async move {
                let random = Random::from_system();
                let say = |turns, is_done| {
                    let line = Line { id, turns, is_done };
                    (&*log).write_all(line.text().as_bytes()).unwrap();
                };
                let found = hybrid.get(id.to_string().as_bytes()).await.unwrap();
                let mut turns = found.map_or(0, |found| found.entity.turns);
                loop {
                    turns += 1;
                    let chance = random.below(10);
                    if chance == 0 {
                        say(None, false);
                        hybrid.remove(id.to_string().as_bytes(), Expected::Any).await.unwrap();
                        say(None, true);
                        continue;
                    }
                    say(Some(turns), false);
                    let game = Game { id, turns, is_over: chance < 4 };
                    hybrid.save(game, Expected::Any).await.unwrap();
                    say(Some(turns), true);
                    if chance == 3 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            });
        }
        players.join_next().await.unwrap().unwrap();
    });
}

/// What each game may be: what was acknowledged last, and what was begun since.
fn may_be(folder: &Path) -> HashMap<u64, Vec<Option<u64>>> {
    let mut states: HashMap<u64, Vec<Option<u64>>> = HashMap::new();
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    for line in log.lines() {
        // A line that the kill cut off tells nothing.
        let Ok(Line { id, turns, is_done }) = serde_json::from_str(line) else { continue };
        let state = states.entry(id).or_insert_with(|| vec![None]);
        if is_done {
            state.clear();
        }
        state.push(turns);
    }
    states
}

/// Lives in a process of its own until it is killed, at any instant after it has said a few hundred lines.
async fn live_and_be_killed(folder: &Path) {
    let said = || std::fs::metadata(folder.join("log")).map_or(0, |log| log.len());
    let before = said();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "child_of_the_crash_test"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while said() < before + 20_000 {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "the child ended by itself, {ended:?}: see its panic above");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(Random::from_system().below(100))).await;
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    assert_eq!(
        ended.signal(),
        Some(9),
        "the child was killed and did not end by itself: {ended:?}"
    );
}

/// The turns of each game.
async fn turns(hybrid: &Hybrid<Game>) -> Vec<Option<u64>> {
    let mut turns = Vec::new();
    for id in 0..GAMES {
        let found = hybrid.get(id.to_string().as_bytes()).await.unwrap();
        turns.push(found.map(|found| found.entity.turns));
    }
    turns
}

/// Holds what is left against what was said, and returns what the next life begins with, and how many
/// are archived.
async fn audit(folder: &Path, kill: u64) -> (Vec<Option<u64>>, u64) {
    let (documents, hybrid, archivist) = open(folder).await;
    let (states, found) = (may_be(folder), turns(&hybrid).await);
    for (id, turns) in (0..).zip(&found) {
        let states = states.get(&id).cloned().unwrap_or_else(|| vec![None]);
        assert!(states.contains(turns), "kill {kill}, game {id}: {turns:?} of {states:?}");
    }
    archivist.run_due().await;
    assert_eq!(turns(&hybrid).await, found, "kill {kill}: as before what waited was archived");
    let reconciled = hybrid.reconcile(Duration::ZERO).await.unwrap();
    let report = hybrid.lifecycle().await.unwrap();
    assert_eq!((report.waiting, report.dead), (0, 0), "kill {kill}: all that waited is archived");
    assert_eq!(reconciled.missing, 0, "kill {kill}: an archived game has its object");
    assert_eq!(reconciled.named, report.archived, "kill {kill}: each is archived once");
    let again = hybrid.reconcile(Duration::ZERO).await.unwrap();
    assert_eq!(again.removed, 0, "kill {kill}: no object is left over");
    // Who drops a store without closing it does not know when it lets go of its folder.
    documents.close().await;
    (found, report.archived)
}

#[test]
fn nothing_that_a_killed_process_acknowledged_is_missing_and_nothing_removed_comes_back() {
    let kills = env::var("INFRA_PERSISTENCE_KILLS").map_or(6, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut archived = 0;
    for kill in 0..kills {
        run(live_and_be_killed(folder.path()));
        let (found, count) = run(audit(folder.path(), kill));
        archived += count;
        let line = |(id, turns)| Line { id, turns, is_done: true }.text();
        let settled: String = (0..).zip(found).map(line).collect();
        std::fs::write(folder.path().join("log"), settled).unwrap();
    }
    assert!(0 < archived, "some were archived");
    println!("{kills} kills, {archived} games found in the archive");
}
