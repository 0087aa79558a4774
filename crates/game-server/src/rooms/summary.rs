//! A room in a line: what the lobby and the dashboard show without asking its task.

use infra_core::clock::Instant;

use crate::{
    domain::{Phase, Room, Seat, Status},
    protocol::{RoomCode, RoomSummary, admin::RoomRow},
};

/// A room in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What the lobby shows.
    pub lobby: RoomSummary,
    /// The phase of its game.
    pub phase: Option<Phase>,
    /// How many people are connected.
    pub connected: u8,
    /// How many watch.
    pub spectators: u32,
    /// How many events it has.
    pub offset: u64,
    /// When the last event was.
    pub active: Instant,
}

impl Summary {
    /// Summarizes a room; `None` before it was created.
    pub fn of(code: RoomCode, room: &Room, active: Instant) -> Option<Self> {
        let status = room.status()?;
        let count = |sits: &dyn Fn(Seat) -> bool| {
            let seats = Seat::ALL.into_iter().filter(|seat| sits(*seat));
            u8::try_from(seats.count()).unwrap_or(u8::MAX)
        };
        let people = count(&|seat| room.player_at(seat).is_some());
        let bots = count(&|seat| room.is_bot(seat));
        let host = room.host().and_then(|seat| room.name_at(seat)).cloned();
        let round = room.round();
        Some(Self {
            lobby: RoomSummary { room: code, status, host, people, bots, round },
            phase: room.phase(),
            connected: 0,
            spectators: 0,
            offset: room.offset(),
            active,
        })
    }

    /// Returns the line of the dashboard.
    pub fn row(&self, now: Instant) -> RoomRow {
        let idle = now.since(self.active).as_millis();
        RoomRow {
            room: self.lobby.room,
            status: self.lobby.status,
            phase: self.phase,
            round: self.lobby.round,
            people: self.lobby.people,
            connected: self.connected,
            bots: self.lobby.bots,
            spectators: self.spectators,
            offset: self.offset,
            idle_ms: u64::try_from(idle).unwrap_or(u64::MAX),
        }
    }

    /// Returns whether the room can be joined or watched with some gain.
    pub fn is_listed(&self) -> bool {
        matches!(self.lobby.status, Status::Waiting | Status::Ready | Status::InGame)
    }
}
