//! The contract of [`infra_core::store::DocumentStore`].
//!
//! That what is acknowledged is durable and in order, and that damage is never silent, needs a disk
//! that fails and a process that is killed: each engine shows it in tests of its own.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

pub mod wrong;

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use infra_core::{
    ErrorKind, Result,
    codec::Payload,
    durability::Durability,
    id::{Collection, IndexName, Scope},
    lease::Fence,
    store::{Batch, Document, DocumentStore, Query, Receipt, Scan, Term, Write},
    version::{Expected, FencingToken, Version},
};
use tokio::task::JoinSet;

use super::{Breach, Verdict};
use crate::{ensure, ensure_eq};

/// What a clause takes: an empty store.
pub type Store = Arc<dyn DocumentStore>;

/// Stamps out one test per clause for a document store; the expression makes an empty one.
///
/// `planted` before it stamps out the test of the suite itself; then the expression takes a bug.
#[macro_export]
macro_rules! document_store_contract {
    (planted $make:expr) => {
        $crate::document_store_contract!(@ planted $make);
    };
    (@ $then:ident $make:expr) => {
        $crate::$then!(
            $crate::contract::document,
            [
                all_or_nothing,
                compare_and_set,
                one_winner,
                versioned,
                read_your_writes,
                scanned,
                apart,
                indexed,
                unique,
                fenced,
                zero_is_zero,
                history,
                reached,
            ],
            timed [],
            $make
        );
    };
    ($make:expr) => {
        $crate::document_store_contract!(@ stamp $make);
    };
}

fn rooms() -> Result<Collection> {
    Collection::new("rooms")
}

fn code() -> Result<IndexName> {
    IndexName::new("code")
}

fn put(key: &str, expected: Expected, body: u64, terms: Vec<Term>) -> Result<Write> {
    let (collection, payload) = (rooms()?, Payload::json(1, &body)?);
    Ok(Write::Put {
        collection,
        key: Bytes::copy_from_slice(key.as_bytes()),
        expected,
        payload,
        terms,
    })
}

async fn commit(store: &Store, writes: impl IntoIterator<Item = Result<Write>>) -> Result<Receipt> {
    let writes = writes.into_iter().collect::<Result<Vec<Write>>>()?;
    store.commit(Batch { writes, ..Batch::new() }).await
}

async fn body(store: &Store, key: &str) -> Result<Option<u64>> {
    store.get(&rooms()?, key.as_bytes()).await?.map(|found| found.decode()).transpose()
}

fn keys(found: &[Document]) -> Vec<String> {
    found.iter().map(|document| String::from_utf8_lossy(&document.key).into_owned()).collect()
}

/// A batch is applied whole or not at all, over all its collections.
pub async fn all_or_nothing(store: Store) -> Verdict {
    let other = Collection::new("players")?;
    commit(&store, [put("taken", Expected::Absent, 1, vec![])]).await?;
    let batch = Batch::new()
        .put(other.clone(), "ann", Expected::Absent, Payload::json(1, &1)?)
        .delete(rooms()?, "taken", Expected::Exists)
        .put(rooms()?, "new", Expected::Exists, Payload::json(1, &2)?);
    let refused = store.commit(batch).await;
    ensure!(refused.is_err(), "a batch with a change that does not fit was taken: {refused:?}");
    ensure_eq!(store.get(&other, b"ann").await?, None, "a document of a refused batch");
    ensure_eq!(body(&store, "taken").await?, Some(1), "a document that a refused batch deletes");
    let batch = Batch::new()
        .put(other.clone(), "ann", Expected::Absent, Payload::json(1, &1)?)
        .delete(rooms()?, "taken", Expected::Exists)
        .check(rooms()?, "new", Expected::Absent);
    let receipt = store.commit(batch).await?;
    let versions = [Version::new(1), Version::ZERO, Version::ZERO];
    ensure_eq!(receipt.versions, versions, "the versions of a put, a delete and a check");
    ensure!(store.get(&other, b"ann").await?.is_some(), "a batch that fits was not applied");
    ensure_eq!(body(&store, "taken").await?, None, "a document that a batch deleted");
    Ok(())
}

