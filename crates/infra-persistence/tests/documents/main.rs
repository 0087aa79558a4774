//! The document store in memory and on disk against a plain map, over reopening and damage.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod damage;
mod instant;
mod room;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use infra_core::{
    ErrorKind, SystemClock,
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    health::{HealthCheck, Status},
    id::{Collection, IndexName, Scope, StreamName},
    lease::Fence,
    snapshot::{Snapshot, SnapshotStore},
    store::{Batch, Document, DocumentStore, Query, Scan, Term, Write},
    version::{Expected, FencingToken, Position, Version},
};
use infra_persistence::{Documents, Options, Snapshots, embedded, memory};
use proptest::prelude::*;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn collection(name: &str) -> Collection {
    Collection::new(name).unwrap()
}

fn index() -> IndexName {
    IndexName::new("code").unwrap()
}

fn put(name: &str, key: &str, expected: Expected, body: &str, terms: Vec<Term>) -> Write {
    Write::Put {
        collection: collection(name),
        key: Bytes::copy_from_slice(key.as_bytes()),
        expected,
        payload: Payload::json(1, body).unwrap(),
        terms,
    }
}

/// Runs a check on every backend.
fn on_each(check: impl AsyncFn(Arc<Documents>)) {
    run(async {
        check(Arc::new(memory(SystemClock::shared()).unwrap())).await;
        let folder = tempfile::tempdir().unwrap();
        let (store, report) = embedded(Options::new(folder.path())).await.unwrap();
        assert_eq!((report.commits, report.lost), (0, 0));
        check(Arc::new(store)).await;
    });
}

/// One step of a random program: what to write where, expecting what, with which unique value.
#[derive(Debug, Clone)]
struct Step {
    writes: Vec<(u8, u8, u8, u8, u8)>,
    durability: Durability,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..2_u8, 0..4_u8, 0..3_u8, 0..4_u8, 0..4_u8);
    let durability = prop_oneof![Just(Durability::Applied), Just(Durability::Durable)];
    let step = (proptest::collection::vec(write, 1..4), durability)
        .prop_map(|(writes, durability)| Step { writes, durability });
    proptest::collection::vec(step, 1..25)
}

/// Version, body and unique value by collection and key.
type Model = BTreeMap<(String, String), (u64, String, String)>;

fn expected(number: u8, version: u64) -> Expected {
    match number {
        0 => Expected::Any,
        1 => Expected::Absent,
        2 => Expected::Exists,
        _ => Expected::Exactly(Version::new(version.max(1))),
    }
}

/// Applies a step to the model as the contract reads; `None` if it must be refused.
fn apply(model: &Model, step: &Step) -> Option<(Model, Batch)> {
    let mut after = model.clone();
    let mut batch = Batch::new().durability(step.durability);
    let mut fits = true;
    let mut touched = std::collections::BTreeSet::new();
    for (number, (place, key, kind, want, code)) in step.writes.iter().enumerate() {
        let at = (format!("c{place}"), format!("k{key}"));
        let version = model.get(&at).map_or(0, |found| found.0);
        let expected = expected(*want, version);
        fits &= touched.insert(at.clone()) && expected.admits(Version::new(version));
        let (name, key) = (collection(&at.0), Bytes::from(at.1.clone()));
        match kind {
            0 => {
                let body = format!("body {number}");
                let term = Term::unique(index(), format!("u{code}"));
                batch = batch.write(put(&at.0, &at.1, expected, &body, vec![term]));
                after.insert(at, (version + 1, body, format!("u{code}")));
            }
            1 => {
                batch = batch.delete(name, key, expected);
                after.remove(&at);
            }
            _ => batch = batch.check(name, key, expected),
        }
    }
    let mut codes = std::collections::BTreeSet::new();
    let unique = after.iter().all(|((place, _), (_, _, code))| codes.insert((place, code)));
    (fits && unique).then_some((after, batch))
}

