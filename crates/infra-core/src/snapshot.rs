//! Snapshots: the state of a stream at one of its versions.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{
    clock::Timestamp, codec::Payload, durability::Durability, error::Result, id::StreamName,
    lease::Fence, version::Version,
};

/// The state of a stream after its event number `version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The stream.
    pub stream: StreamName,
    /// The last event that is folded in.
    pub version: Version,
    /// The state, with codec and schema version.
    pub payload: Payload,
    /// When it was taken, by the clock of who took it.
    pub taken: Timestamp,
}

/// Keeps snapshots beside the events they stand for.
///
/// # Contract
///
/// 1. **Newest:** `latest` is the one of the highest version not above the bound, whatever the
///    order of writing.
/// 2. **Replaced:** a second snapshot of the same stream and version replaces the first.
/// 3. **Apart:** streams never see each other's snapshots, also where one name begins the other.
/// 4. **Checked:** a stored snapshot that fails its checksum is
///    [`Corrupt`](crate::error::ErrorKind::Corrupt), never a wrong state; the older ones stay readable.
/// 5. **Pruned:** after `prune(keep)` exactly the newest `keep` are left.
/// 6. **Fenced:** a put whose fence is below the highest token seen for its scope is
///    [`Fenced`](crate::error::ErrorKind::Fenced) and writes nothing.
#[async_trait]
pub trait SnapshotStore: Send + Sync + Debug {
    /// Stores a snapshot.
    ///
    /// # Errors
    ///
    /// [`Fenced`](crate::error::ErrorKind::Fenced), [`Unsupported`](crate::error::ErrorKind::Unsupported)
    /// for a durability that the engine cannot give, and what it fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it stored or not; storing it again is harmless.
    async fn put_snapshot(
        &self,
        snapshot: Snapshot,
        durability: Durability,
        fence: Option<Fence>,
    ) -> Result<()>;

    /// Returns the newest snapshot of a stream whose version is at most `at_most`.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::error::ErrorKind::Corrupt) if that one fails its checksum.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn latest(&self, stream: &StreamName, at_most: Version) -> Result<Option<Snapshot>>;

    /// Returns the versions of a stream's snapshots, newest first.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn versions(&self, stream: &StreamName) -> Result<Vec<Version>>;

    /// Removes all but the newest `keep` snapshots of a stream and returns how many went.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some of them; it may be repeated.
    async fn prune(&self, stream: &StreamName, keep: usize) -> Result<usize>;
}
