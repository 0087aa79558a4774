//! Which rooms are unfinished, so that they go on by themselves after a restart.
//!
//! It is a projection of the rooms' streams: a document for each unfinished room, and how far the
//! log was read, committed together.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use infra_core::{
    Error, ErrorKind, Result,
    codec::Payload,
    event::{EventStore, Filter, RecordedEvent, SubscriptionItem},
    id::Collection,
    lifecycle::Stop,
    store::{Batch, DocumentStore, Scan},
    version::{Expected, Position},
};

use crate::{
    domain::Event,
    protocol::RoomCode,
    rooms::{STREAM_PREFIX, decode_event, room_of},
};

/// The pause before the log is read again after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// The most rooms that are found in one go.
const PAGE: usize = 1_000;

/// The projection.
#[derive(Debug, Clone)]
pub(super) struct Unfinished {
    events: Arc<dyn EventStore>,
    documents: Arc<dyn DocumentStore>,
    rooms: Collection,
    checkpoints: Collection,
}

impl Unfinished {
    pub(super) fn new(
        events: Arc<dyn EventStore>,
        documents: Arc<dyn DocumentStore>,
    ) -> Result<Self> {
        let rooms = Collection::new("unfinished")?;
        Ok(Self { events, documents, rooms, checkpoints: Collection::new("checkpoints")? })
    }

    /// Reads the log to its present end.
    pub(super) async fn catch_up(&self) -> Result<()> {
        let mut after = self.checkpoint().await?;
        loop {
            let page = self.events.read_all(after, &filter(), PAGE).await?;
            self.take(&page.events, page.read_to).await?;
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
                tracing::warn!(error = &error as &dyn std::error::Error, "projection failed");
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.requested() => return,
            }
        }
    }

    /// Returns the unfinished rooms.
    pub(super) async fn rooms(&self) -> Result<Vec<RoomCode>> {
        let mut rooms = Vec::new();
        let mut scan = Scan::prefix("", PAGE);
        loop {
            let page = self.documents.scan(&self.rooms, scan.clone()).await?;
            let Some(last) = page.last() else { return Ok(rooms) };
            scan.after = Some(last.key.clone());
            let keys = page.iter().filter_map(|document| std::str::from_utf8(&document.key).ok());
            rooms.extend(keys.filter_map(RoomCode::new));
        }
    }

    async fn follow(&self) -> Result<()> {
        let after = self.checkpoint().await?;
        let mut subscription = self.events.subscribe(after, filter()).await?;
        while let Some(item) = subscription.next().await {
            match item? {
                SubscriptionItem::Event(event) => {
                    if change(&event)?.is_some() {
                        self.take(std::slice::from_ref(&event), event.position).await?;
                    }
                }
                SubscriptionItem::Checkpoint(_) | SubscriptionItem::CaughtUp(_) => {}
            }
        }
        Err(Error::new(ErrorKind::Closed, "follow rooms"))
    }

    async fn checkpoint(&self) -> Result<Position> {
        let found = self.documents.get(&self.checkpoints, CHECKPOINT).await?;
        found.map_or(Ok(Position::ZERO), |document| document.decode())
    }

    async fn take(&self, events: &[RecordedEvent], read_to: Position) -> Result<()> {
        let mut last = std::collections::BTreeMap::new();
        for event in events {
            if let Some((room, is_over)) = change(event)? {
                last.insert(room.to_string(), is_over);
            }
        }
        let checkpoint = Payload::json(1, &read_to)?;
        let batch =
            Batch::new().put(self.checkpoints.clone(), CHECKPOINT, Expected::Any, checkpoint);
        let batch = last.into_iter().try_fold(batch, |batch, (room, is_over)| {
            let rooms = self.rooms.clone();
            Ok::<_, Error>(if is_over {
                batch.delete(rooms, room, Expected::Any)
            } else {
                batch.put(rooms, room, Expected::Any, Payload::json(1, &())?)
            })
        })?;
        self.documents.commit(batch).await.map(|_| ())
    }
}

const CHECKPOINT: &[u8] = b"unfinished";

fn filter() -> Filter {
    Filter { stream_prefix: Some(STREAM_PREFIX.to_owned()), ..Filter::default() }
}

/// Returns the room that begins or ends with an event, and whether it ends.
fn change(recorded: &RecordedEvent) -> Result<Option<(RoomCode, bool)>> {
    let Some(room) = room_of(&recorded.stream) else { return Ok(None) };
    let is_over = match recorded.event.event_type.as_str() {
        "room_created" => false,
        "game_ended" | "room_abandoned" => true,
        _ => return Ok(None),
    };
    debug_assert!(matches!(
        decode_event(recorded)?,
        Event::RoomCreated { .. } | Event::GameEnded { .. } | Event::RoomAbandoned { .. }
    ));
    Ok(Some((room, is_over)))
}
