//! Projections: documents that follow from the rooms' streams.
//!
//! What a projection makes of events and how far it has read are committed together, so it repeats
//! and skips nothing, whenever the process ends.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::StreamExt;
use infra_core::{
    Error, ErrorKind, Result,
    codec::Payload,
    event::{EventStore, Filter, RecordedEvent, SubscriptionItem},
    id::{Collection, EventType},
    lifecycle::Stop,
    store::{Batch, DocumentStore, Write},
    version::{Expected, Position},
};

use crate::rooms::STREAM_PREFIX;

/// The pause before the log is read again after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// How many events are read in one go.
const PAGE: usize = 1_000;

/// What is made of the rooms' events.
#[async_trait]
pub(super) trait Projection: Send + Sync {
    /// Names it; how far it has read is kept under this name.
    const NAME: &'static str;

    /// The types of the events that change anything.
    const EVENTS: &'static [&'static str];

    /// Commits what follows from events of these types, and `checkpoint` with the last of it.
    async fn take(&self, events: &[RecordedEvent], checkpoint: Checkpoint) -> Result<()>;

    /// Forgets what would be wrong if the log were read anew from its beginning; nothing by default.
    async fn reset(&self) -> Result<()> {
        Ok(())
    }
}

/// How far the log was read.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    name: &'static str,
    checkpoints: Collection,
    pub(super) read_to: Position,
}

impl Checkpoint {
    /// Returns the change that stores it.
    pub(super) fn write(&self) -> Result<Write> {
        Ok(Write::Put {
            collection: self.checkpoints.clone(),
            key: self.name.into(),
            expected: Expected::Any,
            payload: Payload::json(1, &self.read_to)?,
            terms: Vec::new(),
        })
    }

    /// Returns the one for an earlier place.
    pub(super) fn at(&self, read_to: Position) -> Self {
        Self { read_to, ..self.clone() }
    }
}

/// Reads the log for a projection.
#[derive(Debug, Clone)]
pub(super) struct Follower<P> {
    events: Arc<dyn EventStore>,
    documents: Arc<dyn DocumentStore>,
    checkpoints: Collection,
    pub(super) projection: P,
}

impl<P: Projection> Follower<P> {
    pub(super) fn new(
        events: Arc<dyn EventStore>,
        documents: Arc<dyn DocumentStore>,
        projection: P,
    ) -> Result<Self> {
        let checkpoints = Collection::new("checkpoints")?;
        Ok(Self { events, documents, checkpoints, projection })
    }

    /// Reads the log to its present end.
    pub(super) async fn catch_up(&self) -> Result<()> {
        let mut after = self.begin().await?;
        loop {
            let page = self.events.read_all(after, &filter::<P>()?, PAGE).await?;
            if after < page.read_to {
                self.projection.take(&page.events, self.checkpoint_at(page.read_to)).await?;
            }
            after = page.read_to;
            if page.is_end {
                return Ok(());
            }
        }
    }

    /// Follows the log until the service stops.
    pub(super) async fn run(&self, stop: Stop) {
        loop {
            let followed = tokio::select! {
                followed = self.follow() => followed,
                () = stop.requested() => return,
            };
            if let Err(error) = followed {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(projection = P::NAME, error, "projection failed");
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.requested() => return,
            }
        }
    }

    async fn follow(&self) -> Result<()> {
        let after = self.begin().await?;
        let mut subscription = self.events.subscribe(after, filter::<P>()?).await?;
        while let Some(item) = subscription.next().await {
            match item? {
                SubscriptionItem::Event(event) => {
                    let checkpoint = self.checkpoint_at(event.position);
                    self.projection.take(std::slice::from_ref(&event), checkpoint).await?;
                }
                SubscriptionItem::Checkpoint(_) | SubscriptionItem::CaughtUp(_) => {}
            }
        }
        Err(Error::new(ErrorKind::Closed, "follow rooms"))
    }

    /// Returns after which position to go on.
    ///
    /// A checkpoint behind the log's end is of another log, or of this one before it lost its end:
    /// what comes to stand at those positions would never be read, so everything is read anew.
    async fn begin(&self) -> Result<Position> {
        let (checkpoint, head) = tokio::try_join!(self.checkpoint(), self.events.stable_head())?;
        if checkpoint <= head {
            return Ok(checkpoint);
        }
        tracing::warn!(projection = P::NAME, %checkpoint, %head, "log is shorter than it was read");
        self.projection.reset().await?;
        // Stored now: once the log has outgrown the old checkpoint nothing would tell it apart.
        let anew = self.checkpoint_at(Position::ZERO).write()?;
        self.documents.commit(Batch::new().write(anew)).await?;
        Ok(Position::ZERO)
    }

    async fn checkpoint(&self) -> Result<Position> {
        let found = self.documents.get(&self.checkpoints, P::NAME.as_bytes()).await?;
        found.map_or(Ok(Position::ZERO), |document| document.decode())
    }

    fn checkpoint_at(&self, read_to: Position) -> Checkpoint {
        Checkpoint { name: P::NAME, checkpoints: self.checkpoints.clone(), read_to }
    }
}

/// Others are left out by the store: what is said in a room is no concern of a projection.
fn filter<P: Projection>() -> Result<Filter> {
    let event_types = P::EVENTS.iter().map(EventType::new).collect::<Result<_>>()?;
    let stream_prefix = Some(STREAM_PREFIX.to_owned());
    Ok(Filter { stream_prefix, event_types, ..Filter::default() })
}
