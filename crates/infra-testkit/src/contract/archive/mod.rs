//! The contract of [`infra_core::archive::ArchiveStore`].
//!
//! That what is acknowledged is durable needs a process that is killed: each engine shows it in
//! tests of its own.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

pub mod wrong;

use std::sync::Arc;

use bytes::Bytes;
use infra_core::{ErrorKind, Result, archive::ArchiveStore};
use tokio::task::JoinSet;

use super::{Breach, Verdict};
use crate::{ensure, ensure_eq};

/// What a clause takes: an empty archive.
pub type Store = Arc<dyn ArchiveStore>;

/// Stamps out one test per clause for an archive; the expression makes an empty one.
///
/// `planted` before it stamps out the test of the suite itself; then the expression takes a bug.
#[macro_export]
macro_rules! archive_store_contract {
    (planted $make:expr) => {
        $crate::archive_store_contract!(@ planted $make);
    };
    (@ $then:ident $make:expr) => {
        $crate::$then!(
            $crate::contract::archive,
            [created_once, whole, listed, gone, named],
            timed [],
            $make
        );
    };
    ($make:expr) => {
        $crate::archive_store_contract!(@ stamp $make);
    };
}

fn is_conflict<T>(said: &Result<T>) -> bool {
    said.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Conflict { .. }))
}

/// A name is created once, also among concurrent callers; the object stays as it was.
pub async fn created_once(store: Store) -> Verdict {
    let mut callers = JoinSet::new();
    for caller in 0..8_u8 {
        let store = Arc::clone(&store);
        callers.spawn(async move { (caller, store.create("games/1", vec![caller].into()).await) });
    }
    let mut winners = Vec::new();
    while let Some(said) = callers.join_next().await {
        let (caller, said) = said.map_err(|error| Breach::new(error.to_string()))?;
        match said {
            Ok(()) => winners.push(caller),
            Err(error) => ensure!(is_conflict::<()>(&Err(error)), "a loser is told a conflict"),
        }
    }
    ensure_eq!(winners.len(), 1, "callers that created the name");
    let found = store.get("games/1").await?;
    ensure_eq!(found.map(|body| body.to_vec()), Some(winners), "what the winner stored");
    store.replace("games/1", Bytes::from_static(b"new")).await?;
    let found = store.get("games/1").await?;
    ensure_eq!(found, Some(Bytes::from_static(b"new")), "what replaced it");
    Ok(())
}

/// A reader sees an object complete or not at all.
pub async fn whole(store: Store) -> Verdict {
    const LENGTH: usize = 1 << 16;
    let writing = Arc::clone(&store);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for round in 0..200_u8 {
            writing.replace("big", vec![round; LENGTH].into()).await?;
        }
        Ok::<_, Breach>(())
    });
    loop {
        let is_over = tasks.try_join_next();
        if let Some(body) = store.get("big").await? {
            let ends = (body.first(), body.get(LENGTH / 2));
            let is_whole = body.len() == LENGTH && ends == (body.last(), body.last());
            ensure!(is_whole, "an object in part, or of two writers: {} bytes", body.len());
            let info = store.head("big").await?;
            ensure_eq!(info.map(|info| info.length), Some(LENGTH as u64), "its length");
        }
        if let Some(said) = is_over {
            return said.map_err(|error| Breach::new(error.to_string()))?;
        }
        tokio::task::yield_now().await;
    }
}

/// A list gives each name below a prefix once, in order; a prefix ends where a segment ends.
pub async fn listed(store: Store) -> Verdict {
    let mut all: Vec<String> = (0..7).map(|number| format!("game-1/{number}")).collect();
    all.extend(["game-10/0", "game/1", "h"].map(str::to_owned));
    for name in &all {
        store.create(name, Bytes::copy_from_slice(name.as_bytes())).await?;
    }
    all.sort();
    for (prefix, wanted) in [
        ("", all.clone()),
        ("game-1", (0..7).map(|n| format!("game-1/{n}")).collect()),
        ("none", vec![]),
    ] {
        let (mut found, mut after) = (Vec::new(), String::new());
        while found.len() <= all.len() {
            let page = store.list(prefix, &after, 3).await?;
            ensure!(page.len() <= 3, "a page of {} of at most 3", page.len());
            let Some(last) = page.last() else { break };
            after.clone_from(&last.name);
            ensure!(
                page.iter().all(|info| info.length == info.name.len() as u64),
                "a length is wrong"
            );
            found.extend(page.into_iter().map(|info| info.name));
        }
        ensure_eq!(found, wanted, "the pages below {prefix:?}");
    }
    ensure_eq!(store.list("", "", 0).await?, [], "a list of at most zero");
    Ok(())
}

/// After a delete nothing is found; deleting what is not there is no error.
pub async fn gone(store: Store) -> Verdict {
    store.create("a/b", Bytes::from_static(b"x")).await?;
    for _ in 0..2 {
        store.delete("a/b").await?;
        ensure_eq!(store.get("a/b").await?, None, "a deleted object");
        ensure_eq!(store.head("a/b").await?, None, "what is known of a deleted object");
        ensure_eq!(store.list("", "", 9).await?, [], "a list without it");
    }
    store.create("a/b", Bytes::from_static(b"y")).await?;
    Ok(())
}

/// A name that cannot be one is refused.
pub async fn named(store: Store) -> Verdict {
    for name in ["", ".", "..", "a/../b", "a//b", "/a", "a/", "a/./b", "a\nb"] {
        for said in [
            store.create(name, Bytes::new()).await,
            store.replace(name, Bytes::new()).await,
            store.get(name).await.map(|_| ()),
        ] {
            let kind = said.map_err(|error| error.kind().clone());
            ensure_eq!(kind, Err(ErrorKind::Invalid), "the name {name:?}");
        }
    }
    Ok(())
}
