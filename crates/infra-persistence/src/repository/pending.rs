//! Changes of entities that are on their way to the store, and what memory learns of their end.

use std::sync::Arc;

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    store::{Batch, DocumentStore, Receipt},
    version::Version,
};

use super::{entity::Stored, order::Room, resident::Facts, residents::Residents};

/// A part of a batch that some memory has to learn of.
pub(crate) trait Part: Send {
    /// Notes that the write begins.
    fn begin(&self);

    /// Notes that it has ended.
    fn end(self: Box<Self>, receipt: Option<&Receipt>);
}

/// What is written to one key.
pub(super) struct Change<E> {
    pub(super) key: Bytes,
    /// Its place in the batch.
    pub(super) place: usize,
    /// What memory is to have of it, if it is not removed.
    pub(super) entity: Option<(Arc<E>, Facts)>,
    /// The room that was taken for it.
    pub(super) room: Option<Room>,
}

/// The changes of one repository.
pub(super) struct Changes<E> {
    pub(super) residents: Arc<Residents<E>>,
    pub(super) changes: Vec<Change<E>>,
}

impl<E: Send + Sync> Part for Changes<E> {
    fn begin(&self) {
        let keys: Vec<Bytes> = self.changes.iter().map(|change| change.key.clone()).collect();
        self.residents.begin(&keys);
    }

    fn end(mut self: Box<Self>, receipt: Option<&Receipt>) {
        for change in std::mem::take(&mut self.changes) {
            let version = receipt.and_then(|receipt| receipt.versions.get(change.place)).copied();
            let written = match (version, change.entity) {
                (Some(version), Some((entity, facts))) if Version::ZERO < version => {
                    Some((Stored { entity, version }, facts))
                }
                _ => None,
            };
            self.residents.end(&change.key, written, change.room);
        }
    }
}

/// Gives the room of changes back that never came to their write.
impl<E> Drop for Changes<E> {
    fn drop(&mut self) {
        for room in self.changes.iter().filter_map(|change| change.room.as_ref()) {
            self.residents.give(room);
        }
    }
}

/// Commits a batch, and tells every memory that has a part in it.
///
/// A task of its own does it, so that memory learns of the write's end also when its caller has gone.
pub(crate) async fn commit(
    documents: &Arc<dyn DocumentStore>,
    batch: Batch,
    parts: Vec<Box<dyn Part>>,
) -> Result<Receipt> {
    let documents = Arc::clone(documents);
    for part in &parts {
        part.begin();
    }
    let committing = tokio::spawn(async move {
        let receipt = documents.commit(batch).await;
        for part in parts {
            part.end(receipt.as_ref().ok());
        }
        receipt
    });
    let died = |cause| Error::new(ErrorKind::Indeterminate, "commit entities").because(cause);
    committing.await.map_err(died)?
}
