//! Repositories in memory: who stays, who leaves, what is read from where; units of work, questions,
//! migrations and configurations.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result, SystemClock,
    codec::Payload,
    durability::Durability,
    id::{Collection, IndexName},
    store::{Batch, Document, DocumentStore, Features, Query, Receipt, Scan, Term, Write, ordered},
    version::{Expected, Position, Version},
};
use infra_persistence::{
    Backends, Entity, Factory, Filter, Limits, Migrations, Outbox, Preset, Repository,
    RepositoryConfig, Run, Select, SelectExt, Standing, StorageConfig, Strategy as Kept,
    UnitOfWork, Usage, memory,
};
use infra_testkit::model::ModelDocuments;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinSet};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    id: String,
    code: String,
    balance: i64,
    standing: u8,
}

impl Entity for Account {
    const COLLECTION: &'static str = "accounts";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        Bytes::copy_from_slice(self.id.as_bytes())
    }

    fn terms(&self) -> Result<Vec<Term>> {
        Ok(vec![
            Term::unique(IndexName::new("code")?, self.code.clone()),
            Term::new(IndexName::new("balance")?, ordered(self.balance)),
        ])
    }

    fn standing(&self) -> Standing {
        [Standing::Idle, Standing::Completed, Standing::Active][usize::from(self.standing)]
    }
}

fn account(id: &str, balance: i64, standing: u8) -> Account {
    Account { id: id.to_owned(), code: format!("code of {id}"), balance, standing }
}

/// A store that counts reads, and holds them while it is told to.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn DocumentStore>,
    reads: AtomicU64,
    is_shut: AtomicBool,
    opened: Notify,
}

impl Counting {
    fn new() -> Arc<Self> {
        let inner = Arc::new(ModelDocuments::new(SystemClock::shared()));
        let (reads, is_shut, opened) = (AtomicU64::new(0), AtomicBool::new(false), Notify::new());
        Arc::new(Self { inner, reads, is_shut, opened })
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl DocumentStore for Counting {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let found = self.inner.get(collection, key).await;
        loop {
            let opened = self.opened.notified();
            if !self.is_shut.load(Ordering::SeqCst) {
                return found;
            }
            opened.await;
        }
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        self.inner.get_many(collection, keys).await
    }

    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        self.inner.commit(batch).await
    }

    async fn reach(&self, commit: Position, durability: Durability) -> Result<()> {
        self.inner.reach(commit, durability).await
    }

    async fn scan(&self, collection: &Collection, scan: Scan) -> Result<Vec<Document>> {
        self.inner.scan(collection, scan).await
    }

    async fn query(&self, collection: &Collection, query: Query) -> Result<Vec<Document>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.query(collection, query).await
    }

    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64> {
        self.inner.count(collection, prefix).await
    }

    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>> {
        self.inner.history(collection, key, limit).await
    }
}

fn accounts(store: &Arc<Counting>, limits: Limits) -> Repository<Account> {
    let store: Arc<dyn DocumentStore> = Arc::<Counting>::clone(store);
    Repository::with_limits(store, limits).unwrap()
}

async fn save(repository: &Repository<Account>, account: Account) -> Version {
    repository.save(account, Expected::Any).await.unwrap()
}

async fn balance(repository: &Repository<Account>, id: &str) -> Option<i64> {
    repository.get(id.as_bytes()).await.unwrap().map(|found| found.entity.balance)
}

#[tokio::test]
async fn what_is_in_memory_is_found_by_id_and_by_code_without_a_read_of_the_store() {
    let store = Counting::new();
    let repository = accounts(&store, Limits::entries(1_000));
    for number in 0..100 {
        save(&repository, account(&number.to_string(), number, 0)).await;
    }
    let code = IndexName::new("code").unwrap();
    for number in 0..100 {
        let (id, name) = (number.to_string(), format!("code of {number}"));
        assert_eq!(balance(&repository, &id).await, Some(number));
        let found = repository.find_unique(&code, name.as_bytes()).await.unwrap().unwrap();
        assert_eq!(found.entity.balance, number);
        assert_eq!(repository.resident_key(id.as_bytes()).unwrap().version, Version::new(1));
    }
    assert_eq!(store.reads(), 0);
    // A changed code leads nowhere, also in memory; what is returned is a value of one's own.
    let mut found = repository.get(b"7").await.unwrap().unwrap().entity.as_ref().clone();
    found.balance = -1;
    assert_eq!(balance(&repository, "7").await, Some(7));
    save(&repository, Account { code: "new".to_owned(), ..account("7", 8, 0) }).await;
    assert!(repository.resident("code", b"code of 7").is_none());
    assert!(repository.find_unique(&code, b"code of 7").await.unwrap().is_none());
    assert_eq!(repository.resident("code", b"new").unwrap().entity.balance, 8);
}