/// An expectation that does not hold is a conflict that says what was expected and found.
pub async fn compare_and_set(store: Store) -> Verdict {
    let held = [Expected::Any, Expected::Absent];
    let broken = [Expected::Exists, Expected::Exactly(Version::new(1))];
    for (present, held, broken) in [
        (0, held, broken),
        (
            1,
            [Expected::Exists, Expected::Exactly(Version::new(1))],
            [Expected::Absent, Expected::Exactly(Version::new(2))],
        ),
    ] {
        for (number, expected) in broken.into_iter().chain(held).enumerate() {
            let key = format!("{present}-{number}");
            if present == 1 {
                commit(&store, [put(&key, Expected::Absent, 0, vec![])]).await?;
            }
            let actual = Version::new(present);
            let said = commit(&store, [put(&key, expected, 7, vec![])]).await;
            if held.contains(&expected) {
                ensure!(said.is_ok(), "{expected:?} of version {actual} is refused: {said:?}");
                continue;
            }
            let kind = said.as_ref().map_err(|error| error.kind().clone()).err();
            let wanted = ErrorKind::Conflict { expected, actual };
            ensure_eq!(kind, Some(wanted), "{expected:?} of version {actual}");
        }
    }
    Ok(())
}

/// Of concurrent changes that expect the same version exactly one wins.
pub async fn one_winner(store: Store) -> Verdict {
    const WRITERS: u64 = 8;
    for round in 0..20 {
        let expected =
            if round == 0 { Expected::Absent } else { Expected::Exactly(Version::new(round)) };
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let store = Arc::clone(&store);
            writers
                .spawn(async move { commit(&store, [put("a", expected, writer, vec![])]).await });
        }
        let mut winners = 0;
        while let Some(said) = writers.join_next().await {
            winners += u64::from(said.map_err(|error| Breach::new(error.to_string()))?.is_ok());
        }
        ensure_eq!(winners, 1, "winners of round {round}");
    }
    Ok(())
}

/// A created document has version 1, each put adds one, a deleted key starts again.
pub async fn versioned(store: Store) -> Verdict {
    for life in 0..2 {
        for version in 1..=3 {
            let receipt = commit(&store, [put("a", Expected::Any, version, vec![])]).await?;
            ensure_eq!(receipt.versions, [Version::new(version)], "put {version} of life {life}");
            let found = store.get(&rooms()?, b"a").await?.map(|found| found.version);
            ensure_eq!(found, Some(Version::new(version)), "what is read after it");
        }
        store.commit(Batch::new().delete(rooms()?, "a", Expected::Exists)).await?;
    }
    Ok(())
}

/// After a commit returned, every read sees it.
pub async fn read_your_writes(store: Store) -> Verdict {
    for number in 0..50_u64 {
        let key = format!("k{}", number % 5);
        let term = Term::new(code()?, number.to_be_bytes().to_vec());
        commit(&store, [put(&key, Expected::Any, number, vec![term])]).await?;
        ensure_eq!(body(&store, &key).await?, Some(number), "get after commit {number}");
        let many =
            store.get_many(&rooms()?, &[Bytes::from(key.clone()), Bytes::from("none")]).await?;
        let many: Vec<bool> = many.iter().map(Option::is_some).collect();
        ensure_eq!(many, [true, false], "get_many after commit {number}");
        let scanned = store.scan(&rooms()?, Scan::prefix(key.clone(), 9)).await?;
        ensure_eq!(keys(&scanned), vec![key.clone()], "scan after commit {number}");
        let query = Query::equal(code()?, number.to_be_bytes().to_vec(), 9);
        let found = store.query(&rooms()?, query).await?;
        ensure_eq!(keys(&found), vec![key.clone()], "query after commit {number}");
        ensure_eq!(store.count(&rooms()?, b"k").await?, (number + 1).min(5), "count");
    }
    Ok(())
}

