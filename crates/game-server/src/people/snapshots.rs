//! Snapshots of rooms, sealed as a whole: with the key of its room a snapshot is gone.

use std::sync::Arc;

use async_trait::async_trait;
use infra_core::{
    Error, ErrorKind, Result,
    codec::{CodecTag, Payload},
    durability::Durability,
    id::StreamName,
    lease::Fence,
    snapshot::{Snapshot, SnapshotStore},
    version::Version,
};

use super::People;
use crate::rooms::room_of;

/// A snapshot store of rooms.
#[derive(Debug, Clone)]
pub(crate) struct SealedSnapshots {
    store: Arc<dyn SnapshotStore>,
    people: People,
}

/// Puts codec and schema before the body.
fn pack(payload: &Payload) -> Vec<u8> {
    [&[payload.codec.as_byte()][..], &payload.schema.to_be_bytes(), &payload.body].concat()
}

fn unpack(packed: &[u8]) -> Result<Payload> {
    let broken = || Error::new(ErrorKind::Corrupt, "open snapshot");
    let (codec, rest) = packed.split_first().ok_or_else(broken)?;
    let (schema, body) = rest.split_first_chunk().ok_or_else(broken)?;
    let (codec, schema) = (CodecTag::from_byte(*codec)?, u32::from_be_bytes(*schema));
    Ok(Payload { codec, schema, body: body.to_vec().into() })
}

impl SealedSnapshots {
    pub(crate) fn new(store: Arc<dyn SnapshotStore>, people: People) -> Self {
        Self { store, people }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SnapshotStore for SealedSnapshots {
    async fn put_snapshot(
        &self,
        mut snapshot: Snapshot,
        durability: Durability,
        fence: Option<Fence>,
    ) -> Result<()> {
        if let Some(room) = room_of(&snapshot.stream) {
            let sealed = self.people.seal_snapshot(room, &pack(&snapshot.payload)).await?;
            snapshot.payload = Payload::raw(sealed);
        }
        self.store.put_snapshot(snapshot, durability, fence).await
    }

    /// One whose key was destroyed is none; those that were stored before they were sealed are read.
    async fn latest(&self, stream: &StreamName, at_most: Version) -> Result<Option<Snapshot>> {
        let Some(mut found) = self.store.latest(stream, at_most).await? else { return Ok(None) };
        let (CodecTag::Raw, Some(room)) = (found.payload.codec, room_of(stream)) else {
            return Ok(Some(found));
        };
        let Some(packed) = self.people.open_snapshot(room, &found.payload.body).await? else {
            return Ok(None);
        };
        found.payload = unpack(&packed)?;
        Ok(Some(found))
    }

    async fn versions(&self, stream: &StreamName) -> Result<Vec<Version>> {
        self.store.versions(stream).await
    }

    /// With the last of a room's snapshots goes their key, first.
    async fn prune(&self, stream: &StreamName, keep: usize) -> Result<usize> {
        if let (0, Some(room)) = (keep, room_of(stream)) {
            self.people.destroy_snapshots(room).await?;
        }
        self.store.prune(stream, keep).await
    }
}
