//! Finished games as objects of their own: each is written once, whole, from the log.

use std::sync::Arc;

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    archive::ArchiveStore,
    event::{Direction, EventStore, RecordedEvent},
    id::StreamName,
    version::Version,
};
use serde::{Deserialize, Serialize};

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
    pub(super) archive: Arc<dyn ArchiveStore>,
}

/// The end of a game, by which the game is found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ended {
    stream: StreamName,
    version: Version,
    at_ms: u64,
}

impl Ended {
    pub(super) fn of(event: &RecordedEvent) -> Self {
        let at_ms = event.recorded.as_millis();
        Self { stream: event.stream.clone(), version: event.version, at_ms }
    }
}

/// A game as it is archived. Every hand is in it, since it is over.
#[derive(Debug, Serialize)]
struct Archived {
    room: RoomCode,
    epoch: String,
    ended_ms: u64,
    events: Vec<Line>,
}

/// An event of a game, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) offset: u64,
    pub(super) at_ms: u64,
    pub(super) event: Event,
}

impl Line {
    pub(super) fn of(recorded: &RecordedEvent) -> Result<Self> {
        Ok(Self {
            offset: recorded.version.get(),
            at_ms: recorded.recorded.as_millis(),
            event: decode_event(recorded)?,
        })
    }
}

/// What is read of an archived game.
#[derive(Debug, Deserialize)]
struct Kept {
    events: Vec<Line>,
}

/// Returns the name of an archived game's object.
fn name_of(room: RoomCode, epoch: &str) -> String {
    format!("games/{room}-{epoch}.json")
}

/// Reads the events of an archived game, or `None` if there is none.
pub(super) async fn archived(
    archive: &dyn ArchiveStore,
    room: RoomCode,
    epoch: &str,
) -> Result<Option<Vec<Line>>> {
    let name = name_of(room, epoch);
    let Some(body) = archive.get(&name).await? else { return Ok(None) };
    let game: Kept = serde_json::from_slice(&body).map_err(|cause| {
        Error::new(ErrorKind::Corrupt, "read archived game").detail(name).because(cause)
    })?;
    Ok(Some(game.events))
}

impl Archivist {
    /// Archives a game, unless it is archived.
    pub(super) async fn keep(&self, ended: &Ended) -> Result<()> {
        let game = self.read(ended).await?;
        let name = name_of(game.room, &game.epoch);
        let body = serde_json::to_vec(&game)
            .map_err(|cause| Error::new(ErrorKind::Invalid, "archive game").because(cause))?;
        match self.archive.create(&name, Bytes::from(body)).await {
            // It was archived before the checkpoint was: the name is this game's alone.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => Ok(()),
            said => said,
        }
    }

    /// Reads a game from its first event to its end.
    async fn read(&self, ended: &Ended) -> Result<Archived> {
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
                events.push(Line::of(recorded)?);
            }
        }
        let epoch = epoch.ok_or_else(broken)?.to_string();
        Ok(Archived { room, epoch, ended_ms: ended.at_ms, events })
    }
}
