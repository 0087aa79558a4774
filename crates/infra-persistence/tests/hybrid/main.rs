//! Memory, store and archive together: what goes where and when, and that nothing is lost on its way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock as _, Error, ErrorKind, Result, SystemClock,
    archive::{ArchiveStore, ObjectInfo},
    backoff::Backoff,
    clock::Timestamp,
    id::IndexName,
    lifecycle::Shutdown,
    store::{DocumentStore, Term},
    version::{Expected, Version},
};
use infra_persistence::{
    Archive, ArchiveQuery, Archivist, Entity, Hybrid, HybridOptions, Limits, Overflow, Priority,
    Standing, Vault,
};
use infra_testkit::model::{ModelArchive, ModelDocuments};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Playing,
    Abandoned,
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Round {
    number: u32,
    declared: BTreeMap<String, u8>,
    scores: BTreeMap<String, i64>,
}

/// A game has an id of its own; its room knows the one that is played now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Game {
    id: String,
    room: String,
    phase: Phase,
    rounds: Vec<Round>,
    winner: Option<String>,
    turns: u32,
    started: Timestamp,
    ended: Option<Timestamp>,
}

impl Entity for Game {
    const COLLECTION: &'static str = "games";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        Bytes::copy_from_slice(self.id.as_bytes())
    }

    fn terms(&self) -> Result<Vec<Term>> {
        let room = Term::unique(IndexName::new("room")?, self.room.clone());
        Ok(if self.phase == Phase::Playing { vec![room] } else { Vec::new() })
    }

    fn standing(&self) -> Standing {
        match self.phase {
            Phase::Playing => Standing::Active,
            Phase::Abandoned => Standing::Idle,
            Phase::Over => Standing::Completed,
        }
    }

    fn tags(&self) -> Vec<String> {
        vec![self.room.clone()]
    }
}

fn game(id: &str, phase: Phase) -> Game {
    let rounds = (1..=3).map(|number| Round {
        number,
        declared: [("ann".to_owned(), 3), ("bot".to_owned(), 2)].into(),
        scores: [("ann".to_owned(), 8), ("bot".to_owned(), -1)].into(),
    });
    Game {
        id: id.to_owned(),
        room: format!("room of {id}"),
        phase,
        rounds: rounds.collect(),
        winner: (phase == Phase::Over).then(|| "ann".to_owned()),
        turns: 24,
        started: Timestamp::from_millis(1_000),
        ended: (phase == Phase::Over).then(|| Timestamp::from_millis(9_000)),
    }
}

/// An archive that is watched: how many writes are under way, in which order they came and when, and
/// that fails or waits as it is told.
#[derive(Debug)]
struct Watched {
    inner: ModelArchive,
    clock: Arc<dyn infra_core::Clock>,
    writes: Mutex<Vec<(String, Timestamp)>>,
    flying: AtomicUsize,
    most: AtomicUsize,
    failures: Mutex<Vec<ErrorKind>>,
    is_shut: AtomicBool,
    opened: Notify,
    slow: Duration,
}

impl Watched {
    fn new(slow: Duration) -> Arc<Self> {
        let clock = SystemClock::shared();
        Arc::new(Self {
            inner: ModelArchive::new(Arc::clone(&clock)),
            clock,
            writes: Mutex::default(),
            flying: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            failures: Mutex::default(),
            is_shut: AtomicBool::new(false),
            opened: Notify::new(),
            slow,
        })
    }

    fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
    }

    fn open(&self) {
        self.is_shut.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    async fn names(&self) -> Vec<String> {
        let found = self.inner.list("games", "", 1_000).await.unwrap();
        found.into_iter().map(|info| info.name).collect()
    }

    /// The games in the order of their writes.
    fn order(&self) -> Vec<String> {
        self.writes
            .lock()
            .iter()
            .map(|(name, _)| name.split('/').nth(1).unwrap().to_owned())
            .collect()
    }
}

#[async_trait]
impl ArchiveStore for Watched {
    async fn create(&self, name: &str, body: Bytes) -> Result<()> {
        self.writes.lock().push((name.to_owned(), self.clock.wall()));
        let flying = self.flying.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(flying, Ordering::SeqCst);
        loop {
            let opened = self.opened.notified();
            if !self.is_shut.load(Ordering::SeqCst) {
                break;
            }
            opened.await;
        }
        tokio::time::sleep(self.slow).await;
        self.flying.fetch_sub(1, Ordering::SeqCst);
        let failure = self.failures.lock().pop();
        match failure {
            Some(kind) => Err(Error::new(kind, "create object")),
            None => self.inner.create(name, body).await,
        }
    }

    async fn replace(&self, name: &str, body: Bytes) -> Result<()> {
        self.inner.replace(name, body).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner.get(name).await
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.inner.head(name).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name).await
    }
}

struct Bench {
    hybrid: Hybrid<Game>,
    archive: Arc<Watched>,
    documents: Arc<dyn DocumentStore>,
    archivist: Option<Archivist<Game>>,
    shutdown: Shutdown,
}