#[tokio::test(start_paused = true)]
async fn misses_that_come_at_once_are_one_read_and_an_older_copy_never_covers_a_newer_one() {
    let store = Counting::new();
    let writer = accounts(&store, Limits::entries(10));
    save(&writer, account("a", 1, 0)).await;
    let repository = accounts(&store, Limits::entries(10));
    store.is_shut.store(true, Ordering::SeqCst);
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        let repository = repository.clone();
        readers.spawn(async move { balance(&repository, "a").await });
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(store.reads(), 1, "twenty wait for one read");
    // While the older copy is on its way, a newer one is saved.
    save(&repository, account("a", 2, 0)).await;
    store.is_shut.store(false, Ordering::SeqCst);
    store.opened.notify_waiters();
    while let Some(read) = readers.join_next().await {
        assert!(matches!(read.unwrap(), Some(1 | 2)));
    }
    assert_eq!(balance(&repository, "a").await, Some(2));
    assert_eq!(store.reads(), 1, "and it is read from memory");
    // Absence is remembered, for a bounded time, and not beyond a save.
    for _ in 0..5 {
        assert_eq!(balance(&repository, "none").await, None);
    }
    assert_eq!(store.reads(), 2);
    tokio::time::sleep(Duration::from_millis(1_001)).await;
    assert_eq!(balance(&repository, "none").await, None);
    assert_eq!(store.reads(), 3);
    save(&repository, account("none", 5, 0)).await;
    assert_eq!(balance(&repository, "none").await, Some(5));
    assert_eq!(store.reads(), 3);
    let usage = repository.usage();
    assert_eq!((usage.loads, usage.misses, usage.known_absent), (3, 22, 4));
    // A reader that gives up leaves nothing behind.
    store.is_shut.store(true, Ordering::SeqCst);
    let cut = tokio::time::timeout(Duration::from_millis(1), balance(&repository, "later")).await;
    assert!(cut.is_err());
    store.is_shut.store(false, Ordering::SeqCst);
    assert_eq!(balance(&repository, "later").await, None);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Save(u8, u8),
    Get(u8),
    Code(u8),
    Remove(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..9_u8, prop_oneof![5 => 0..2_u8, 1 => Just(2_u8)]).prop_map(|(id, s)| Step::Save(id, s)),
        3 => (0..9_u8).prop_map(Step::Get),
        1 => (0..9_u8).prop_map(Step::Code),
        1 => (0..9_u8).prop_map(Step::Remove),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What is in memory as a plain list, the longest unused first.
#[derive(Default)]
struct Resident(Vec<Account>);

impl Resident {
    const MOST: usize = 4;

    fn touch(&mut self, account: Account) {
        self.0.retain(|own| own.id != account.id);
        // A completed one leaves first, then the longest unused; an active one never.
        while Self::MOST <= self.0.len() {
            let mut leaving = [1_u8, 0].into_iter();
            let place = leaving.find_map(|s| self.0.iter().position(|own| own.standing == s));
            let Some(place) = place else { return };
            self.0.remove(place);
        }
        self.0.push(account);
    }

    fn has_room_for(&self, account: &Account) -> bool {
        let others = self.0.iter().filter(|own| own.id != account.id && own.standing == 2);
        account.standing != 2 || others.count() < Self::MOST
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn memory_holds_what_a_list_says_in_its_order_and_nothing_is_lost(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Counting::new();
            let repository = accounts(&store, Limits::entries(Resident::MOST).absence(Duration::ZERO));
            let (mut resident, mut model) = (Resident::default(), BTreeMap::new());
            for (number, step) in (0_i64..).zip(steps) {
                match step {
                    Step::Save(id, standing) => {
                        let account = account(&id.to_string(), number, standing);
                        let said = repository.save(account.clone(), Expected::Any).await;
                        assert_eq!(said.is_ok(), resident.has_room_for(&account), "{step:?}");
                        if said.is_ok() {
                            model.insert(account.id.clone(), account.clone());
                            resident.touch(account);
                        }
                    }
                    Step::Get(id) => {
                        let id = id.to_string();
                        let found = repository.get(id.as_bytes()).await.unwrap();
                        let found = found.map(|found| found.entity.as_ref().clone());
                        assert_eq!(found.as_ref(), model.get(&id));
                        if let Some(found) = found {
                            resident.touch(found);
                        }
                    }
                    Step::Code(id) => {
                        let (code, id) = (format!("code of {id}"), id.to_string());
                        let index = IndexName::new("code").unwrap();
                        let found = repository.find_unique(&index, code.as_bytes()).await.unwrap();
                        assert_eq!(found.is_some(), model.contains_key(&id));
                        // It is a use of what is in memory, and does not bring what is not.
                        if let Some(found) = resident.0.iter().find(|own| own.id == id).cloned() {
                            resident.touch(found);
                        }
                    }
                    Step::Remove(id) => {
                        let id = id.to_string();
                        repository.remove(id.as_bytes(), Expected::Any).await.unwrap();
                        model.remove(&id);
                        resident.0.retain(|own| own.id != id);
                    }
                }
                let usage = repository.usage();
                assert_eq!(usage.entries, resident.0.len(), "after step {number}, {step:?}");
                let active = resident.0.iter().filter(|own| own.standing == 2).count();
                assert_eq!(usage.active, active);
                let mut wanted: Vec<_> =
                    resident.0.iter().rev().filter(|own| own.standing != 1).cloned().collect();
                for limit in [9, 2, 0] {
                    wanted.truncate(limit);
                    let found = repository.recent(limit);
                    let found: Vec<_> = found.iter().map(|own| own.entity.as_ref().clone()).collect();
                    assert_eq!(found, wanted, "after step {number}, {step:?}");
                }
            }
            let fresh = accounts(&store, Limits::entries(1));
            for (id, account) in &model {
                assert_eq!(fresh.get(id.as_bytes()).await.unwrap().unwrap().entity.as_ref(), account);
            }
        });
    }
}

