//! Snapshot stores that are wrong on purpose: each has one bug that a clause must catch.

use std::sync::Arc;

use async_trait::async_trait;
use infra_core::{
    Result,
    durability::Durability,
    id::StreamName,
    lease::Fence,
    snapshot::{Snapshot, SnapshotStore},
    version::Version,
};
use parking_lot::Mutex;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The newest is the one that was written last.
    LastWritten,
    /// The bound is not looked at.
    Unbounded,
    /// A second snapshot of a version is dropped.
    FirstStays,
    /// Streams are told apart by the beginning of their names.
    Mingled,
    /// Pruning keeps one more.
    KeepsOneMore,
    /// Fences are not looked at.
    Unfenced,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::LastWritten, "newest"),
        (Self::Unbounded, "newest"),
        (Self::FirstStays, "replaced"),
        (Self::Mingled, "apart"),
        (Self::KeepsOneMore, "pruned"),
        (Self::Unfenced, "fenced"),
    ];
}

/// A right store with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn SnapshotStore>,
    bug: Bug,
    last: Mutex<Option<Snapshot>>,
}

impl Wrong {
    /// Plants a bug into a right store.
    pub fn plant(right: Arc<dyn SnapshotStore>, bug: Bug) -> Arc<dyn SnapshotStore> {
        Arc::new(Self { right, bug, last: Mutex::new(None) })
    }

    fn stream(&self, stream: &StreamName) -> Result<StreamName> {
        if self.bug != Bug::Mingled {
            return Ok(stream.clone());
        }
        StreamName::new(stream.as_str().split('-').next().unwrap_or_default())
    }
}

#[async_trait]
impl SnapshotStore for Wrong {
    async fn put_snapshot(
        &self,
        mut snapshot: Snapshot,
        durability: Durability,
        fence: Option<Fence>,
    ) -> Result<()> {
        snapshot.stream = self.stream(&snapshot.stream)?;
        let known = self.right.versions(&snapshot.stream).await?;
        if self.bug == Bug::FirstStays && known.contains(&snapshot.version) {
            return Ok(());
        }
        let fence = fence.filter(|_| self.bug != Bug::Unfenced);
        *self.last.lock() = Some(snapshot.clone());
        self.right.put_snapshot(snapshot, durability, fence).await
    }

    async fn latest(&self, stream: &StreamName, at_most: Version) -> Result<Option<Snapshot>> {
        if self.bug == Bug::LastWritten {
            return Ok(self.last.lock().clone());
        }
        let at_most = if self.bug == Bug::Unbounded { Version::MAX } else { at_most };
        self.right.latest(&self.stream(stream)?, at_most).await
    }

    async fn versions(&self, stream: &StreamName) -> Result<Vec<Version>> {
        self.right.versions(&self.stream(stream)?).await
    }

    async fn prune(&self, stream: &StreamName, keep: usize) -> Result<usize> {
        let keep = keep + usize::from(self.bug == Bug::KeepsOneMore);
        self.right.prune(&self.stream(stream)?, keep).await
    }
}
