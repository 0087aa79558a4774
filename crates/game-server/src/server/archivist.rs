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
    domain::{Event, PlayerId},
    people::People,
    protocol::RoomCode,
    rooms::{decode_event, room_of},
    telemetry::{ARCHIVED, ARCHIVED_BYTES},
};

/// How many events of a room are read at a time.
const PAGE: usize = 512;

/// Writes finished games to an archive, from the events as they are stored.
#[derive(Debug, Clone)]
pub(super) struct Archivist {
    pub(super) events: Arc<dyn EventStore>,
    pub(super) archive: Arc<dyn ArchiveStore>,
    pub(super) people: People,
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

/// A game as it is archived. Every hand is in it, since it is over; what people say is sealed.
#[derive(Debug, Serialize, Deserialize)]
struct Archived {
    room: RoomCode,
    epoch: String,
    ended_ms: u64,
    events: Vec<Kept>,
}

/// An event of a game, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    offset: u64,
    at_ms: u64,
    event: serde_json::Map<String, serde_json::Value>,
}

/// An event of a game, as it is read.
#[derive(Debug)]
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

/// Returns the name of an archived game's object.
fn name_of(room: RoomCode, epoch: &str) -> String {
    format!("games/{room}-{epoch}.json")
}

/// Reads the events of an archived game, or `None` if there is none.
pub(super) async fn archived(
    (archive, people): (&dyn ArchiveStore, &People),
    room: RoomCode,
    epoch: &str,
) -> Result<Option<Vec<Line>>> {
    let name = name_of(room, epoch);
    let Some(body) = archive.get(&name).await? else { return Ok(None) };
    let mut lines = Vec::new();
    for Kept { offset, at_ms, event } in parse(&name, &body)?.events {
        lines.push(Line { offset, at_ms, event: people.read(room, event).await? });
    }
    Ok(Some(lines))
}

fn parse(name: &str, body: &[u8]) -> Result<Archived> {
    serde_json::from_slice(body).map_err(|cause| {
        Error::new(ErrorKind::Corrupt, "read archived game").detail(name.to_owned()).because(cause)
    })
}

fn write(game: &Archived) -> Result<Bytes> {
    let body = serde_json::to_vec(game)
        .map_err(|cause| Error::new(ErrorKind::Invalid, "archive game").because(cause))?;
    Ok(body.into())
}

/// Takes out of an archived game what it says plainly of a player, as games did that were archived before
/// names were sealed; returns whether there was any.
pub(super) async fn strip(
    archive: &dyn ArchiveStore,
    (room, epoch): (RoomCode, &str),
    player: PlayerId,
) -> Result<bool> {
    let name = name_of(room, epoch);
    let Some(body) = archive.get(&name).await? else { return Ok(false) };
    let mut game = parse(&name, &body)?;
    let mut seated = [None; 4];
    let mut is_changed = false;
    for Kept { event, .. } in &mut game.events {
        let seat = event.get("seat").and_then(serde_json::Value::as_u64);
        let id = |field: &str| event.get(field)?.as_str()?.parse().ok().map(PlayerId::from_uuid);
        let taken = match event.get("type").and_then(serde_json::Value::as_str) {
            Some("room_created") => Some((0, id("host"))),
            Some("player_joined") => seat.map(|seat| (seat, id("player"))),
            _ => None,
        };
        let place = |seat: u64| usize::try_from(seat).ok();
        if let Some((seat, who)) = taken
            && let Some(held) = place(seat).and_then(|seat| seated.get_mut(seat))
        {
            *held = who;
        }
        let speaker = seat.and_then(place).and_then(|seat| seated.get(seat).copied().flatten());
        is_changed |= People::strip(event, player, speaker);
    }
    if is_changed {
        archive.replace(&name, write(&game)?).await?;
    }
    Ok(is_changed)
}

impl Archivist {
    /// Archives a game, unless it is archived.
    pub(super) async fn keep(&self, ended: &Ended) -> Result<()> {
        let game = self.read(ended).await?;
        let name = name_of(game.room, &game.epoch);
        let body = write(&game)?;
        let bytes = body.len() as u64;
        match self.archive.create(&name, body).await {
            Ok(()) => {
                ARCHIVED.add(1);
                ARCHIVED_BYTES.add(bytes);
                Ok(())
            }
            // It was archived before the checkpoint was: the name is this game's alone.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => Ok(()),
            failed => failed,
        }
    }

    async fn line(&self, room: RoomCode, recorded: &RecordedEvent) -> Result<Kept> {
        let event = self.people.kept(recorded).await?;
        // What could not be read again is not archived.
        self.people.read(room, event.clone()).await?;
        let (offset, at_ms) = (recorded.version.get(), recorded.recorded.as_millis());
        Ok(Kept { offset, at_ms, event })
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
                events.push(self.line(room, recorded).await?);
            }
        }
        let epoch = epoch.ok_or_else(broken)?.to_string();
        Ok(Archived { room, epoch, ended_ms: ended.at_ms, events })
    }
}