async fn check_equal(store: &Documents, model: &Model) {
    for place in ["c0", "c1"] {
        let found = store.scan(&collection(place), Scan::prefix("", 100)).await.unwrap();
        let found: Vec<_> = found.iter().map(describe).collect();
        let wanted: Vec<_> = model
            .iter()
            .filter(|((name, _), _)| name == place)
            .map(|((_, key), (version, body, _))| (key.clone(), *version, body.clone()))
            .collect();
        assert_eq!(found, wanted);
        assert_eq!(store.count(&collection(place), b"k").await.unwrap(), wanted.len() as u64);
        for code in 0..4 {
            let query = Query::equal(index(), format!("u{code}"), 10);
            let found = store.query(&collection(place), query).await.unwrap();
            let holder = model
                .iter()
                .find(|((name, _), (_, _, own))| name == place && *own == format!("u{code}"));
            let keys: Vec<_> = found.iter().map(|document| document.key.clone()).collect();
            let wanted: Vec<_> =
                holder.iter().map(|((_, key), _)| Bytes::from(key.clone())).collect();
            assert_eq!(keys, wanted);
        }
    }
}

fn describe(document: &Document) -> (String, u64, String) {
    let key = String::from_utf8(document.key.to_vec()).unwrap();
    (key, document.version.get(), document.decode().unwrap())
}

async fn check_program(store: &Documents, model: &mut Model, steps: &[Step]) {
    for step in steps {
        let fits = apply(model, step);
        let batch = match &fits {
            Some((_, batch)) => batch.clone(),
            None => refused_batch(model, step),
        };
        let receipt = store.commit(batch).await;
        if let Some((after, _)) = fits {
            receipt.expect("it fits the model");
            *model = after;
        } else {
            let error = receipt.expect_err("the model refuses it");
            let is_refusal =
                matches!(error.kind(), ErrorKind::Conflict { .. } | ErrorKind::Invalid);
            assert!(is_refusal, "{error}");
        }
        check_equal(store, model).await;
    }
}

