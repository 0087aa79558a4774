//! Which rooms are unfinished, so that they go on by themselves after a restart.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use infra_core::{
    Result,
    codec::Payload,
    event::RecordedEvent,
    id::Collection,
    store::{Batch, DocumentStore, Scan},
    version::Expected,
};

use super::projection::{Checkpoint, Projection};
use crate::{protocol::RoomCode, rooms::room_of};

/// The most rooms that are found in one go.
const PAGE: usize = 1_000;

/// A document for each unfinished room.
#[derive(Debug, Clone)]
pub(super) struct Unfinished {
    documents: Arc<dyn DocumentStore>,
    rooms: Collection,
}

impl Unfinished {
    pub(super) fn new(documents: Arc<dyn DocumentStore>) -> Result<Self> {
        Ok(Self { documents, rooms: Collection::new("unfinished")? })
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
}

#[async_trait]
impl Projection for Unfinished {
    const NAME: &'static str = "unfinished";
    const EVENTS: &'static [&'static str] = &["room_created", "game_ended", "room_abandoned"];

    async fn take(&self, events: &[RecordedEvent], checkpoint: Checkpoint) -> Result<()> {
        let last: BTreeMap<String, bool> = events.iter().filter_map(change).collect();
        let mut batch = Batch::new().write(checkpoint.write()?);
        for (room, is_over) in last {
            let rooms = self.rooms.clone();
            batch = if is_over {
                batch.delete(rooms, room, Expected::Any)
            } else {
                batch.put(rooms, room, Expected::Any, Payload::json(1, &())?)
            };
        }
        self.documents.commit(batch).await.map(|_| ())
    }

    async fn reset(&self) -> Result<()> {
        for room in self.rooms().await? {
            let room = room.to_string();
            self.documents
                .commit(Batch::new().delete(self.rooms.clone(), room, Expected::Any))
                .await?;
        }
        Ok(())
    }
}

/// Returns the room that begins or ends with an event, and whether it ends.
fn change(recorded: &RecordedEvent) -> Option<(String, bool)> {
    let is_over = match recorded.event.event_type.as_str() {
        "room_created" => false,
        "game_ended" | "room_abandoned" => true,
        _ => return None,
    };
    Some((room_of(&recorded.stream)?.to_string(), is_over))
}
