//! The journal: what waits to be written, where a crash cannot reach it.

use std::{
    fmt::{self, Debug},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use infra_core::{
    Error, ErrorKind, Result,
    codec::{Codec, Payload},
    id::Collection,
    store::{Batch, Document, DocumentStore, Scan},
    version::{Expected, Version},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::buffer::Taken;
use crate::source::Edit;

/// How many documents are read at a time.
const PAGE: usize = 1_000;

/// Keeps edits in a collection of its own until they are written: one document per key that waits.
pub struct Journal {
    store: Arc<dyn DocumentStore>,
    collection: Collection,
    next: AtomicU64,
}

impl Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("collection", &self.collection).finish_non_exhaustive()
    }
}

/// An edit as it is journalled.
#[derive(Debug, Serialize, Deserialize)]
struct Line<V> {
    order: u64,
    value: Option<V>,
}

impl Journal {
    /// Creates a journal in a collection that nobody else writes, and no other process at the same time.
    pub fn new(store: Arc<dyn DocumentStore>, collection: Collection) -> Self {
        Self { store, collection, next: AtomicU64::new(1) }
    }

    /// Notes an edit durably, in the place of an older one of its key; returns by what version it is known.
    pub(super) async fn note<C: Codec, V: Serialize + Clone>(
        &self,
        edit: &Edit<V>,
    ) -> Result<Version> {
        // Relaxed: edits of one key are noted one after the other, and others need no order.
        let order = self.next.fetch_add(1, Ordering::Relaxed);
        let line = Line { order, value: edit.value.clone() };
        let payload = Payload::encode::<C, Line<V>>(1, &line)?;
        let (collection, key) = (self.collection.clone(), edit.key.clone());
        let receipt = self.store.commit(Batch::new().put(collection, key, Expected::Any, payload));
        Ok(receipt.await?.versions.first().copied().unwrap_or_default())
    }

    /// Forgets edits that are written, except where a newer one of the key was noted since.
    pub(super) async fn forget<V>(&self, written: &[Taken<V>]) -> Result<()> {
        match self.store.commit(self.deletion(written)).await {
            Ok(_) => Ok(()),
            Err(error) if is_conflict(&error) => {
                for one in written {
                    let forgotten = self.store.commit(self.deletion(std::slice::from_ref(one)));
                    if let Err(error) = forgotten.await
                        && !is_conflict(&error)
                    {
                        return Err(error);
                    }
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn deletion<V>(&self, written: &[Taken<V>]) -> Batch {
        written.iter().fold(Batch::new(), |batch, taken| match taken.journalled {
            Some(version) => {
                let key = taken.edit.key.clone();
                batch.delete(self.collection.clone(), key, Expected::Exactly(version))
            }
            None => batch,
        })
    }

    /// Returns the edits that were not written when the process ended, in their order.
    pub(super) async fn left<V: DeserializeOwned>(&self) -> Result<Vec<(Edit<V>, Version)>> {
        let mut lines = Vec::new();
        let mut scan = Scan::prefix("", PAGE);
        loop {
            let page = self.store.scan(&self.collection, scan.clone()).await?;
            let Some(last) = page.last() else { break };
            scan.after = Some(last.key.clone());
            for document in page {
                lines.push(line::<V>(&document)?);
            }
        }
        lines.sort_unstable_by_key(|(order, ..)| *order);
        let next = lines.last().map_or(1, |(order, ..)| order.saturating_add(1));
        self.next.fetch_max(next, Ordering::Relaxed);
        Ok(lines.into_iter().map(|(_, edit, version)| (edit, version)).collect())
    }
}

fn line<V: DeserializeOwned>(document: &Document) -> Result<(u64, Edit<V>, Version)> {
    let Line { order, value } = document.decode()?;
    let corrupt = || Error::new(ErrorKind::Corrupt, "read journal").detail("a key that is no text");
    let key = String::from_utf8(document.key.to_vec()).map_err(|_| corrupt())?;
    Ok((order, Edit { key, value }, document.version))
}

const fn is_conflict(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict { .. })
}