/// Builds the batch of a step that the model refuses.
fn refused_batch(model: &Model, step: &Step) -> Batch {
    step.writes.iter().enumerate().fold(
        Batch::new().durability(step.durability),
        |batch, (number, (place, key, kind, want, code))| {
            let at = (format!("c{place}"), format!("k{key}"));
            let version = model.get(&at).map_or(0, |found| found.0);
            let expected = expected(*want, version);
            let (name, key) = (collection(&at.0), Bytes::from(at.1.clone()));
            match kind {
                0 => {
                    let term = Term::unique(index(), format!("u{code}"));
                    batch.write(put(&at.0, &at.1, expected, &format!("body {number}"), vec![term]))
                }
                1 => batch.delete(name, key, expected),
                _ => batch.check(name, key, expected),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_program_in_memory_equals_a_plain_map(steps in steps()) {
        let store = memory(SystemClock::shared()).unwrap();
        run(check_program(&store, &mut Model::new(), &steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_program_on_disk_equals_a_plain_map_also_after_reopening(
        programs in proptest::collection::vec(steps(), 1..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::new();
        run(async {
            for program in programs {
                let (store, report) = embedded(Options::new(folder.path())).await.unwrap();
                assert_eq!(report.lost, 0);
                check_equal(&store, &model).await;
                check_program(&store, &mut model, &program).await;
                store.close().await;
            }
        });
    }
}

#[test]
fn scans_and_queries_page_both_ways_without_gap_or_repeat() {
    on_each(async |store| {
        let name = collection("c");
        for number in 0..10_u8 {
            let term = Term::new(index(), vec![number / 2]);
            let write = put("c", &format!("k{number}"), Expected::Absent, "x", vec![term]);
            store.commit(Batch::new().write(write)).await.unwrap();
        }
        for is_reverse in [false, true] {
            let mut scan = Scan { is_reverse, ..Scan::prefix("k", 3) };
            let mut query = Query {
                index: index(),
                from: Bound::Unbounded,
                to: Bound::Unbounded,
                after: None,
                limit: 3,
                is_reverse,
            };
            let (mut scanned, mut queried) = (Vec::new(), Vec::new());
            loop {
                let page = store.scan(&name, scan.clone()).await.unwrap();
                let Some(last) = page.last() else { break };
                scan.after = Some(last.key.clone());
                scanned.extend(page.iter().map(|document| document.key.clone()));
            }
            loop {
                let page = store.query(&name, query.clone()).await.unwrap();
                let Some(last) = page.last() else { break };
                query.after = Some((last.terms[0].value.clone(), last.key.clone()));
                queried.extend(page.iter().map(|document| document.key.clone()));
            }
            let mut wanted: Vec<_> = (0..10).map(|n| Bytes::from(format!("k{n}"))).collect();
            if is_reverse {
                wanted.reverse();
            }
            assert_eq!(scanned, wanted);
            assert_eq!(queried, wanted);
        }
        let between = Query {
            from: Bound::Excluded(Bytes::from_static(&[1])),
            to: Bound::Excluded(Bytes::from_static(&[3])),
            ..Query::equal(index(), "", 10)
        };
        let found = store.query(&name, between).await.unwrap();
        assert_eq!(found.len(), 2);
        assert!(store.scan(&name, Scan::prefix("k", 0)).await.unwrap().is_empty());
        assert!(store.scan(&collection("other"), Scan::prefix("", 9)).await.unwrap().is_empty());
        let keys = [Bytes::from("k1"), Bytes::from("none")];
        let many = store.get_many(&name, &keys).await.unwrap();
        assert_eq!(many.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
        let history = store.history(&name, b"k1", 1).await.unwrap_err();
        assert_eq!(history.kind(), &ErrorKind::Unsupported);
        assert!(!store.features().has_history);
    });
}

#[test]
fn an_older_fence_is_refused_and_writes_nothing() {
    on_each(async |store| {
        let fence =
            |token| Fence { scope: Scope::new("room").unwrap(), token: FencingToken::new(token) };
        let write = |key| Batch::new().write(put("c", key, Expected::Any, "x", vec![]));
        store.commit(write("a").fenced(fence(2))).await.unwrap();
        store.commit(write("a").fenced(fence(2))).await.unwrap();
        let refused = store.commit(write("b").fenced(fence(1))).await.unwrap_err();
        assert_eq!(refused.kind(), &ErrorKind::Fenced);
        assert!(store.get(&collection("c"), b"b").await.unwrap().is_none());
    });
}

#[test]
fn what_is_too_large_or_stands_twice_is_refused_by_name() {
    on_each(async |store| {
        let refused = async |batch: Batch| store.commit(batch).await.unwrap_err().to_string();
        let long = "k".repeat(1_025);
        let write = |key: &str| put("c", key, Expected::Any, "x", vec![]);
        assert!(refused(Batch::new().write(write(&long))).await.contains("1025 bytes"));
        let twice = Batch::new().write(write("a")).write(write("a"));
        assert!(refused(twice).await.contains("stands twice"));
        let term = Term::new(index(), vec![0; 1_025]);
        let term = put("c", "a", Expected::Any, "x", vec![term]);
        assert!(refused(Batch::new().write(term)).await.contains("a term of code"));
        let huge = Payload::raw(vec![0; 16 * 1024 * 1024 + 1]);
        let huge = Batch::new().put(collection("c"), "a", Expected::Any, huge);
        assert!(refused(huge).await.contains("at most"));
    });
}

#[test]
fn a_weaker_commit_can_be_awaited_and_a_closed_store_says_so() {
    on_each(async |store| {
        let batch = Batch::new().write(put("c", "a", Expected::Any, "x", vec![]));
        let receipt = store.commit(batch.durability(Durability::Applied)).await.unwrap();
        store.reach(receipt.commit, Durability::Buffered).await.unwrap();
        store.reach(receipt.commit, Durability::Durable).await.unwrap();
        let never = store.reach(Position::new(1_000), Durability::Durable).await.unwrap_err();
        assert_eq!(never.kind(), &ErrorKind::Invalid);
        assert_eq!(store.check().await.status, Status::Up);
        store.close().await;
        let closed = store.commit(Batch::new()).await.unwrap_err();
        assert_eq!(closed.kind(), &ErrorKind::Closed);
        assert_eq!(store.check().await.status, Status::Down);
        assert_eq!(store.name(), "documents");
    });
}

#[test]
fn concurrent_transfers_keep_the_sum() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.unwrap().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = embedded(Options::new(folder.path())).await.unwrap();
        let store = Arc::new(store);
        let bank = collection("bank");
        for account in ["a", "b", "c"] {
            let payload = Payload::json(1, &100_i64).unwrap();
            let batch = Batch::new().put(bank.clone(), account, Expected::Absent, payload);
            store.commit(batch).await.unwrap();
        }
        let tasks: Vec<_> = (0..8_usize)
            .map(|task| {
                let (store, bank) = (Arc::clone(&store), bank.clone());
                tokio::spawn(async move {
                    for round in 0..20 {
                        let from = ["a", "b", "c"][(task + round) % 3];
                        let to = ["a", "b", "c"][(task + round + 1) % 3];
                        loop {
                            let one = store.get(&bank, from.as_bytes()).await.unwrap().unwrap();
                            let other = store.get(&bank, to.as_bytes()).await.unwrap().unwrap();
                            let body = |document: &Document, delta: i64| {
                                Payload::json(1, &(document.decode::<i64>().unwrap() + delta))
                                    .unwrap()
                            };
                            let batch = Batch::new()
                                .put(
                                    bank.clone(),
                                    from,
                                    Expected::Exactly(one.version),
                                    body(&one, -1),
                                )
                                .put(
                                    bank.clone(),
                                    to,
                                    Expected::Exactly(other.version),
                                    body(&other, 1),
                                );
                            if store.commit(batch).await.is_ok() {
                                break;
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let all = store.scan(&bank, Scan::prefix("", 10)).await.unwrap();
        let sum: i64 = all.iter().map(|document| document.decode::<i64>().unwrap()).sum();
        let versions: u64 = all.iter().map(|document| document.version.get()).sum();
        assert_eq!((sum, versions), (300, 3 + 8 * 20 * 2));
    });
}

#[test]
fn a_second_process_and_a_lost_commit_are_refused() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let open = || embedded(Options::new(folder.path()));
        let (store, _) = open().await.unwrap();
        let second = open().await.unwrap_err();
        assert!(second.to_string().contains("held by another process"), "{second}");
        for number in 0..5 {
            let write = put("c", &format!("k{number}"), Expected::Absent, "x", vec![]);
            store.commit(Batch::new().write(write)).await.unwrap();
        }
        store.close().await;
        drop(store);
        // The database vanishes, the witness remembers.
        std::fs::remove_dir_all(folder.path().join("database")).unwrap();
        let lost = open().await.unwrap_err();
        assert_eq!(lost.kind(), &ErrorKind::Corrupt);
        assert!(lost.to_string().contains("5 commits after commit 0 are missing"), "{lost}");
        let (_store, report) = embedded(Options::new(folder.path()).accept_loss()).await.unwrap();
        assert_eq!(report.lost, 5);
    });
}

#[test]
fn snapshots_are_found_newest_first_apart_and_pruned() {
    on_each(async |store| {
        let snapshots = Snapshots::new(store).unwrap();
        let stream = |name| StreamName::new(name).unwrap();
        let snapshot = |name, version| Snapshot {
            stream: stream(name),
            version: Version::new(version),
            payload: Payload::json(1, &version).unwrap(),
            taken: Timestamp::from_millis(version * 10),
        };
        for (name, version) in [("game-1", 3), ("game-1", 9), ("game-10", 5), ("game-1", 6)] {
            let put = snapshots.put_snapshot(snapshot(name, version), Durability::Durable, None);
            put.await.unwrap();
        }
        let versions = |name| {
            let (snapshots, stream) = (snapshots.clone(), stream(name));
            async move {
                let versions = snapshots.versions(&stream).await.unwrap();
                versions.into_iter().map(Version::get).collect::<Vec<_>>()
            }
        };
        assert_eq!(versions("game-1").await, [9, 6, 3]);
        for (at_most, found) in [(u64::MAX, Some(9)), (8, Some(6)), (6, Some(6)), (2, None)] {
            let latest = snapshots.latest(&stream("game-1"), Version::new(at_most)).await.unwrap();
            assert_eq!(latest, found.map(|version| snapshot("game-1", version)));
        }
        assert_eq!(snapshots.prune(&stream("game-1"), 2).await.unwrap(), 1);
        assert_eq!(versions("game-1").await, [9, 6]);
        assert_eq!(versions("game-10").await, [5]);
    });
}

#[test]
fn a_backup_holds_one_instant_while_writes_go_on_and_a_restored_store_goes_on_from_there() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let options = |name: &str| Options::new(folder.path().join(name)).history(3);
        let (store, _) = embedded(options("first")).await.unwrap();
        let store = Arc::new(store);
        // Each commit writes the same number to two collections: a backup never shows two.
        let write = |number: u64| {
            let body = number.to_string();
            let term = || Term::unique(index(), "the one");
            Batch::new()
                .write(put("c", "a", Expected::Any, &body, vec![term()]))
                .write(put("other", "a", Expected::Any, &body, vec![]))
                .durability(Durability::Applied)
        };
        store.commit(write(0)).await.unwrap();
        let writing = Arc::clone(&store);
        let writer = tokio::spawn(async move {
            for number in 1..2_000 {
                writing.commit(write(number)).await.unwrap();
            }
        });
        let file = folder.path().join("backup");
        for round in 0..2 {
            assert!(6 <= store.backup(&file).await.unwrap(), "documents, versions, term, number");
            let name = format!("restored-{round}");
            infra_persistence::restore(&file, options(&name)).await.unwrap();
            let again = infra_persistence::restore(&file, options(&name)).await.unwrap_err();
            assert_eq!(again.kind(), &ErrorKind::Invalid, "a folder that is there is kept");
            let (restored, report) = embedded(options(&name)).await.unwrap();
            let one = restored.get(&collection("c"), b"a").await.unwrap().unwrap();
            let other = restored.get(&collection("other"), b"a").await.unwrap().unwrap();
            assert_eq!(one.payload, other.payload);
            assert_eq!(one.version.get(), report.commits);
            let kept = restored.history(&collection("c"), b"a", 9).await.unwrap();
            assert_eq!(kept[0], one);
            let found = restored.query(&collection("c"), Query::equal(index(), "the one", 9)).await;
            assert_eq!(found.unwrap(), vec![one]);
            restored.commit(write(5_000)).await.unwrap();
        }
        writer.await.unwrap();
        // Each byte that is changed or missing is noticed, and nothing is made of the rest.
        let bytes = std::fs::read(&file).unwrap();
        for at in (0..bytes.len()).step_by(3) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let cut = &bytes[..at];
            for wrong in [&changed[..], cut] {
                std::fs::write(&file, wrong).unwrap();
                let said = infra_persistence::restore(&file, options("never")).await;
                assert_eq!(said.unwrap_err().kind(), &ErrorKind::Corrupt, "byte {at}");
                assert!(!folder.path().join("never").exists());
            }
        }
    });
}

#[test]
fn as_many_versions_are_kept_as_were_asked_for_and_each_is_the_one_that_was_written() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let open = async |versions| {
            embedded(Options::new(folder.path()).history(versions)).await.unwrap().0
        };
        let store = open(5).await;
        for body in 1..=9 {
            let write = put("c", "a", Expected::Any, &body.to_string(), vec![]);
            store.commit(Batch::new().write(write)).await.unwrap();
        }
        let versions = async |store: &Documents| {
            let kept = store.history(&collection("c"), b"a", 99).await.unwrap();
            kept.iter().map(|kept| describe(kept).2).collect::<Vec<_>>()
        };
        assert_eq!(versions(&store).await, ["9", "8", "7", "6", "5"]);
        store.close().await;
        drop(store);
        // Fewer are asked for: the next put prunes.
        let store = open(2).await;
        store.commit(Batch::new().write(put("c", "a", Expected::Any, "10", vec![]))).await.unwrap();
        assert_eq!(versions(&store).await, ["10", "9"]);
    });
}
