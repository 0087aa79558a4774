//! Finished games, move by move: from the log, or from the archive once a room's name has another life.

use std::sync::Arc;

use infra_core::{
    Result,
    archive::ArchiveStore,
    event::{Direction, EventStore},
    id::StreamName,
    machine::StateMachine as _,
    version::Version,
};
use serde::Serialize;

use super::{
    archivist::{Line, archived},
    backends::Backends,
};
use crate::{
    domain::{Event, Hands, Room, RoomView, Viewed, Viewer, view},
    people::People,
    protocol::{Epoch, RoomCode},
    rooms::STREAM_PREFIX,
};

/// How many events of a room are read at a time.
const PAGE: usize = 512;

/// Finds finished games.
#[derive(Debug, Clone)]
pub(super) struct Replays {
    events: Arc<dyn EventStore>,
    archive: Arc<dyn ArchiveStore>,
    people: People,
}

/// The name of a game: its room and the epoch of it, `ROOM-EPOCH`, as in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GameId {
    pub(super) room: RoomCode,
    pub(super) epoch: Epoch,
}

impl GameId {
    pub(super) fn new(text: &str) -> Option<Self> {
        let (room, epoch) = text.split_once('-')?;
        Some(Self { room: RoomCode::new(room)?, epoch: Epoch::new(epoch)? })
    }
}

/// A game as it is replayed.
#[derive(Debug, Serialize)]
pub(super) struct Replay {
    id: String,
    room: RoomCode,
    ended_ms: u64,
    /// The room as a spectator saw it after its first event.
    start: RoomView,
    /// Everything after it, up to the end of the game.
    pub(super) steps: Vec<Step>,
}

/// An event of a game, as a spectator saw it, and the hands that were dealt with it.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) offset: u64,
    pub(super) at_ms: u64,
    pub(super) event: Viewed,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hands: Option<Hands>,
}

impl Replays {
    /// Creates it over the rooms' events as they are read.
    pub(super) fn new(events: Arc<dyn EventStore>, backends: &Backends, people: People) -> Self {
        Self { events, archive: Arc::clone(&backends.archive), people }
    }

    /// Returns a game that is over, or `None`: of a game that goes on it is not even said that it is there.
    pub(super) async fn of(&self, id: &GameId) -> Result<Option<Replay>> {
        let lines = match self.recorded(id).await? {
            Some(lines) => lines,
            None => match self.archived(id).await? {
                Some(lines) => lines,
                None => return Ok(None),
            },
        };
        Ok(replay(id, lines))
    }

    async fn archived(&self, id: &GameId) -> Result<Option<Vec<Line>>> {
        let stores = (self.archive.as_ref(), &self.people);
        archived(stores, id.room, id.epoch.as_str()).await
    }

    /// Reads a game from the log up to its end, if the log has this life of the room.
    async fn recorded(&self, id: &GameId) -> Result<Option<Vec<Line>>> {
        let stream = StreamName::new(format!("{STREAM_PREFIX}{}", id.room))?;
        let Some(info) = self.events.stream_info(&stream).await? else { return Ok(None) };
        if info.incarnation.to_string() != id.epoch.as_str() || Version::new(1) < info.first {
            return Ok(None);
        }
        let mut lines: Vec<Line> = Vec::new();
        let mut from = Version::new(1);
        loop {
            let page = self.events.read_stream(&stream, from, Direction::Forward, PAGE).await?;
            let Some(last) = page.last() else { return Ok(Some(lines)) };
            from = last.version.next();
            for recorded in &page {
                let line = Line::of(recorded)?;
                let is_end = matches!(line.event, Event::GameEnded { .. });
                lines.push(line);
                if is_end {
                    return Ok(Some(lines));
                }
            }
        }
    }
}

/// Makes the replay of a game, unless it is not over.
fn replay(id: &GameId, lines: Vec<Line>) -> Option<Replay> {
    let ended = lines.last()?;
    if !matches!(ended.event, Event::GameEnded { .. }) {
        return None;
    }
    let ended_ms = ended.at_ms;
    let mut lines = lines.into_iter();
    let mut room = Room::default();
    room.evolve(&lines.next()?.event);
    let start = room.view(Viewer::Spectator)?;
    let id_text = format!("{}-{}", id.room, id.epoch);
    Some(Replay {
        id: id_text,
        room: id.room,
        ended_ms,
        start,
        steps: lines.map(|line| step(&line)).collect(),
    })
}

fn step(line: &Line) -> Step {
    let hands = if let Event::Dealt { hands, .. } = &line.event { Some(*hands) } else { None };
    // What people said to each other at the table stays there.
    let is_talk = matches!(line.event, Event::Chat { .. });
    let event = if is_talk { Viewed::Hidden {} } else { view(&line.event, Viewer::Spectator) };
    Step { offset: line.offset, at_ms: line.at_ms, event, hands }
}