/// A scan gives each key once, in byte order, and pages without gap or repeat, either way.
pub async fn scanned(store: Store) -> Verdict {
    let mut all: Vec<String> = (0..25).map(|number| format!("k{number}")).collect();
    for key in all.iter().chain(&["j".to_owned(), "l".to_owned()]) {
        commit(&store, [put(key, Expected::Absent, 0, vec![])]).await?;
    }
    all.sort();
    for is_reverse in [false, true] {
        let mut scan = Scan { is_reverse, ..Scan::prefix("k", 4) };
        let mut found = Vec::new();
        while found.len() <= all.len() {
            let page = store.scan(&rooms()?, scan.clone()).await?;
            let Some(last) = page.last() else { break };
            ensure!(page.len() <= 4, "a page of {} of at most 4", page.len());
            scan.after = Some(last.key.clone());
            found.extend(keys(&page));
        }
        ensure_eq!(found, all, "the pages of a scan (reverse: {is_reverse})");
        all.reverse();
    }
    Ok(())
}

/// A collection never shows another one's keys, also where one name begins the other.
pub async fn apart(store: Store) -> Verdict {
    for name in ["game", "game-1", "game-10"] {
        let collection = Collection::new(name)?;
        let payload = Payload::json(1, name)?;
        store.commit(Batch::new().put(collection, name, Expected::Absent, payload)).await?;
    }
    for name in ["game", "game-1", "game-10"] {
        let collection = Collection::new(name)?;
        let found = store.scan(&collection, Scan::prefix("", 9)).await?;
        ensure_eq!(keys(&found), [name], "the keys of collection {name}");
        ensure_eq!(store.count(&collection, b"").await?, 1, "the count of collection {name}");
    }
    Ok(())
}

/// A query finds exactly the documents whose present terms lie in its range.
pub async fn indexed(store: Store) -> Verdict {
    for number in 0..12_u8 {
        let term = Term::new(code()?, vec![number / 2]);
        commit(&store, [put(&format!("k{number:02}"), Expected::Absent, 0, vec![term])]).await?;
    }
    // One moves to another value, one has none any more, one is gone.
    let moved = Term::new(code()?, vec![5]);
    commit(
        &store,
        [put("k00", Expected::Any, 1, vec![moved]), put("k02", Expected::Any, 1, vec![])],
    )
    .await?;
    store.commit(Batch::new().delete(rooms()?, "k04", Expected::Exists)).await?;
    let range = |from: u8, to: u8| -> Result<Query> {
        let bound = |value: u8| Bound::Included(Bytes::copy_from_slice(&[value]));
        Ok(Query { from: bound(from), to: bound(to), ..Query::equal(code()?, "", 100) })
    };
    let cases: [(u8, u8, &[&str]); 4] =
        [(0, 0, &["k01"]), (1, 2, &["k03", "k05"]), (5, 9, &["k00", "k10", "k11"]), (7, 9, &[])];
    for (from, to, wanted) in cases {
        let found = store.query(&rooms()?, range(from, to)?).await?;
        ensure_eq!(keys(&found), wanted, "the documents with {from} to {to}");
    }
    let mut query = Query { limit: 2, is_reverse: true, ..range(4, 5)? };
    let mut found = Vec::new();
    while found.len() < 9 {
        let page = store.query(&rooms()?, query.clone()).await?;
        let Some(last) = page.last() else { break };
        let value = last.terms.first().map(|term| term.value.clone()).unwrap_or_default();
        query.after = Some((value, last.key.clone()));
        found.extend(keys(&page));
    }
    ensure_eq!(found, ["k11", "k10", "k00", "k09", "k08"], "the pages of a query in reverse");
    Ok(())
}

/// A unique value that another document keeps makes the batch a conflict.
pub async fn unique(store: Store) -> Verdict {
    let own = |value: &'static str| -> Result<Vec<Term>> { Ok(vec![Term::unique(code()?, value)]) };
    commit(&store, [put("a", Expected::Any, 1, own("x")?)]).await?;
    commit(&store, [put("a", Expected::Any, 2, own("x")?)]).await?;
    for both in [
        vec![put("b", Expected::Any, 1, own("x")?)],
        vec![put("c", Expected::Any, 1, own("y")?), put("d", Expected::Any, 1, own("y")?)],
    ] {
        let said = commit(&store, both).await;
        let is_conflict =
            said.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Conflict { .. }));
        ensure!(is_conflict, "a value that another document has is taken: {said:?}");
    }
    // The same batch may hand a value over.
    commit(&store, [put("a", Expected::Any, 3, own("z")?), put("b", Expected::Any, 1, own("x")?)])
        .await?;
    ensure_eq!(body(&store, "b").await?, Some(1), "who was given the value");
    Ok(())
}