fn options(entries: usize) -> HybridOptions {
    HybridOptions::new(Limits::entries(entries)).batch(100, Duration::ZERO)
}

impl Bench {
    async fn new(options: HybridOptions, slow: Duration) -> Self {
        let documents = Arc::new(ModelDocuments::new(SystemClock::shared()));
        Self::over(documents, Watched::new(slow), options).await
    }

    async fn over(
        documents: Arc<dyn DocumentStore>,
        archive: Arc<Watched>,
        options: HybridOptions,
    ) -> Self {
        let objects: Arc<dyn ArchiveStore> = Arc::<Watched>::clone(&archive);
        let opened = Hybrid::open(Arc::clone(&documents), Vault::new(objects), options).await;
        let (hybrid, archivist) = opened.unwrap();
        let shutdown = Shutdown::new();
        Self { hybrid, archive, documents, archivist: Some(archivist), shutdown }
    }

    fn start(&mut self) {
        let (archivist, stop) = (self.archivist.take().unwrap(), self.shutdown.stop());
        self.shutdown.spawn(async move {
            archivist.run(stop).await;
        });
    }

    fn archivist(&self) -> &Archivist<Game> {
        self.archivist.as_ref().unwrap()
    }

    async fn save(&self, id: &str, phase: Phase) -> Version {
        self.hybrid.save(game(id, phase), Expected::Any).await.unwrap()
    }

    async fn is_archived(&self, id: &str) -> bool {
        self.hybrid.archived_as(id.as_bytes()).await.unwrap().is_some()
    }

    async fn read(&self, id: &str) -> Option<Game> {
        let found = self.hybrid.get(id.as_bytes()).await.unwrap();
        found.map(|found| found.entity.as_ref().clone())
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const HOUR: Duration = Duration::from_hours(1);
const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_completed_game_comes_back_from_files_as_it_was_and_a_changed_byte_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let archive: Arc<dyn ArchiveStore> = Arc::new(Archive::in_folder(folder.path()).unwrap());
    let documents = Arc::new(infra_persistence::memory(SystemClock::shared()).unwrap());
    let vault = Vault::new(Arc::clone(&archive));
    let (hybrid, archivist) = Hybrid::open(documents, vault, options(10)).await.unwrap();
    let over = game("game-123", Phase::Over);
    hybrid.save(over.clone(), Expected::Absent).await.unwrap();
    assert_eq!(archivist.run_due().await, 1);
    let archived = hybrid.archived_as(b"game-123").await.unwrap().unwrap();
    assert!(
        0 < archived.stored && archived.length == serde_json::to_vec(&over).unwrap().len() as u64
    );
    let file = folder.path().join(&archived.object);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes.len() as u64, archived.stored);
    assert_eq!(hybrid.usage().entries, 0, "it has left memory");
    let found = hybrid.get(b"game-123").await.unwrap().unwrap();
    assert_eq!(*found.entity, over);
    // A copy of memory's own hides what happens to the file: a second repository has none.
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&file, changed).unwrap();
    let documents = Arc::clone(&archive);
    drop(documents);
    hybrid.restore(b"game-123").await.map(|_| ()).unwrap_err();
    std::fs::write(&file, &bytes).unwrap();
    hybrid.restore(b"game-123").await.unwrap();
    assert!(!file.exists(), "a restored game leaves no object");
    let found = hybrid.get(b"game-123").await.unwrap().unwrap();
    assert_eq!(*found.entity, over);
}

#[tokio::test(start_paused = true)]
async fn each_trigger_hands_over_exactly_at_its_boundary() {
    let options = options(4).completed(Some(HOUR)).interval(Duration::from_mins(1)).idle(2 * HOUR);
    let mut bench = Bench::new(options.clone(), Duration::ZERO).await;
    bench.start();
    bench.save("over", Phase::Over).await;
    bench.save("playing", Phase::Playing).await;
    bench.save("left", Phase::Abandoned).await;
    pass(HOUR.checked_sub(2 * MS).unwrap()).await;
    assert!(!bench.is_archived("over").await);
    pass(4 * MS).await;
    assert!(bench.is_archived("over").await, "completed an hour ago");
    pass(HOUR.checked_sub(4 * MS).unwrap()).await;
    assert!(!bench.is_archived("left").await);
    pass(Duration::from_secs(61)).await;
    assert!(bench.is_archived("left").await, "idle for two hours, seen within the interval");
    pass(100 * HOUR).await;
    assert!(!bench.is_archived("playing").await, "active ones are never archived by age");
    let refused = bench.hybrid.archive(b"playing", Priority::Critical).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Invalid);
    bench.save("by-hand", Phase::Abandoned).await;
    bench.hybrid.archive(b"by-hand", Priority::Low).await.unwrap();
    pass(MS).await;
    assert!(bench.is_archived("by-hand").await, "by hand");

    let mut bench =
        Bench::new(self::options(4).completed(None).pressure(50).concurrency(1, HOUR), MS).await;
    for id in ["a", "b", "c", "d"] {
        bench.save(id, Phase::Over).await;
        pass(MS).await;
    }
    bench.archivist().look().await.unwrap();
    bench.archivist().run_due().await;
    assert_eq!(
        bench.archive.order(),
        ["a", "b"],
        "as many as are above half of the limit, oldest first"
    );
    assert_eq!(bench.hybrid.usage().entries, 2);

    bench = Bench::new(options.drain(HOUR), Duration::ZERO).await;
    bench.save("at-the-end", Phase::Over).await;
    bench.start();
    pass(MS).await;
    assert!(!bench.is_archived("at-the-end").await);
    bench.shutdown.close(HOUR).await;
    let games = infra_core::id::Collection::new("games").unwrap();
    let found = bench.documents.get(&games, b"at-the-end");
    assert_eq!(found.await.unwrap().unwrap().payload.schema, u32::MAX, "shutdown drains");
}