#[tokio::test]
async fn bytes_are_bounded_too_and_counted_as_they_are_stored() {
    let store = Counting::new();
    let repository = accounts(&store, Limits::entries(1_000).bytes(1_000));
    save(&repository, account("a", 1, 0)).await;
    let one = repository.usage().bytes;
    let stored = serde_json::to_vec(&account("a", 1, 0)).unwrap().len();
    assert!((stored..stored + 300).contains(&one), "{one} bytes for a body of {stored}");
    for number in 0..50 {
        save(&repository, account(&number.to_string(), number, 0)).await;
        assert!(repository.usage().bytes <= 1_000);
    }
    assert_eq!(repository.usage().entries, 1_000 / (one + 3));
    let huge = Account { code: "x".repeat(900), ..account("huge", 1, 2) };
    let refused = repository.save(huge, Expected::Any).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Overloaded);
    let huge = Account { code: "x".repeat(900), ..account("huge", 1, 0) };
    save(&repository, huge).await;
    assert_eq!(
        balance(&repository, "huge").await,
        Some(1),
        "too large for memory, not for the store"
    );
}

#[test]
fn tasks_on_two_threads_never_see_more_than_the_limit_nor_less_than_was_saved() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let documents = Arc::new(memory(SystemClock::shared()).unwrap());
        let repository: Repository<Account> = Repository::new(documents, 100).unwrap();
        let mut tasks = JoinSet::new();
        for task in 0..3 {
            let repository = repository.clone();
            tasks.spawn(async move {
                for number in 0..50 {
                    save(&repository, account(&format!("{task}-{number}"), number, 0)).await;
                    assert!(repository.usage().entries <= 100);
                    assert_eq!(
                        balance(&repository, &format!("{task}-{number}")).await,
                        Some(number)
                    );
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let usage = repository.usage();
        assert_eq!((usage.entries, usage.evicted), (100, 50));
        for task in 0..3 {
            for number in 0..50 {
                assert_eq!(balance(&repository, &format!("{task}-{number}")).await, Some(number));
            }
        }
        assert_eq!(repository.count().await.unwrap(), 150);
    });
}

/// Eight tasks do what they like; per key, the versions that writers were given and readers saw must be
/// those of a map with versions, and the indexes those of the entities.
async fn check_any_history(documents: Arc<dyn DocumentStore>, in_memory: usize) {
    let repository: Repository<Account> = Repository::new(documents, in_memory).unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..8_i64 {
        let repository = repository.clone();
        tasks.spawn(async move {
            let mut committed = Vec::new();
            let mut seen = [Version::ZERO; 6];
            for step in 0..40_i64 {
                let id = usize::try_from((step * 7 + task) % 6).unwrap();
                let key = id.to_string();
                let found = repository.get(key.as_bytes()).await.unwrap();
                let version = found.as_ref().map_or(Version::ZERO, |found| found.version);
                assert!(seen[id] <= version, "a reader goes back from {} to {version}", seen[id]);
                seen[id] = version;
                let expected = match version {
                    Version::ZERO => Expected::Absent,
                    version => Expected::Exactly(version),
                };
                let before = found.map_or(0, |found| found.entity.balance);
                let next = account(&key, before + 1, u8::try_from(step % 2).unwrap());
                match repository.save(next, expected).await {
                    Ok(new) => {
                        assert_eq!(new, version.next());
                        committed.push((id, new));
                        seen[id] = new;
                    }
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::Conflict { .. }), "{error}");
                    }
                }
            }
            committed
        });
    }
    let mut committed: Vec<(usize, Version)> = tasks.join_all().await.concat();
    let total = committed.len();
    committed.sort_unstable();
    committed.dedup();
    assert_eq!(committed.len(), total, "two saves were given one version");
    let all = repository.list(Scan::prefix("", 99)).await.unwrap();
    let sum: i64 = all.iter().map(|found| found.entity.balance).sum();
    assert_eq!(usize::try_from(sum).unwrap(), total, "each save counts once");
    for found in all {
        assert_eq!(found.version.get().cast_signed(), found.entity.balance);
        let by = |index, value| Query::equal(IndexName::new(index).unwrap(), value, 9);
        let by_code =
            repository.find(by("code", Bytes::from(found.entity.code.clone()))).await.unwrap();
        assert_eq!(by_code.len(), 1);
        let same = repository.find(by("balance", ordered(found.entity.balance))).await.unwrap();
        assert!(same.iter().any(|other| other.entity.id == found.entity.id));
    }
    let index = IndexName::new("balance").unwrap();
    let every = Query { from: Unbounded, to: Unbounded, ..Query::equal(index, "", 99) };
    assert_eq!(
        repository.find(every).await.unwrap().len(),
        6,
        "no term of an older version is left"
    );
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(future)
}

