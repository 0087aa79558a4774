//! The outbox of documents: rows that are committed in the same batch.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Result,
    codec::CodecTag,
    id::{Collection, MessageId},
    lifecycle::Stop,
    queue::{Message, Queue},
    store::{Batch, DocumentStore, Scan, Write},
    version::Expected,
};
use tokio::sync::Notify;

use super::{PAGE, Relay, run};
use crate::{codec::Codecs, wire::Wire};

const WIRE: Wire = Wire::with(Codecs::new().max_bytes(infra_core::store::MAX_BODY));

/// How often an idle relay looks for rows of other processes.
const POLL: Duration = Duration::from_millis(500);

/// Publishes messages that were committed together with the documents that they are about.
///
/// A row goes once its message is in the queue. What is published again after a crash has the same
/// id and dedup id, so a queue that knows it takes it once. Clones are the same relay.
///
/// ```
/// # use std::sync::Arc;
/// # use infra_core::{SystemClock, codec::Payload, id::{Collection, QueueName}, random::Random};
/// # use infra_core::{queue::Queue, store::{Batch, DocumentStore}, version::Expected};
/// # use infra_messaging::{MemoryQueue, Mint, Options, outbox::DocumentRelay};
/// # use infra_testkit::model::ModelDocuments;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let store: Arc<dyn DocumentStore> = Arc::new(ModelDocuments::new(SystemClock::shared()));
/// # let mail = QueueName::new("mail")?;
/// # let queue = Arc::new(MemoryQueue::new(mail, Options::new(9), SystemClock::shared()));
/// # let mint = Mint::new(SystemClock::shared(), Random::seeded(1));
/// let relay = DocumentRelay::new("mail", Arc::clone(&store), queue.clone())?;
/// let welcome = mint.message(Payload::json(1, "welcome ann")?);
/// // The player and the message about her are committed together, or not at all.
/// let player = Payload::json(1, "Ann")?;
/// let batch = Batch::new()
///     .put(Collection::new("players")?, "ann", Expected::Absent, player)
///     .write(relay.row(&welcome)?);
/// store.commit(batch).await?;
/// assert_eq!(relay.step().await?, 1);
/// assert_eq!(queue.stats().await?.ready, 1);
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct DocumentRelay {
    collection: Collection,
    store: Arc<dyn DocumentStore>,
    queue: Arc<dyn Queue>,
    more: Arc<Notify>,
}

impl DocumentRelay {
    /// Creates a relay of the rows in the collection `outbox.NAME`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for a name that is none.
    pub fn new(name: &str, store: Arc<dyn DocumentStore>, queue: Arc<dyn Queue>) -> Result<Self> {
        let collection = Collection::new(format!("outbox.{name}"))?;
        Ok(Self { collection, store, queue, more: Arc::default() })
    }

    /// Returns the row of a message, to be committed with the documents that it is about.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the message is too large for a document.
    pub fn row(&self, message: &Message) -> Result<Write> {
        Ok(Write::Put {
            collection: self.collection.clone(),
            // Ids sort by time, so rows are relayed about in their order.
            key: key(message.id),
            expected: Expected::Absent,
            payload: WIRE.encode(CodecTag::Json, message)?,
            terms: Vec::new(),
        })
    }

    /// Says that a row was committed, so that a relay that waits looks at once.
    pub fn nudge(&self) {
        self.more.notify_one();
    }

    /// Relays until it is told to stop; failures that may pass are waited out.
    ///
    /// # Errors
    ///
    /// What the queue or the store fails with for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some messages published whose rows are still there; they are
    /// published again, and known by their dedup ids.
    pub async fn run(&self, stop: Stop) -> Result<()> {
        run(self, &stop).await
    }

    /// Relays what there is, up to 256 rows, and returns how many.
    ///
    /// # Errors
    ///
    /// As for [`DocumentRelay::run`], and failures that may pass.
    ///
    /// # Cancel safety
    ///
    /// As for [`DocumentRelay::run`].
    pub async fn step(&self) -> Result<usize> {
        let rows = self.store.scan(&self.collection, Scan::prefix(Bytes::new(), PAGE)).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let mut messages = Vec::new();
        let mut gone = Batch::new();
        for row in rows {
            let mut message = WIRE.decode(&row.payload)?;
            message.dedup.get_or_insert_with(|| message.id.to_string());
            messages.push(message);
            gone = gone.delete(self.collection.clone(), row.key, Expected::Any);
        }
        let count = messages.len();
        self.queue.publish(messages, self.queue.features().durability).await?;
        self.store.commit(gone).await?;
        Ok(count)
    }
}

#[async_trait]
impl Relay for DocumentRelay {
    async fn relay(&self) -> Result<usize> {
        self.step().await
    }

    async fn idle(&self) {
        // Nudged or not, it is looked again.
        let _is_nudged = tokio::time::timeout(POLL, self.more.notified()).await.is_ok();
    }
}

fn key(id: MessageId) -> Bytes {
    Bytes::copy_from_slice(id.as_uuid().as_bytes())
}
