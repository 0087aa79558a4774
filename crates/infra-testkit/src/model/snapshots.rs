//! The snapshot store as the contract reads.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use infra_core::{
    Error, ErrorKind, Result,
    durability::Durability,
    id::{Scope, StreamName},
    lease::Fence,
    snapshot::{Snapshot, SnapshotStore},
    version::{FencingToken, Version},
};
use parking_lot::Mutex;

/// Keeps snapshots in a map.
#[derive(Debug, Default)]
pub struct ModelSnapshots(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    snapshots: BTreeMap<(StreamName, Version), Snapshot>,
    fences: HashMap<Scope, FencingToken>,
}

impl ModelSnapshots {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl SnapshotStore for ModelSnapshots {
    async fn put_snapshot(
        &self,
        snapshot: Snapshot,
        _durability: Durability,
        fence: Option<Fence>,
    ) -> Result<()> {
        let mut state = self.0.lock();
        if let Some(fence) = fence {
            let highest = state.fences.entry(fence.scope).or_default();
            if fence.token < *highest {
                return Err(Error::new(ErrorKind::Fenced, "put snapshot"));
            }
            *highest = fence.token;
        }
        state.snapshots.insert((snapshot.stream.clone(), snapshot.version), snapshot);
        Ok(())
    }

    async fn latest(&self, stream: &StreamName, at_most: Version) -> Result<Option<Snapshot>> {
        let state = self.0.lock();
        let range = (stream.clone(), Version::ZERO)..=(stream.clone(), at_most);
        Ok(state.snapshots.range(range).next_back().map(|(_, snapshot)| snapshot.clone()))
    }

    async fn versions(&self, stream: &StreamName) -> Result<Vec<Version>> {
        let state = self.0.lock();
        let versions = state.snapshots.keys().filter(|(own, _)| own == stream);
        Ok(versions.map(|(_, version)| *version).rev().collect())
    }

    async fn prune(&self, stream: &StreamName, keep: usize) -> Result<usize> {
        let old: Vec<Version> = self.versions(stream).await?.into_iter().skip(keep).collect();
        let mut state = self.0.lock();
        for version in &old {
            state.snapshots.remove(&(stream.clone(), *version));
        }
        Ok(old.len())
    }
}