/// A batch with a fence below the highest token of its scope writes nothing.
pub async fn fenced(store: Store) -> Verdict {
    let batch = |key: &'static str, scope: &str, token| -> Result<Batch> {
        let fence = Fence { scope: Scope::new(scope)?, token: FencingToken::new(token) };
        Ok(Batch::new().write(put(key, Expected::Any, token, vec![])?).fenced(fence))
    };
    store.commit(batch("a", "room", 5)?).await?;
    store.commit(batch("a", "room", 5)?).await?;
    store.commit(batch("a", "other", 1)?).await?;
    let said = store.commit(batch("b", "room", 4)?).await;
    let kind = said.as_ref().map_err(|error| error.kind().clone()).err();
    ensure_eq!(kind, Some(ErrorKind::Fenced), "a write of an owner of the past");
    ensure_eq!(body(&store, "b").await?, None, "what it wanted to write");
    store.commit(batch("b", "room", 6)?).await?;
    Ok(())
}

/// A limit of zero gives nothing.
pub async fn zero_is_zero(store: Store) -> Verdict {
    commit(&store, [put("a", Expected::Any, 1, vec![Term::new(code()?, "x")])]).await?;
    let scanned = store.scan(&rooms()?, Scan::prefix("", 0)).await?;
    let found = store.query(&rooms()?, Query::equal(code()?, "x", 0)).await?;
    ensure_eq!((scanned.len(), found.len()), (0, 0), "what a limit of zero gives");
    Ok(())
}

/// Kept versions are found newest first with the present one, or honestly refused.
pub async fn history(store: Store) -> Verdict {
    for body in 1..=3 {
        commit(&store, [put("a", Expected::Any, body, vec![])]).await?;
    }
    commit(&store, [put("ab", Expected::Any, 9, vec![])]).await?;
    let kept = store.history(&rooms()?, b"a", 2).await;
    if !store.features().has_history {
        let kind = kept.map_err(|error| error.kind().clone());
        ensure_eq!(kind, Err(ErrorKind::Unsupported), "history of an engine that keeps none");
        return Ok(());
    }
    let bodies = |kept: Vec<Document>| -> Result<Vec<(u64, u64)>> {
        kept.iter().map(|kept| Ok((kept.version.get(), kept.decode()?))).collect()
    };
    ensure_eq!(bodies(kept?)?, [(3, 3), (2, 2)], "the newest two versions");
    ensure_eq!(store.history(&rooms()?, b"a", 0).await?, [], "none of the versions");
    store.commit(Batch::new().delete(rooms()?, "a", Expected::Exists)).await?;
    commit(&store, [put("a", Expected::Absent, 7, vec![])]).await?;
    let kept = store.history(&rooms()?, b"a", 9).await?;
    ensure_eq!(bodies(kept)?, [(1, 7)], "the versions of a key that was deleted between");
    Ok(())
}

/// A weaker commit can be brought to a higher durability; a number never given is refused.
pub async fn reached(store: Store) -> Verdict {
    for durability in [Durability::Applied, Durability::Buffered, Durability::Durable] {
        if store.features().durability < durability {
            let said = store.commit(Batch::new().durability(durability)).await;
            let kind = said.map_err(|error| error.kind().clone());
            ensure_eq!(kind, Err(ErrorKind::Unsupported), "a durability that cannot be given");
            continue;
        }
        let batch = Batch::new().durability(durability).write(put("a", Expected::Any, 1, vec![])?);
        let receipt = store.commit(batch).await?;
        ensure!(durability <= receipt.durability, "less than {durability:?}: {receipt:?}");
        store.reach(receipt.commit, store.features().durability).await?;
        let never = store.reach(receipt.commit.plus(1_000_000), Durability::Durable).await;
        let kind = never.map_err(|error| error.kind().clone());
        ensure_eq!(kind, Err(ErrorKind::Invalid), "a commit that was never given");
    }
    Ok(())
}
