//! Snapshots in any document store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    durability::Durability,
    id::{Collection, IndexName, StreamName},
    lease::Fence,
    snapshot::{Snapshot, SnapshotStore},
    store::{Batch, Document, DocumentStore, Scan, Term, Write},
    version::{Expected, Version},
};

/// The most snapshots of one stream that are looked at; they are pruned long before.
const MANY: usize = 10_000;

/// Keeps snapshots as documents: the newest first, by their key.
#[derive(Debug, Clone)]
pub struct Snapshots {
    documents: Arc<dyn DocumentStore>,
    collection: Collection,
    taken: IndexName,
}

impl Snapshots {
    /// Creates the snapshots of a document store, in its collection `snapshots`.
    ///
    /// # Errors
    ///
    /// Never: the names of the collection and its index are good ones.
    pub fn new(documents: Arc<dyn DocumentStore>) -> Result<Self> {
        let (collection, taken) = (Collection::new("snapshots")?, IndexName::new("taken")?);
        Ok(Self { documents, collection, taken })
    }

    async fn scan(
        &self,
        stream: &StreamName,
        at_most: Version,
        limit: usize,
    ) -> Result<Vec<Document>> {
        let prefix = prefix(stream);
        let after = at_most.next().max(at_most);
        let mut scan = Scan::prefix(prefix, limit);
        scan.is_reverse = true;
        scan.after = (at_most < Version::MAX).then(|| key(stream, after));
        self.documents.scan(&self.collection, scan).await
    }
}

/// Stream names have no control character, so a zero byte ends them unmistakably.
fn prefix(stream: &StreamName) -> Bytes {
    Bytes::from([stream.as_str().as_bytes(), &[0]].concat())
}

fn key(stream: &StreamName, version: Version) -> Bytes {
    Bytes::from([prefix(stream).as_ref(), &version.get().to_be_bytes()].concat())
}

fn version_of(document: &Document) -> Result<Version> {
    let version = document.key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    version
        .map(Version::new)
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, "read snapshot").detail("its key is broken"))
}

#[async_trait]
impl SnapshotStore for Snapshots {
    async fn put_snapshot(
        &self,
        snapshot: Snapshot,
        durability: Durability,
        fence: Option<Fence>,
    ) -> Result<()> {
        let key = key(&snapshot.stream, snapshot.version);
        let taken = Bytes::copy_from_slice(&snapshot.taken.as_millis().to_be_bytes());
        let put = Write::Put {
            collection: self.collection.clone(),
            key,
            expected: Expected::Any,
            payload: snapshot.payload,
            terms: vec![Term::new(self.taken.clone(), taken)],
        };
        let batch = Batch { writes: vec![put], fence, durability };
        self.documents.commit(batch).await.map(|_| ())
    }

    async fn latest(&self, stream: &StreamName, at_most: Version) -> Result<Option<Snapshot>> {
        let Some(document) = self.scan(stream, at_most, 1).await?.pop() else { return Ok(None) };
        let version = version_of(&document)?;
        let taken = document.terms.iter().find(|term| term.index == self.taken);
        let millis = taken.and_then(|term| term.value.first_chunk::<8>());
        let taken = Timestamp::from_millis(millis.map_or(0, |millis| u64::from_be_bytes(*millis)));
        let stream = stream.clone();
        Ok(Some(Snapshot { stream, version, payload: document.payload, taken }))
    }

    async fn versions(&self, stream: &StreamName) -> Result<Vec<Version>> {
        self.scan(stream, Version::MAX, MANY).await?.iter().map(version_of).collect()
    }

    async fn prune(&self, stream: &StreamName, keep: usize) -> Result<usize> {
        let old: Vec<Version> = self.versions(stream).await?.into_iter().skip(keep).collect();
        let batch = old.iter().fold(Batch::new(), |batch, version| {
            batch.delete(self.collection.clone(), key(stream, *version), Expected::Any)
        });
        self.documents.commit(batch).await?;
        Ok(old.len())
    }
}