#[test]
fn any_history_of_eight_tasks_equals_a_map_with_versions_in_memory_and_on_disk() {
    run(async {
        for in_memory in [1, 3, 100] {
            let documents = Arc::new(memory(SystemClock::shared()).unwrap());
            check_any_history(documents, in_memory).await;
            let folder = tempfile::tempdir().unwrap();
            let options = infra_persistence::Options::new(folder.path());
            let documents = Arc::new(infra_persistence::embedded(options).await.unwrap().0);
            check_any_history(documents, in_memory).await;
        }
    });
}

/// Takes what waits in an outbox, seven at a time.
async fn take_all(outbox: &Outbox) -> Vec<(u64, u64)> {
    let mut told = Vec::new();
    loop {
        let pending = outbox.pending(7).await.unwrap();
        if pending.is_empty() {
            return told;
        }
        told.extend(pending.iter().map(|message| message.payload.decode::<(u64, u64)>().unwrap()));
        outbox.acknowledge(&pending).await.unwrap();
    }
}

/// Eight tasks move money between four accounts; some units are rolled back in part, each tells.
async fn check_transfers(documents: Arc<dyn DocumentStore>) {
    let clock = SystemClock::shared();
    let repository: Repository<Account> = Repository::new(Arc::clone(&documents), 2).unwrap();
    for id in 0..4 {
        save(&repository, account(&id.to_string(), 100, 0)).await;
    }
    let mut tasks = JoinSet::new();
    for task in 0..8_u64 {
        let (repository, documents, clock) =
            (repository.clone(), Arc::clone(&documents), Arc::clone(&clock));
        tasks.spawn(async move {
            for step in 0..15_u64 {
                let (from, to) = ((task + step) % 4, (task + step + 1 + step % 3) % 4);
                let work = |mut unit: UnitOfWork| {
                    let repository = repository.clone();
                    async move {
                        let get = |found: Option<Arc<Account>>| found.unwrap().as_ref().clone();
                        let (from, to) = (from.to_string(), to.to_string());
                        let mut giver = get(unit.get(&repository, from.as_bytes()).await?);
                        giver.balance -= 1;
                        unit.save(&repository, giver);
                        let point = unit.savepoint();
                        unit.save(&repository, account("nobody", 1_000, 0));
                        unit.tell(Payload::json(1, "never")?);
                        unit.roll_back_to(point)?;
                        let mut taker = get(unit.get(&repository, to.as_bytes()).await?);
                        taker.balance += 1;
                        unit.save(&repository, taker);
                        unit.tell(Payload::json(1, &(task, step))?);
                        Ok((unit, ()))
                    }
                };
                UnitOfWork::run(&documents, &clock, 10_000, work).await.unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let mut sum = 0;
    for id in 0..4 {
        sum += balance(&repository, &id.to_string()).await.unwrap();
    }
    assert_eq!((sum, balance(&repository, "nobody").await), (400, None));
    let mut told = take_all(&Outbox::new(documents).unwrap()).await;
    told.sort_unstable();
    let wanted: Vec<_> = (0..8).flat_map(|task| (0..15).map(move |step| (task, step))).collect();
    assert_eq!(
        told, wanted,
        "one message for each unit that was committed, none of what was rolled back"
    );
}

#[test]
fn units_that_run_at_once_keep_the_sum_and_tell_once_each() {
    run(async {
        check_transfers(Arc::new(memory(SystemClock::shared()).unwrap())).await;
        let folder = tempfile::tempdir().unwrap();
        let options = infra_persistence::Options::new(folder.path());
        check_transfers(Arc::new(infra_persistence::embedded(options).await.unwrap().0)).await;
    });
}

#[cfg(feature = "postgres")]
fn postgres() -> infra_persistence::PostgresOptions {
    use infra_testkit::server::{Kind, shared};
    let number = infra_core::random::Random::from_system().next_u64();
    infra_persistence::PostgresOptions::new(shared(Kind::Postgres).unwrap())
        .schema(format!("first_{number:016x}"))
        .connections(8)
}

#[cfg(feature = "postgres")]
#[test]
fn histories_and_units_come_out_the_same_in_postgres() {
    run(async {
        let store = infra_persistence::PostgresDocuments::connect(&postgres()).await.unwrap();
        check_any_history(Arc::new(store), 3).await;
        let store = infra_persistence::PostgresDocuments::connect(&postgres()).await.unwrap();
        check_transfers(Arc::new(store)).await;
    });
}

#[tokio::test]
async fn a_unit_sees_its_own_changes_and_is_a_conflict_if_what_it_read_has_changed() {
    let clock = SystemClock::shared();
    let documents: Arc<dyn DocumentStore> = Arc::new(memory(Arc::clone(&clock)).unwrap());
    let repository: Repository<Account> = Repository::new(Arc::clone(&documents), 10).unwrap();
    save(&repository, account("read", 1, 0)).await;
    let unit = || UnitOfWork::new(Arc::clone(&documents), Arc::clone(&clock));
    let mut first = unit();
    assert_eq!(first.get(&repository, b"read").await.unwrap().unwrap().balance, 1);
    assert!(first.get(&repository, b"none").await.unwrap().is_none());
    first.save(&repository, account("new", 5, 0));
    assert_eq!(first.get(&repository, b"new").await.unwrap().unwrap().balance, 5);
    first.remove(&repository, b"new");
    assert!(first.get(&repository, b"new").await.unwrap().is_none());
    first.save(&repository, account("new", 6, 0));
    assert_eq!(balance(&repository, "new").await, None, "nobody else sees it");
    save(&repository, account("read", 2, 0)).await;
    let conflict = first.commit().await.unwrap_err();
    assert!(matches!(conflict.kind(), ErrorKind::Conflict { .. }), "{conflict}");
    assert_eq!(balance(&repository, "new").await, None);
    let mut second = unit();
    assert!(second.get(&repository, b"none").await.unwrap().is_none());
    second.save(&repository, account("other", 1, 0));
    save(&repository, account("none", 1, 0)).await;
    assert!(second.commit().await.is_err(), "what it saw absent has come");
    let mut third = unit();
    let (one, two) = (third.savepoint(), third.savepoint());
    third.roll_back_to(one).unwrap();
    assert_eq!(*third.roll_back_to(two).unwrap_err().kind(), ErrorKind::Invalid);
    third.remove(&repository, b"read");
    third.commit().await.unwrap();
    assert_eq!(balance(&repository, "read").await, None, "memory learns of it");
    drop(unit());
}

fn bodies() -> impl Strategy<Value = Vec<Value>> {
    let field = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..3_i64).prop_map(Value::from),
        (-3..3_i32).prop_map(|number| json!(f64::from(number) + 0.5)),
        "[ab]{0,2}".prop_map(Value::from),
        proptest::collection::vec(0..3_i64, 0..3).prop_map(Value::from),
    ];
    let body = (proptest::option::of(field.clone()), proptest::option::of(field), 0..4_i64)
        .prop_map(|(a, nested, group)| {
            let mut body = json!({ "group": group, "deep": {} });
            if let Some(a) = a {
                body["a"] = a;
            }
            if let Some(nested) = nested {
                body["deep"]["b"] = nested;
            }
            body
        });
    proptest::collection::vec(body, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn questions_are_answered_as_a_naive_loop_would_with_an_index_or_without(
        bodies in bodies(),
        (group, offset, limit, is_descending) in (0..4_i64, 0..4_usize, 0..8_usize, any::<bool>()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store: Arc<dyn DocumentStore> = Arc::new(ModelDocuments::new(SystemClock::shared()));
            let (collection, index) = (Collection::new("c").unwrap(), IndexName::new("group").unwrap());
            for (number, body) in bodies.iter().enumerate() {
                store.commit(Batch::new().write(Write::Put {
                    collection: collection.clone(),
                    key: format!("{number:03}").into(),
                    expected: Expected::Absent,
                    payload: Payload::json(1, body).unwrap(),
                    terms: vec![Term::new(index.clone(), ordered(body["group"].as_i64().unwrap()))],
                })).await.unwrap();
            }
            let filter = Filter::equals("group", group);
            let mut wanted: Vec<(usize, &Value)> = bodies.iter().enumerate()
                .filter(|(_, body)| body["group"] == json!(group)).collect();
            prop_assert_eq!(store.count_where(&collection, &filter).await.unwrap(), wanted.len() as u64);
            wanted.sort_by(|(_, one), (_, other)| {
                let order = infra_persistence::compare(one["deep"].get("b"), other["deep"].get("b"));
                if is_descending { order.reverse() } else { order }
            });
            let wanted: Vec<String> = wanted.iter().skip(offset).take(limit)
                .map(|(number, _)| format!("{number:03}")).collect();
            let select = Select::new(filter, limit).sort("deep.b", is_descending).offset(offset);
            let indexed = select.clone().within(Query::equal(index, ordered(group), 0));
            for select in [select, indexed] {
                let found = store.select(&collection, &select).await.unwrap();
                let found: Vec<_> = found.iter().map(|d| String::from_utf8(d.key.to_vec()).unwrap()).collect();
                prop_assert_eq!(&found, &wanted);
            }
            // Any value is below, equal to or above any other, and only one of them.
            let pivot = json!(0);
            let between = |from, to| Filter::Between("a".to_owned(), from, to);
            let parts = [
                between(Unbounded, Excluded(pivot.clone())),
                between(Included(pivot.clone()), Included(pivot.clone())),
                between(Excluded(pivot), Unbounded),
                Filter::Not(Box::new(Filter::Has("a".to_owned()))),
            ];
            let mut total = 0;
            for part in &parts {
                total += store.count_where(&collection, part).await.unwrap();
            }
            prop_assert_eq!(total, bodies.len() as u64);
            let either = store.count_where(&collection, &Filter::Either(parts.to_vec())).await.unwrap();
            let all = store.count_where(&collection, &Filter::All(parts.to_vec())).await.unwrap();
            prop_assert_eq!((either, all), (bodies.len() as u64, 0));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn the_example_of_names_and_values_is_answered_right() {
    let store: Arc<dyn DocumentStore> = Arc::new(memory(SystemClock::shared()).unwrap());
    let things = Collection::new("things").unwrap();
    for number in 0..10 {
        let body = json!({ "name": format!("test{}", number % 3), "value": number * 10, "list": [number] });
        let put = Batch::new().put(
            things.clone(),
            number.to_string(),
            Expected::Absent,
            Payload::json(1, &body).unwrap(),
        );
        store.commit(put).await.unwrap();
    }
    let named = |name: &str| Filter::equals("name", name);
    let found = store.select(&things, &Select::new(named("test1"), 99)).await.unwrap();
    let keys: Vec<_> = found.iter().map(|found| &found.key[..]).collect();
    assert_eq!(keys, [b"1", b"4", b"7"]);
    assert_eq!(store.count_where(&things, &named("test0")).await.unwrap(), 4);
    let best = Select::new(Filter::Any, 3).sort("value", true);
    let found = store.select(&things, &best).await.unwrap();
    let values: Vec<_> =
        found.iter().map(|found| found.decode::<Value>().unwrap()["value"].clone()).collect();
    assert_eq!(values, [90, 80, 70]);
    assert!(store.select(&things, &Select::new(Filter::Any, 0)).await.unwrap().is_empty());
    assert_eq!(store.count_where(&things, &Filter::equals("list.0", 4)).await.unwrap(), 1);
    let raw = Batch::new().put(things.clone(), "raw", Expected::Any, Payload::raw("x"));
    store.commit(raw).await.unwrap();
    let refused = store.count_where(&things, &Filter::Any).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Unsupported);
}

fn migrations() -> Migrations {
    Migrations::new()
        .step(
            1,
            |mut body| {
                let won = body.as_object_mut().and_then(|fields| fields.remove("won"));
                body["wins"] =
                    json!({ "all": won.ok_or_else(|| Error::invalid("step", "no field won"))? });
                Ok(body)
            },
            |mut body| {
                let wins = body.as_object_mut().and_then(|fields| fields.remove("wins"));
                body["won"] = wins.map_or(Value::Null, |wins| wins["all"].clone());
                Ok(body)
            },
        )
        .step(
            2,
            |mut body| {
                body["tags"] = json!([]);
                Ok(body)
            },
            |mut body| {
                body.as_object_mut().map(|fields| fields.remove("tags"));
                Ok(body)
            },
        )
}

#[tokio::test]
async fn documents_go_forward_and_back_as_the_golden_files_have_them_and_a_dry_run_writes_nothing()
{
    let golden = [
        include_str!("fixtures/player-1.json"),
        include_str!("fixtures/player-2.json"),
        include_str!("fixtures/player-3.json"),
    ];
    let payload = |schema: u32| {
        let body: Value = serde_json::from_str(golden[schema as usize - 1]).unwrap();
        Payload::json(schema, &body).unwrap()
    };
    for (from, to) in [(1, 2), (1, 3), (2, 3), (3, 2), (3, 1), (2, 1), (2, 2)] {
        assert_eq!(migrations().bring(&payload(from), to).unwrap(), payload(to), "{from} to {to}");
    }
    assert_eq!(*migrations().bring(&payload(3), 4).unwrap_err().kind(), ErrorKind::Unsupported);
    let store = memory(SystemClock::shared()).unwrap();
    let players = Collection::new("players").unwrap();
    for number in 0..450 {
        let put = Batch::new().put(
            players.clone(),
            format!("{number:03}"),
            Expected::Any,
            payload(1 + number % 3),
        );
        store.commit(put).await.unwrap();
    }
    let bad = Payload::json(1, &json!({ "name": "Bob" })).unwrap();
    store
        .commit(Batch::new().put(players.clone(), "bad", Expected::Any, bad.clone()))
        .await
        .unwrap();
    let before = store.scan(&players, Scan::prefix("", 999)).await.unwrap();
    let dry = migrations().run(&store, &players, 3, Run::Dry).await.unwrap();
    assert_eq!((dry.changed, dry.same, dry.n_failed), (300, 150, 1));
    assert!(dry.failed[0].0 == "bad" && dry.failed[0].1.contains("no field won"), "{dry:?}");
    assert_eq!(store.scan(&players, Scan::prefix("", 999)).await.unwrap(), before);
    let real = migrations().run(&store, &players, 3, Run::Write).await.unwrap();
    assert_eq!(real, dry);
    let again = migrations().run(&store, &players, 3, Run::Write).await.unwrap();
    assert_eq!((again.changed, again.same, again.n_failed), (0, 450, 1));
    let back = migrations().run(&store, &players, 1, Run::Write).await.unwrap();
    assert_eq!((back.changed, back.same), (450, 1));
    for found in store.scan(&players, Scan::prefix("0", 999)).await.unwrap() {
        assert_eq!(found.payload, payload(1));
    }
    assert_eq!(store.get(&players, b"bad").await.unwrap().unwrap().payload, bad);
}

#[tokio::test]
async fn presets_hold_their_limits_and_say_where_things_are_after_a_restart() {
    let limits = [Preset::Room, Preset::Game, Preset::PlayerStatistics, Preset::Connection]
        .map(|preset| preset.config().entries);
    assert_eq!(limits, [10_000, 1_000, 50_000, 100_000]);
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "backend": "embedded",
        "folder": folder.path().join("documents"),
        "archive": folder.path().join("archive"),
    });
    let config: StorageConfig = serde_json::from_value(config).unwrap();
    for start in 0..2 {
        let opened = Factory::new().open(&config).await.unwrap();
        assert_eq!(opened.checks().len(), 1);
        let (games, archivist) = opened.hybrid::<Account>(Preset::Game.config()).await.unwrap();
        if start == 0 {
            for number in 0..1_001 {
                games
                    .save(account(&number.to_string(), number, 0), Expected::Absent)
                    .await
                    .unwrap();
            }
            games.save(account("over", 1, 1), Expected::Absent).await.unwrap();
            assert_eq!(games.usage().entries, 1_000);
            assert_eq!(archivist.run_due().await, 1);
        }
        assert_eq!(games.lifecycle().await.unwrap().archived, 1);
        assert_eq!(games.get(b"7").await.unwrap().unwrap().entity.balance, 7);
        assert_eq!(games.get(b"over").await.unwrap().unwrap().entity.balance, 1);
        opened.close().await;
    }
}

#[tokio::test]
async fn a_custom_limit_is_in_force_and_what_contradicts_itself_is_refused() {
    let opened = Factory::new().open(&StorageConfig::Memory {}).await.unwrap();
    let custom = RepositoryConfig { strategy: Kept::MemoryFirst, entries: 50, idle_seconds: None };
    let repository: Repository<Account> = opened.repository(custom).unwrap();
    for number in 0..51 {
        save(&repository, account(&number.to_string(), number, 0)).await;
    }
    let usage = repository.usage();
    assert_eq!((usage.entries, usage.evicted, repository.count().await.unwrap()), (50, 1, 51));
    let refuse = |config| {
        let said = opened.repository::<Account>(config).map(|_| ());
        assert_eq!(said.map_err(|error| error.kind().clone()), Err(ErrorKind::Invalid));
    };
    refuse(RepositoryConfig { entries: 0, ..custom });
    refuse(RepositoryConfig { strategy: Kept::Hybrid, ..custom });
    refuse(RepositoryConfig { idle_seconds: Some(5), ..custom });
    let folder = tempfile::tempdir().unwrap().keep();
    let embedded = |archive| StorageConfig::Embedded { folder: folder.clone(), archive };
    let same = Factory::new().open(&embedded(Some(folder.clone()))).await;
    assert_eq!(*same.unwrap_err().kind(), ErrorKind::Invalid);
    let without = Factory::new().open(&embedded(None)).await.unwrap();
    let hybrid = RepositoryConfig { strategy: Kept::Hybrid, ..custom };
    let said = without.hybrid::<Account>(hybrid).await.map(|_| ());
    assert_eq!(*said.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(serde_json::from_value::<StorageConfig>(json!({ "backend": "redis" })).is_err());
    assert!(
        serde_json::from_value::<StorageConfig>(json!({ "backend": "memory", "folder": "x" }))
            .is_err()
    );
}

#[tokio::test]
async fn a_backend_of_ones_own_is_registered_by_name_and_used() {
    let mut factory = Factory::new();
    let store = Counting::new();
    let own = Arc::clone(&store);
    let make = move || -> infra_persistence::Opening {
        let documents: Arc<dyn DocumentStore> = Arc::<Counting>::clone(&own);
        Box::pin(async move { Ok(Backends { documents, archive: None, checks: Vec::new() }) })
    };
    factory.register("mine", make.clone()).unwrap();
    for taken in ["mine", "memory", ""] {
        let said = factory.register(taken, make.clone()).unwrap_err();
        assert_eq!(*said.kind(), ErrorKind::Invalid);
    }
    let named = |name: &str| StorageConfig::Registered { name: name.to_owned() };
    let unknown = factory.open(&named("other")).await.unwrap_err();
    assert_eq!(*unknown.kind(), ErrorKind::Unsupported);
    let opened = factory.open(&named("mine")).await.unwrap();
    let repository: Repository<Account> = opened.repository(Preset::Room.config()).unwrap();
    assert_eq!(balance(&repository, "none").await, None);
    assert_eq!(store.reads(), 1);
}

#[tokio::test]
async fn usage_equals_the_trace_that_made_it() {
    let store = Counting::new();
    let repository = accounts(&store, Limits::entries(4));
    for number in 0..5 {
        save(&repository, account(&number.to_string(), number, u8::from(number == 4) * 2)).await;
    }
    for _ in 0..10 {
        balance(&repository, "4").await;
    }
    balance(&repository, "0").await;
    balance(&repository, "none").await;
    balance(&repository, "none").await;
    let bytes = repository.usage().bytes;
    let mut wanted = Usage::default();
    (wanted.entries, wanted.active, wanted.bytes) = (4, 1, bytes);
    (wanted.hits, wanted.misses, wanted.known_absent) = (10, 2, 1);
    (wanted.loads, wanted.evicted) = (2, 2);
    assert_eq!(repository.usage(), wanted);
}
