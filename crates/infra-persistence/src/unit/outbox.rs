//! Messages that were written in the same commit as the changes they tell of.

use std::sync::Arc;

use bytes::Bytes;
use infra_core::{
    Result,
    clock::Timestamp,
    codec::Payload,
    id::Collection,
    random::Random,
    store::{Batch, Document, DocumentStore, Scan},
    version::Expected,
};
use parking_lot::Mutex;

/// A message that waits to be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Its id, by which a receiver knows a message that comes twice.
    pub id: Bytes,
    /// What is told.
    pub payload: Payload,
    /// When it was committed.
    pub written: Timestamp,
}

/// Reads what units of work told, until it is acknowledged: each message at least once, those of one
/// unit in their order.
///
/// ```
/// use std::sync::Arc;
/// use infra_core::{SystemClock, codec::Payload};
/// use infra_persistence::{Outbox, UnitOfWork};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let clock = SystemClock::shared();
/// let documents = Arc::new(infra_persistence::memory(Arc::clone(&clock))?);
/// let mut unit = UnitOfWork::new(documents.clone(), clock);
/// unit.tell(Payload::json(1, "game over")?);
/// unit.commit().await?;
/// let outbox = Outbox::new(documents)?;
/// let waiting = outbox.pending(10).await?;
/// assert_eq!(waiting[0].payload.decode::<String>()?, "game over");
/// outbox.acknowledge(&waiting).await?;
/// assert!(outbox.pending(10).await?.is_empty());
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Outbox {
    documents: Arc<dyn DocumentStore>,
    collection: Collection,
    /// The last message that was acknowledged: engines are slow to scan over what was removed.
    head: Mutex<Option<Bytes>>,
}

pub(super) fn collection() -> Result<Collection> {
    Collection::new("outbox")
}

/// Makes the ids of a unit's messages: they sort by time, and by their order in the unit.
pub(super) fn ids(now: Timestamp, count: usize) -> impl Iterator<Item = Bytes> {
    let unit = Random::from_system().next_u64();
    (0..count as u64).map(move |number| {
        let parts = [now.as_millis(), unit, number];
        Bytes::from(parts.map(u64::to_be_bytes).concat())
    })
}

impl Outbox {
    /// Creates the reader of a document store's outbox, its collection `outbox`.
    ///
    /// # Errors
    ///
    /// Never: the collection's name is a good one.
    pub fn new(documents: Arc<dyn DocumentStore>) -> Result<Self> {
        Ok(Self { documents, collection: collection()?, head: Mutex::default() })
    }

    /// Returns up to `limit` messages that wait, about in the order of their commits.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect: what was not acknowledged is returned again.
    pub async fn pending(&self, limit: usize) -> Result<Vec<OutboxMessage>> {
        let head = self.head.lock().clone();
        let scan = Scan { after: head.clone(), ..Scan::prefix("", limit) };
        let mut found = self.documents.scan(&self.collection, scan).await?;
        if found.is_empty() && head.is_some() {
            // A unit whose clock was behind may have come in before the head.
            *self.head.lock() = None;
            found = self.documents.scan(&self.collection, Scan::prefix("", limit)).await?;
        }
        let message = |found: Document| OutboxMessage {
            id: found.key,
            payload: found.payload,
            written: found.written,
        };
        Ok(found.into_iter().map(message).collect())
    }

    /// Removes messages that were passed on.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves them there or not; they may be acknowledged again.
    pub async fn acknowledge(&self, messages: &[OutboxMessage]) -> Result<()> {
        let batch = messages.iter().fold(Batch::new(), |batch, message| {
            batch.delete(self.collection.clone(), message.id.clone(), Expected::Any)
        });
        self.documents.commit(batch).await?;
        if let Some(last) = messages.iter().map(|message| &message.id).max() {
            *self.head.lock() = Some(last.clone());
        }
        Ok(())
    }
}
