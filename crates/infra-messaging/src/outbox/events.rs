//! The outbox of an event log: the log itself.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Result,
    codec::Payload,
    durability::Durability,
    event::{EventStore, Filter, RecordedEvent},
    id::{Collection, MessageId},
    lifecycle::Stop,
    queue::{Message, Queue},
    store::{Batch, DocumentStore},
    version::{Expected, Position},
};

use super::{PAGE, Relay, run};
use crate::carried;

/// How long an idle relay waits for the next event before it looks at the clock again.
const PATIENCE: Duration = Duration::from_secs(1);

/// What becomes of an event: a message, or nothing.
type Map = dyn Fn(&RecordedEvent) -> Result<Option<Message>> + Send + Sync;

/// Publishes messages for the events of a log, in their order.
///
/// The place that was reached is kept in a document store, and written after the messages are in the
/// queue. What is published again after a crash has the same dedup id (the event's id) and the same
/// message id, so a queue that knows it takes it once.
pub struct EventRelay {
    name: String,
    events: Arc<dyn EventStore>,
    filter: Filter,
    map: Box<Map>,
    queue: Arc<dyn Queue>,
    checkpoints: Arc<dyn DocumentStore>,
    collection: Collection,
}

impl fmt::Debug for EventRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRelay").field("name", &self.name).finish_non_exhaustive()
    }
}

impl EventRelay {
    /// Creates a relay; its checkpoint has its name, in the collection `outbox.checkpoints`.
    ///
    /// # Errors
    ///
    /// None today; names may become bounded.
    pub fn new(
        name: impl Into<String>,
        events: Arc<dyn EventStore>,
        queue: Arc<dyn Queue>,
        checkpoints: Arc<dyn DocumentStore>,
        map: impl Fn(&RecordedEvent) -> Result<Option<Message>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let (name, filter, map) = (name.into(), Filter::default(), Box::new(map));
        let collection = Collection::new("outbox.checkpoints")?;
        Ok(Self { name, events, filter, map, queue, checkpoints, collection })
    }

    /// Sets which events are looked at; all by default.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Relays until it is told to stop; failures that may pass are waited out.
    ///
    /// # Errors
    ///
    /// What the log, the queue, the store or the mapping fails with for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some events relayed whose place is not written yet; they are
    /// published again, and known by their dedup ids.
    pub async fn run(&self, stop: Stop) -> Result<()> {
        run(self, &stop).await
    }

    /// Relays what there is, up to 256 events, and returns how many were looked at.
    ///
    /// # Errors
    ///
    /// As for [`EventRelay::run`], and failures that may pass.
    ///
    /// # Cancel safety
    ///
    /// As for [`EventRelay::run`].
    pub async fn step(&self) -> Result<usize> {
        let reached = self.reached().await?;
        let page = self.events.read_all(reached, &self.filter, PAGE).await?;
        if page.read_to == reached {
            return Ok(0);
        }
        let mut messages = Vec::new();
        for event in &page.events {
            messages.extend((self.map)(event)?.map(|message| marked(message, event)));
        }
        if !messages.is_empty() {
            self.queue.publish(messages, self.queue.features().durability).await?;
        }
        self.reach(page.read_to).await?;
        Ok(page.events.len().max(1))
    }

    async fn reached(&self) -> Result<Position> {
        let document = self.checkpoints.get(&self.collection, self.name.as_bytes()).await?;
        let number = document.map(|document| document.decode::<u64>()).transpose()?;
        Ok(Position::new(number.unwrap_or(0)))
    }

    async fn reach(&self, position: Position) -> Result<()> {
        let payload = Payload::json(1, &position.get())?;
        let (collection, key) = (self.collection.clone(), self.name.clone());
        // A checkpoint that is lost costs a repetition, so it need not wait for the disk.
        let durability = Durability::Applied;
        let batch = Batch::new().put(collection, key, Expected::Any, payload);
        self.checkpoints.commit(batch.durability(durability)).await?;
        Ok(())
    }
}

#[async_trait]
impl Relay for EventRelay {
    async fn relay(&self) -> Result<usize> {
        self.step().await
    }

    async fn idle(&self) {
        if let Ok(reached) = self.reached().await {
            // The patience is over, or there is more: either way it is looked again.
            let _has_come = self.events.wait_for(reached.next(), PATIENCE).await.is_ok();
        }
    }
}

/// Gives a message the ids of its event, and what its context was.
fn marked(mut message: Message, event: &RecordedEvent) -> Message {
    let id = event.event.id;
    message.id = MessageId::from_uuid(id.as_uuid());
    message.dedup = Some(id.to_string());
    carried::mark(&mut message, &event.context());
    message
}
