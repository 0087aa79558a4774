//! Finished games as objects of their own: each is written once, whole, from the log.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    archive::ArchiveStore,
    event::{Direction, EventStore, RecordedEvent},
    store::{Batch, DocumentStore},
    version::Version,
};
use serde::Serialize;

use super::projection::{Checkpoint, Projection};
use crate::{
    domain::Event,
    protocol::RoomCode,
    rooms::{decode_event, room_of},
};

/// How many events of a room are read at a time.
const PAGE: usize = 512;

/// Writes finished games to an archive.
#[derive(Debug, Clone)]
pub(super) struct Archivist {
    pub(super) events: Arc<dyn EventStore>,
    pub(super) documents: Arc<dyn DocumentStore>,
    pub(super) archive: Arc<dyn ArchiveStore>,
}

/// A game as it is archived: `games/ROOM-EPOCH.json`. Every hand is in it, since it is over.
#[derive(Debug, Serialize)]
struct Archived {
    room: RoomCode,
    epoch: String,
    ended_ms: u64,
    events: Vec<Line>,
}

/// An event of an archived game.
#[derive(Debug, Serialize)]
struct Line {
    offset: u64,
    at_ms: u64,
    event: Event,
}

impl Archivist {
    async fn keep(&self, ended: &RecordedEvent) -> Result<()> {
        let game = self.read(ended).await?;
        let name = format!("games/{}-{}.json", game.room, game.epoch);
        let body = serde_json::to_vec(&game)
            .map_err(|cause| Error::new(ErrorKind::Invalid, "archive game").because(cause))?;
        match self.archive.create(&name, Bytes::from(body)).await {
            // It was archived before the checkpoint was: the name is this game's alone.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => Ok(()),
            said => said,
        }
    }

    /// Reads a game from its first event to its end.
    async fn read(&self, ended: &RecordedEvent) -> Result<Archived> {
        let broken =
            || Error::new(ErrorKind::Corrupt, "read game").detail(ended.stream.to_string());
        let room = room_of(&ended.stream).ok_or_else(broken)?;
        let (mut events, mut epoch) = (Vec::new(), None);
        while (events.len() as u64) < ended.version.get() {
            let from = Version::new(events.len() as u64 + 1);
            let read = self.events.read_stream(&ended.stream, from, Direction::Forward, PAGE);
            let page = read.await?;
            if page.is_empty() {
                return Err(broken());
            }
            for recorded in page.iter().filter(|recorded| recorded.version <= ended.version) {
                epoch.get_or_insert(recorded.event.id);
                events.push(Line {
                    offset: recorded.version.get(),
                    at_ms: recorded.recorded.as_millis(),
                    event: decode_event(recorded)?,
                });
            }
        }
        let epoch = epoch.ok_or_else(broken)?.to_string();
        Ok(Archived { room, epoch, ended_ms: ended.recorded.as_millis(), events })
    }
}

#[async_trait]
impl Projection for Archivist {
    const NAME: &'static str = "archive";

    fn concerns(&self, event: &RecordedEvent) -> bool {
        event.event.event_type.as_str() == "game_ended"
    }

    async fn take(&self, events: &[RecordedEvent], checkpoint: Checkpoint) -> Result<()> {
        for event in events {
            self.keep(event).await?;
        }
        self.documents.commit(Batch::new().write(checkpoint.write()?)).await.map(|_| ())
    }
}