#[tokio::test(start_paused = true)]
async fn batches_and_flights_are_bounded_and_a_full_queue_refuses() {
    let options = options(100).batch(3, Duration::from_millis(500)).concurrency(2, HOUR).queue(5);
    let mut bench = Bench::new(options, Duration::from_millis(10)).await;
    bench.archive.shut();
    bench.start();
    for number in 0..2 {
        bench.save(&number.to_string(), Phase::Over).await;
    }
    pass(Duration::from_millis(499)).await;
    assert_eq!(bench.archive.writes.lock().len(), 0, "two wait for a third, for half a second");
    bench.save("2", Phase::Over).await;
    pass(MS / 2).await;
    assert_eq!(bench.archive.writes.lock().len(), 2, "the first batch goes at once, two at a time");
    for number in 3..5 {
        bench.save(&number.to_string(), Phase::Over).await;
    }
    let full = bench.hybrid.save(game("5", Phase::Over), Expected::Any).await.unwrap_err();
    assert_eq!(*full.kind(), ErrorKind::Overloaded);
    assert!(bench.read("5").await.is_none(), "what is refused is not stored");
    pass(HOUR / 2).await;
    assert_eq!(bench.archive.writes.lock().len(), 2, "nothing more while both are under way");
    bench.archive.open();
    pass(Duration::from_secs(1)).await;
    let mut order = bench.archive.order();
    order.sort();
    assert_eq!(order, ["0", "1", "2", "3", "4"]);
    assert_eq!(bench.archive.most.load(Ordering::SeqCst), 2);
    for number in 0..5 {
        assert!(bench.is_archived(&number.to_string()).await);
    }
    assert_eq!(bench.hybrid.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn turns_go_by_priority_then_first_come_first_served_and_none_starves() {
    let options = options(100).completed(None).concurrency(1, HOUR).ageing(Duration::from_secs(30));
    let bench = Bench::new(options, Duration::ZERO).await;
    let mix = [
        ("l1", Priority::Low),
        ("c1", Priority::Critical),
        ("n1", Priority::Normal),
        ("h1", Priority::High),
        ("c2", Priority::Critical),
        ("l2", Priority::Low),
        ("h2", Priority::High),
    ];
    for (id, priority) in mix {
        bench.save(id, Phase::Over).await;
        bench.hybrid.archive(id.as_bytes(), priority).await.unwrap();
    }
    bench.archivist().run_due().await;
    assert_eq!(bench.archive.order(), ["c1", "c2", "h1", "h2", "n1", "l1", "l2"]);
    // A low one waits at most three agings behind critical ones that come all the time.
    bench.save("low", Phase::Over).await;
    bench.hybrid.archive(b"low", Priority::Low).await.unwrap();
    for second in 0..120 {
        let id = format!("critical-{second}");
        bench.save(&id, Phase::Over).await;
        bench.hybrid.archive(id.as_bytes(), Priority::Critical).await.unwrap();
        pass(Duration::from_secs(1)).await;
    }
    bench.archivist().run_due().await;
    let order = bench.archive.order();
    let turn = order.iter().position(|id| id == "low").unwrap() - mix.len();
    assert!((89..=91).contains(&turn), "the low one came in turn {turn}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_on_time_and_becomes_a_dead_letter_that_is_still_readable() {
    let options = options(100).retries(3, Backoff::exponential(Duration::from_secs(1)));
    let mut bench = Bench::new(options, Duration::ZERO).await;
    bench.archive.failures.lock().extend(vec![ErrorKind::Unavailable; 4]);
    bench.save("bad", Phase::Over).await;
    bench.start();
    pass(Duration::from_millis(500)).await;
    let started = bench.archive.writes.lock()[0].1;
    // Another one is not held up by the pause.
    let failures = std::mem::take(&mut *bench.archive.failures.lock());
    bench.save("good", Phase::Over).await;
    pass(10 * MS).await;
    assert!(bench.is_archived("good").await);
    *bench.archive.failures.lock() = failures;
    pass(Duration::from_secs(20)).await;
    let attempts: Vec<u128> = bench
        .archive
        .writes
        .lock()
        .iter()
        .filter(|(name, _)| name.contains("/bad/"))
        .map(|(_, at)| at.since(started).as_millis() / 100)
        .collect();
    assert_eq!(attempts, [0, 10, 30, 70], "tenths of a second: pauses of 1, 2 and 4 seconds");
    let letters = bench.hybrid.dead_letters(None, 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts, &letters[0].key[..]), (1, 4, &b"bad"[..]));
    assert_eq!(bench.read("bad").await.unwrap(), game("bad", Phase::Over));
    assert_eq!(bench.hybrid.waiting(), 0);
    // By hand it goes its way again.
    bench.archive.failures.lock().clear();
    bench.hybrid.archive(b"bad", Priority::Normal).await.unwrap();
    pass(10 * MS).await;
    assert!(bench.is_archived("bad").await);
    assert!(bench.hybrid.dead_letters(None, 10).await.unwrap().is_empty());
    // What cannot pass is not tried again.
    bench.archive.failures.lock().push(ErrorKind::Denied);
    bench.save("refused", Phase::Over).await;
    pass(HOUR).await;
    assert_eq!(bench.hybrid.dead_letters(None, 10).await.unwrap()[0].attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn active_reads_and_writes_never_wait_for_the_archive() {
    let mut bench = Bench::new(options(1_000), Duration::ZERO).await;
    bench.start();
    bench.archive.shut();
    bench.save("over", Phase::Over).await;
    pass(MS).await;
    assert_eq!(bench.archive.flying.load(Ordering::SeqCst), 1, "the archive is busy");
    let before = bench.archive.clock.wall();
    for number in 0..500 {
        let id = format!("active-{}", number % 50);
        bench.save(&id, Phase::Playing).await;
        assert!(bench.read(&id).await.is_some());
    }
    assert_eq!(bench.archive.clock.wall(), before, "no time passed");
    assert_eq!(bench.read("over").await.unwrap().phase, Phase::Over);
    assert_eq!(bench.hybrid.usage().active, 50);
}

#[tokio::test(start_paused = true)]
async fn a_completed_game_leaves_memory_once_it_is_archived_however_often_it_is_saved() {
    let mut bench = Bench::new(options(100), Duration::ZERO).await;
    bench.save("game-1", Phase::Playing).await;
    for _ in 0..4 {
        bench.save("game-1", Phase::Over).await;
    }
    assert_eq!((bench.hybrid.waiting(), bench.hybrid.usage().entries), (1, 1));
    bench.start();
    pass(MS).await;
    assert_eq!((bench.hybrid.waiting(), bench.hybrid.usage().entries), (0, 0));
    assert_eq!(bench.archive.names().await.len(), 1, "one object");
    let archived = bench.hybrid.archived_as(b"game-1").await.unwrap().unwrap();
    assert_eq!(archived.version, Version::new(5), "of the last version");
    assert_eq!(bench.read("game-1").await.unwrap(), game("game-1", Phase::Over));
    assert!(bench.read("game-10").await.is_none() && bench.read("game").await.is_none());
    // Saved again it is alive again, and archived again.
    bench.save("game-1", Phase::Over).await;
    pass(MS).await;
    assert_eq!(bench.archive.names().await.len(), 2, "the older one is left to reconcile");
    assert_eq!(bench.hybrid.reconcile(Duration::ZERO).await.unwrap().removed, 1);
    assert_eq!(bench.archive.names().await.len(), 1);
    assert_eq!(bench.read("game-1").await.unwrap(), game("game-1", Phase::Over));
}

/// One step of a random life: what happens to which game.
#[derive(Debug, Clone, Copy)]
enum Step {
    Save(u8, u8),
    Remove(u8),
    Archive,
    Restore(u8),
    Reopen,
    Fail,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12_u8, 0..3_u8).prop_map(|(id, phase)| Step::Save(id, phase)),
        2 => (0..12_u8).prop_map(Step::Remove),
        3 => Just(Step::Archive),
        1 => (0..12_u8).prop_map(Step::Restore),
        1 => Just(Step::Reopen),
        1 => Just(Step::Fail),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Ids begin one another (`game-1`, `game-10`, `game-11`), memory holds three, and the service may
    /// be dropped in the middle of a hand-over.
    #[test]
    fn whatever_happens_each_game_is_readable_from_one_place_and_no_deleted_one_comes_back(
        steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let documents: Arc<dyn DocumentStore> = Arc::new(ModelDocuments::new(SystemClock::shared()));
            let archive = Watched::new(10 * MS);
            let options = || options(3).batch(2, Duration::ZERO);
            let mut bench = Bench::over(Arc::clone(&documents), Arc::clone(&archive), options()).await;
            let mut model: BTreeMap<String, Game> = BTreeMap::new();
            for (number, step) in (0_u32..).zip(steps) {
                match step {
                    Step::Save(id, phase) => {
                        let phase = [Phase::Abandoned, Phase::Over, Phase::Playing][usize::from(phase)];
                        let wanted = Game { turns: number, ..game(&format!("game-{id}"), phase) };
                        match bench.hybrid.save(wanted.clone(), Expected::Any).await {
                            Ok(_) => drop(model.insert(wanted.id.clone(), wanted)),
                            Err(error) => assert_eq!(*error.kind(), ErrorKind::Overloaded),
                        }
                    }
                    Step::Remove(id) => {
                        let id = format!("game-{id}");
                        bench.hybrid.remove(id.as_bytes(), Expected::Any).await.unwrap();
                        model.remove(&id);
                    }
                    Step::Archive => drop(bench.archivist().run_due().await),
                    Step::Restore(id) => {
                        let id = format!("game-{id}");
                        let said = bench.hybrid.restore(id.as_bytes()).await;
                        assert_eq!(said.is_ok(), model.contains_key(&id));
                    }
                    Step::Reopen => {
                        // Dropped in the middle: the object may be there, its name not yet.
                        let cut = tokio::time::timeout(5 * MS, bench.archivist().run_due()).await;
                        drop(cut);
                        bench = Bench::over(Arc::clone(&documents), Arc::clone(&archive), options()).await;
                    }
                    Step::Fail => archive.failures.lock().push(ErrorKind::Unavailable),
                }
                for id in (0..12).map(|id| format!("game-{id}")) {
                    assert_eq!(bench.read(&id).await.as_ref(), model.get(&id), "{id} after step {number}");
                }
            }
            archive.failures.lock().clear();
            pass(HOUR).await;
            bench.archivist().run_due().await;
            bench.hybrid.reconcile(Duration::ZERO).await.unwrap();
            let report = bench.hybrid.lifecycle().await.unwrap();
            let over = model.values().filter(|game| game.phase == Phase::Over).count();
            assert_eq!(report.live + report.archived, model.len() as u64);
            assert_eq!(report.waiting + report.dead, 0);
            assert!(report.archived <= model.len() as u64 && over as u64 <= model.len() as u64);
            assert_eq!(archive.names().await.len() as u64, report.archived, "no object is left over");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn five_active_games_stay_three_completed_ones_go_and_a_sixth_is_refused() {
    let mut bench = Bench::new(options(5), Duration::ZERO).await;
    for id in ["over-1", "over-2", "over-3"] {
        bench.save(id, Phase::Over).await;
    }
    for number in 0..5 {
        bench.save(&format!("active-{number}"), Phase::Playing).await;
    }
    bench.start();
    pass(MS).await;
    let usage = bench.hybrid.usage();
    assert_eq!((usage.entries, usage.active), (5, 5));
    for id in ["over-1", "over-2", "over-3"] {
        assert!(bench.is_archived(id).await);
        assert_eq!(bench.read(id).await.unwrap(), game(id, Phase::Over));
    }
    let sixth = bench.hybrid.save(game("active-5", Phase::Playing), Expected::Any).await;
    let refused = sixth.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Overloaded);
    assert!(refused.to_string().contains("5 entities of at most 5"), "{refused}");
    assert_eq!(bench.hybrid.usage().refused, 1);
    assert!(bench.read("active-5").await.is_none(), "nothing of it is stored");

    let limits = Limits::entries(5).overflow(Overflow::Wait(Duration::from_secs(5)));
    let bench = Bench::new(HybridOptions::new(limits), Duration::ZERO).await;
    for number in 0..5 {
        bench.save(&format!("active-{number}"), Phase::Playing).await;
    }
    let late = bench.hybrid.save(game("active-5", Phase::Playing), Expected::Any).await;
    assert_eq!(*late.unwrap_err().kind(), ErrorKind::Overloaded, "after five seconds");
    let hybrid = bench.hybrid.clone();
    let waiting =
        tokio::spawn(
            async move { hybrid.save(game("active-6", Phase::Playing), Expected::Any).await },
        );
    pass(Duration::from_secs(1)).await;
    bench.save("active-2", Phase::Over).await;
    waiting.await.unwrap().unwrap();
    assert_eq!(bench.hybrid.usage().active, 5);
}

#[test]
fn no_update_is_lost_among_writers_readers_and_the_archive() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let documents = Arc::new(infra_persistence::memory(SystemClock::shared()).unwrap());
        let archive = Watched::new(Duration::ZERO);
        let mut bench = Bench::over(documents, archive, options(2).batch(4, Duration::ZERO)).await;
        for id in 0..3 {
            let fresh = Game { turns: 0, ..game(&id.to_string(), Phase::Over) };
            bench.hybrid.save(fresh, Expected::Absent).await.unwrap();
        }
        bench.start();
        let mut tasks = JoinSet::new();
        for task in 0..6_u32 {
            let hybrid = bench.hybrid.clone();
            tasks.spawn(async move {
                let mut seen = [0; 3];
                for step in 0..60_u32 {
                    let id = (step + task) % 3;
                    let found = hybrid.get(id.to_string().as_bytes()).await.unwrap().unwrap();
                    assert!(seen[id as usize] <= found.entity.turns, "a reader goes back in time");
                    seen[id as usize] = found.entity.turns;
                    let mut next = (found.entity.as_ref().clone(), found.version);
                    loop {
                        next.0.turns += 1;
                        next.0.phase = if step % 2 == 0 { Phase::Over } else { Phase::Abandoned };
                        let expected = Expected::Exactly(next.1);
                        match hybrid.save(next.0.clone(), expected).await {
                            Ok(_) => break,
                            Err(error) => {
                                assert!(
                                    matches!(error.kind(), ErrorKind::Conflict { .. }),
                                    "{error}"
                                );
                            }
                        }
                        let found = hybrid.get(id.to_string().as_bytes()).await.unwrap().unwrap();
                        next = (found.entity.as_ref().clone(), found.version);
                    }
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let mut total = 0;
        for id in 0..3 {
            total += bench.read(&id.to_string()).await.unwrap().turns;
        }
        assert_eq!(total, 6 * 60, "each save counts once");
        bench.shutdown.close(Duration::from_secs(10)).await;
    });
}

#[tokio::test(start_paused = true)]
async fn archived_games_are_found_by_time_and_tag_in_pages_and_purged_exactly_by_age() {
    let bench = Bench::new(options(100), Duration::ZERO).await;
    let start = bench.archive.clock.wall();
    for number in 0..10_u32 {
        let mut over = game(&format!("game-{number}"), Phase::Over);
        over.room = format!("room-{}", number % 2);
        bench.hybrid.save(over, Expected::Any).await.unwrap();
        bench.archivist().run_due().await;
        pass(HOUR).await;
    }
    let ask = async |query: ArchiveQuery| -> Vec<String> {
        let found = bench.hybrid.archived(query).await.unwrap();
        found.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
    };
    let (mut query, mut paged) = (ArchiveQuery { limit: 3, ..ArchiveQuery::default() }, Vec::new());
    loop {
        let page = bench.hybrid.archived(query.clone()).await.unwrap();
        let Some((key, last)) = page.last() else { break };
        query.after = Some((last.archived, key.clone()));
        paged.extend(page.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()));
    }
    let all: Vec<String> = (0..10).map(|number| format!("game-{number}")).collect();
    assert_eq!(paged, all);
    let from = Some(start.plus(3 * HOUR));
    let tagged =
        ArchiveQuery { tag: Some("room-1".to_owned()), from, limit: 9, ..ArchiveQuery::default() };
    assert_eq!(ask(tagged.clone()).await, ["game-3", "game-5", "game-7", "game-9"]);
    let before = Some(start.plus(5 * HOUR));
    assert_eq!(ask(ArchiveQuery { before, ..tagged.clone() }).await, ["game-3"]);
    assert!(ask(ArchiveQuery { limit: 0, ..tagged }).await.is_empty());
    let report = bench.hybrid.lifecycle().await.unwrap();
    assert_eq!((report.archived, report.live, report.waiting), (10, 0, 0));
    assert!(start <= report.oldest.unwrap() && report.oldest.unwrap() < report.newest.unwrap());
    // Ten hours later game-0 is ten hours old and game-9 one: a retention of 7 h takes game-0 to -2,
    // and game-3, which is exactly as old as that, stays.
    let purged = bench.hybrid.purge(7 * HOUR).await.unwrap();
    assert_eq!(purged.entities, 3);
    assert_eq!(ask(ArchiveQuery { limit: 99, ..ArchiveQuery::default() }).await, all[3..]);
    assert_eq!(bench.archive.names().await.len(), 7, "objects go with their names");
    assert!(bench.read("game-0").await.is_none());
    pass(MS).await;
    assert_eq!(bench.hybrid.purge(7 * HOUR).await.unwrap().entities, 1);
    assert_eq!(bench.hybrid.purge(Duration::ZERO).await.unwrap().entities, 6, "zero keeps none");
    assert_eq!(bench.hybrid.lifecycle().await.unwrap(), infra_persistence::Lifecycle::default());
    assert!(bench.archive.names().await.is_empty());
}

#[tokio::test]
async fn archives_are_a_fraction_of_the_games_and_less_with_a_dictionary_or_a_higher_level() {
    let long = |number: u32| {
        let mut long = game(&format!("game-{number}"), Phase::Over);
        long.rounds = (0..20)
            .map(|round| Round {
                number: round,
                declared: (0..4)
                    .map(|p| (format!("player {p}"), ((round * 7 + p + number) % 9) as u8))
                    .collect(),
                scores: (0..4)
                    .map(|p| (format!("player {p}"), i64::from(round * p * 13 + number) % 41 - 9))
                    .collect(),
            })
            .collect();
        long
    };
    let samples: Vec<Bytes> =
        (100..200).map(|number| serde_json::to_vec(&long(number)).unwrap().into()).collect();
    let mut sizes = Vec::new();
    for is_trained in [false, true] {
        let archive: Arc<dyn ArchiveStore> = Arc::new(Archive::in_memory());
        let vault = Vault::new(Arc::clone(&archive));
        let vault = if is_trained { vault.train(&samples, 8_192).await.unwrap() } else { vault };
        let documents = Arc::new(infra_persistence::memory(SystemClock::shared()).unwrap());
        let (hybrid, archivist) = Hybrid::open(
            Arc::<infra_persistence::Documents>::clone(&documents),
            vault,
            options(10),
        )
        .await
        .unwrap();
        for number in 0..10 {
            hybrid.save(long(number), Expected::Any).await.unwrap();
        }
        archivist.run_due().await;
        let report = hybrid.lifecycle().await.unwrap();
        assert!(report.stored * 10 < report.length * 7, "less than 70 %: {report:?}");
        sizes.push(report.stored);
        assert_eq!(hybrid.recompress(Duration::ZERO, 19).await.unwrap(), 10);
        let again = hybrid.lifecycle().await.unwrap();
        assert_eq!((again.archived, again.length), (10, report.length));
        assert!(again.stored <= report.stored, "{again:?}");
        assert_eq!(hybrid.recompress(Duration::ZERO, 19).await.unwrap(), 0, "once is enough");
        // Another vault, that was not trained, reads what was compressed with the dictionary.
        let (fresh, _) =
            Hybrid::<Game>::open(documents, Vault::new(archive), options(10)).await.unwrap();
        for number in 0..10 {
            let found = fresh.get(format!("game-{number}").as_bytes()).await.unwrap().unwrap();
            assert_eq!(*found.entity, long(number));
        }
    }
    assert!(sizes[1] < sizes[0], "with a dictionary {} bytes, without {}", sizes[1], sizes[0]);
    let few = Vault::new(Arc::new(Archive::in_memory())).train(&samples[..1], 8_192).await;
    assert_eq!(few.map(|_| ()).map_err(|error| error.kind().clone()), Err(ErrorKind::Invalid));
}

#[tokio::test(start_paused = true)]
async fn what_the_consumer_did_not_acknowledge_is_handed_over_after_the_next_start() {
    let bench = Bench::new(options(100), 10 * MS).await;
    for number in 0..5 {
        bench.save(&number.to_string(), Phase::Over).await;
        bench.save(&number.to_string(), Phase::Over).await;
    }
    // Ended between the write of an object and its acknowledgement.
    let cut = tokio::time::timeout(10 * MS, bench.archivist().run_due()).await;
    assert!(cut.is_err());
    assert!(!bench.archive.names().await.is_empty() || bench.hybrid.waiting() == 5);
    let again =
        Bench::over(Arc::clone(&bench.documents), Arc::clone(&bench.archive), options(100)).await;
    assert_eq!(again.hybrid.waiting(), 5, "one for each game, whatever was saved how often");
    assert_eq!(again.archivist().run_due().await, 5);
    assert_eq!((again.hybrid.waiting(), again.archive.names().await.len()), (0, 5));
    let third =
        Bench::over(Arc::clone(&bench.documents), Arc::clone(&bench.archive), options(100)).await;
    assert_eq!(third.hybrid.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_newer_version_or_a_removal_outlives_an_archive_that_was_under_way() {
    let mut bench = Bench::new(options(100), Duration::ZERO).await;
    bench.archive.shut();
    bench.start();
    for id in ["changed", "removed", "revived"] {
        bench.save(id, Phase::Over).await;
    }
    pass(MS).await;
    assert_eq!(bench.archive.flying.load(Ordering::SeqCst), 3);
    let newer = Game { turns: 99, ..game("changed", Phase::Over) };
    bench.hybrid.save(newer.clone(), Expected::Any).await.unwrap();
    bench.hybrid.remove(b"removed", Expected::Any).await.unwrap();
    bench.save("revived", Phase::Playing).await;
    bench.archive.open();
    pass(Duration::from_secs(1)).await;
    assert_eq!(bench.read("changed").await.unwrap(), newer);
    assert!(bench.is_archived("changed").await);
    assert!(bench.read("removed").await.is_none());
    assert_eq!(bench.read("revived").await.unwrap().phase, Phase::Playing);
    assert!(!bench.is_archived("revived").await);
    assert_eq!(bench.archive.names().await.len(), 1, "objects of older versions are gone");
    assert_eq!(bench.hybrid.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_game_that_is_removed_and_saved_again_is_not_covered_by_an_archive_of_the_removed_one() {
    let mut bench = Bench::new(options(100), Duration::ZERO).await;
    bench.archive.shut();
    bench.start();
    let first = bench.hybrid.save(game("again", Phase::Over), Expected::Any).await.unwrap();
    pass(MS).await;
    assert_eq!(bench.archive.flying.load(Ordering::SeqCst), 1);
    bench.hybrid.remove(b"again", Expected::Any).await.unwrap();
    let newer = Game { turns: 99, ..game("again", Phase::Over) };
    let second = bench.hybrid.save(newer.clone(), Expected::Absent).await.unwrap();
    assert_eq!(first, second, "the version does not tell the two apart");
    bench.archive.open();
    pass(Duration::from_secs(1)).await;
    assert_eq!(bench.read("again").await.unwrap(), newer);
    assert!(bench.is_archived("again").await);
    assert_eq!((bench.archive.names().await.len(), bench.hybrid.waiting()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_read_resets_the_idle_time_and_the_archives_own_look_does_not() {
    let options = options(10).idle(HOUR).interval(Duration::from_mins(1));
    let mut bench = Bench::new(options, Duration::ZERO).await;
    bench.start();
    for id in ["read", "unread"] {
        bench.save(id, Phase::Abandoned).await;
    }
    pass(HOUR / 2).await;
    assert!(bench.read("read").await.is_some());
    pass(Duration::from_secs(1_799)).await;
    assert!(!bench.is_archived("unread").await);
    pass(Duration::from_mins(1) + 2 * MS).await;
    assert!(bench.is_archived("unread").await, "within the idle time and one interval");
    assert!(!bench.is_archived("read").await);
    pass(HOUR / 2).await;
    assert!(bench.is_archived("read").await);
}

#[tokio::test(start_paused = true)]
async fn a_game_has_its_own_id_and_its_room_knows_the_one_that_is_played() {
    let mut bench = Bench::new(options(100), Duration::ZERO).await;
    let of_room = |id: &str, phase| Game { room: "ROOM01".to_owned(), ..game(id, phase) };
    let room = IndexName::new("room").unwrap();
    bench.hybrid.save(of_room("game-a", Phase::Playing), Expected::Absent).await.unwrap();
    let found = bench.hybrid.repository().find_unique(&room, b"ROOM01").await.unwrap().unwrap();
    assert_eq!(found.entity.id, "game-a");
    let second = bench.hybrid.save(of_room("game-b", Phase::Playing), Expected::Absent).await;
    assert!(matches!(second.unwrap_err().kind(), ErrorKind::Conflict { .. }), "one game at a time");
    assert_eq!(bench.hybrid.usage().active, 1);
    let repository = bench.hybrid.repository().clone();
    let over = Game {
        winner: Some("ann".to_owned()),
        ended: Some(Timestamp::from_millis(1_100)),
        ..of_room("game-a", Phase::Over)
    };
    for _ in 0..3 {
        bench.hybrid.save(over.clone(), Expected::Any).await.unwrap();
    }
    assert_eq!((bench.hybrid.usage().active, bench.hybrid.waiting()), (0, 1), "one hand-over");
    assert!(repository.find_unique(&room, b"ROOM01").await.unwrap().is_none());
    bench.hybrid.save(of_room("game-b", Phase::Playing), Expected::Absent).await.unwrap();
    bench.start();
    pass(MS).await;
    let report = bench.hybrid.lifecycle().await.unwrap();
    assert_eq!(
        (report.archived, report.live, report.waiting),
        (1, 1, 0),
        "counted when acknowledged"
    );
    let read = bench.read("game-a").await.unwrap();
    assert_eq!(read, over);
    let lasted = read.ended.unwrap().since(read.started);
    assert_eq!((read.winner.as_deref(), read.turns, lasted), (Some("ann"), 24, 100 * MS));
}

#[tokio::test(start_paused = true)]
async fn as_many_games_are_archived_as_were_completed_however_small_the_queue() {
    let mut bench = Bench::new(options(100).queue(2), MS).await;
    bench.start();
    let mut refused = 0;
    for number in 0..20 {
        let over = game(&number.to_string(), Phase::Over);
        while let Err(error) = bench.hybrid.save(over.clone(), Expected::Any).await {
            assert!(error.is_transient(), "{error}");
            refused += 1;
            pass(MS).await;
        }
        assert!(bench.read(&number.to_string()).await.is_some());
    }
    pass(Duration::from_secs(1)).await;
    assert!(0 < refused, "the queue pushes back");
    assert_eq!(bench.hybrid.lifecycle().await.unwrap().archived, 20);
}

#[test]
fn options_that_contradict_themselves_are_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for wrong in [
            options(0),
            options(1).batch(0, Duration::ZERO),
            options(1).concurrency(0, HOUR),
            options(1).queue(0),
            options(1).interval(Duration::ZERO),
            options(1).pressure(0),
            options(1).pressure(101),
        ] {
            let documents = Arc::new(ModelDocuments::new(SystemClock::shared()));
            let vault = Vault::new(Arc::new(Archive::in_memory()));
            let said = Hybrid::<Game>::open(documents, vault, wrong).await.map(|_| ());
            assert_eq!(said.map_err(|error| error.kind().clone()), Err(ErrorKind::Invalid));
        }
    });
}
