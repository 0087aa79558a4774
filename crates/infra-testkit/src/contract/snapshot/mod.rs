//! The contract of [`infra_core::snapshot::SnapshotStore`].
//!
//! That a damaged snapshot is never a wrong state needs a disk that fails: each engine shows it in
//! tests of its own.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

pub mod wrong;

use std::sync::Arc;

use infra_core::{
    ErrorKind, Result,
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    id::{Scope, StreamName},
    lease::Fence,
    snapshot::{Snapshot, SnapshotStore},
    version::{FencingToken, Version},
};

use super::Verdict;
use crate::ensure_eq;

/// What a clause takes: an empty store.
pub type Store = Arc<dyn SnapshotStore>;

/// Stamps out one test per clause for a snapshot store; the expression makes an empty one.
///
/// `planted` before it stamps out the test of the suite itself; then the expression takes a bug.
#[macro_export]
macro_rules! snapshot_store_contract {
    (planted $make:expr) => {
        $crate::snapshot_store_contract!(@ planted $make);
    };
    (@ $then:ident $make:expr) => {
        $crate::$then!(
            $crate::contract::snapshot,
            [newest, replaced, apart, pruned, fenced],
            timed [],
            $make
        );
    };
    ($make:expr) => {
        $crate::snapshot_store_contract!(@ stamp $make);
    };
}

fn snapshot(stream: &str, version: u64, state: &str) -> Result<Snapshot> {
    let (stream, version) = (StreamName::new(stream)?, Version::new(version));
    let taken = Timestamp::from_millis(version.get() * 10);
    Ok(Snapshot { stream, version, payload: Payload::json(1, state)?, taken })
}

async fn put(store: &Store, stream: &str, version: u64, state: &str) -> Result<()> {
    store.put_snapshot(snapshot(stream, version, state)?, Durability::Durable, None).await
}

async fn latest(store: &Store, stream: &str, at_most: u64) -> Result<Option<Snapshot>> {
    store.latest(&StreamName::new(stream)?, Version::new(at_most)).await
}

/// The newest is the one of the highest version not above the bound, in any order of writing.
pub async fn newest(store: Store) -> Verdict {
    ensure_eq!(latest(&store, "room", u64::MAX).await?, None, "the newest of none");
    for version in [20, 300, 7, 100] {
        put(&store, "room", version, &format!("state {version}")).await?;
    }
    for (at_most, wanted) in
        [(6, None), (7, Some(7)), (19, Some(7)), (299, Some(100)), (u64::MAX, Some(300))]
    {
        let wanted = wanted.map(|version| snapshot("room", version, &format!("state {version}")));
        let found = latest(&store, "room", at_most).await?;
        ensure_eq!(found, wanted.transpose()?, "the newest up to version {at_most}");
    }
    let versions = store.versions(&StreamName::new("room")?).await?;
    ensure_eq!(versions, [300, 100, 20, 7].map(Version::new), "the versions, newest first");
    Ok(())
}

/// A second snapshot of the same stream and version replaces the first.
pub async fn replaced(store: Store) -> Verdict {
    put(&store, "room", 5, "first").await?;
    put(&store, "room", 5, "second").await?;
    let found = latest(&store, "room", 5).await?;
    ensure_eq!(found, Some(snapshot("room", 5, "second")?), "a snapshot that was taken twice");
    let versions = store.versions(&StreamName::new("room")?).await?;
    ensure_eq!(versions, [Version::new(5)], "the versions");
    Ok(())
}

/// Streams never see each other's snapshots, also where one name begins the other.
pub async fn apart(store: Store) -> Verdict {
    let names = ["room-1", "room-10", "room", "room-1/a"];
    for (version, name) in (1..).zip(names) {
        put(&store, name, version, name).await?;
    }
    for (version, name) in (1..).zip(names) {
        let versions = store.versions(&StreamName::new(name)?).await?;
        ensure_eq!(versions, [Version::new(version)], "the versions of {name}");
        let found = latest(&store, name, u64::MAX).await?;
        ensure_eq!(found, Some(snapshot(name, version, name)?), "the newest of {name}");
    }
    store.prune(&StreamName::new("room-1")?, 0).await?;
    for name in ["room-10", "room", "room-1/a"] {
        let left = store.versions(&StreamName::new(name)?).await?.len();
        ensure_eq!(left, 1, "snapshots of {name} after another stream was pruned");
    }
    Ok(())
}

/// After pruning exactly the newest are left.
pub async fn pruned(store: Store) -> Verdict {
    let name = StreamName::new("room")?;
    for version in [3, 1, 2, 5, 4] {
        put(&store, "room", version, "state").await?;
    }
    for (keep, gone, left) in [(9, 0, &[5, 4, 3, 2, 1][..]), (2, 3, &[5, 4]), (0, 2, &[])] {
        ensure_eq!(store.prune(&name, keep).await?, gone, "snapshots that went, keeping {keep}");
        let left: Vec<_> = left.iter().copied().map(Version::new).collect();
        ensure_eq!(store.versions(&name).await?, left, "snapshots that are left of {keep}");
    }
    Ok(())
}

/// A snapshot with a fence below the highest token of its scope is not stored.
pub async fn fenced(store: Store) -> Verdict {
    for (version, token, is_taken) in [(1, 5, true), (2, 5, true), (3, 4, false), (4, 6, true)] {
        let fence = Fence { scope: Scope::new("room")?, token: FencingToken::new(token) };
        let snapshot = snapshot("room", version, "state")?;
        let said = store.put_snapshot(snapshot, Durability::Durable, Some(fence)).await;
        let wanted = if is_taken { Ok(()) } else { Err(ErrorKind::Fenced) };
        ensure_eq!(said.map_err(|error| error.kind().clone()), wanted, "token {token}");
    }
    let versions = store.versions(&StreamName::new("room")?).await?;
    ensure_eq!(versions, [4, 2, 1].map(Version::new), "the versions");
    Ok(())
}
