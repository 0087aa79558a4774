//! Who listens to a room: one encoded frame for all who see the same.

use infra_ws::{Class, Close as WsClose, Connection, ConnectionId, Frame};

use crate::{
    domain::{BySeat, Event, PlayerId, Room, Seat, Viewer, is_shared, view},
    protocol::{Close, Presence, ServerMessage},
};

/// The class key of presence: only the latest of it matters.
const PRESENCE: Class = Class::Latest(1);

/// Turns a close of the protocol into one of the socket.
pub(crate) const fn close_of(close: Close) -> WsClose {
    WsClose::new(close.code(), close.reason())
}

/// Encodes a message as a frame.
pub(crate) fn frame_of(message: &ServerMessage) -> Frame {
    Frame::text(message.encode())
}

/// A connection in the room.
#[derive(Debug)]
struct Listener {
    connection: Connection,
    player: Option<PlayerId>,
}

/// The connections in a room.
#[derive(Debug, Default)]
pub(super) struct Audience(Vec<Listener>);

impl Audience {
    /// Adds a connection; an older one of the same player is closed as replaced.
    pub(super) fn add(&mut self, connection: Connection, player: Option<PlayerId>) {
        self.0.retain(|listener| {
            let is_same = player.is_some() && listener.player == player;
            if is_same {
                listener.connection.close(close_of(Close::Replaced));
            }
            !is_same
        });
        self.0.push(Listener { connection, player });
    }

    /// Removes a connection; returns whether it was there.
    pub(super) fn remove(&mut self, id: ConnectionId) -> bool {
        let before = self.0.len();
        self.0.retain(|listener| listener.connection.id() != id);
        self.0.len() < before
    }

    /// Removes and returns the connection of a player who has left.
    pub(super) fn take_player(&mut self, player: PlayerId) -> Option<Connection> {
        let place = self.0.iter().position(|listener| listener.player == Some(player))?;
        Some(self.0.swap_remove(place).connection)
    }

    /// Removes and returns all connections.
    pub(super) fn take_all(&mut self) -> Vec<Connection> {
        self.0.drain(..).map(|listener| listener.connection).collect()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends an event to everybody, each as it may see it; what all see alike is encoded once.
    pub(super) fn event(&self, room: &Room, offset: u64, event: &Event) {
        let encode =
            |viewer| frame_of(&ServerMessage::Event { offset, event: view(event, viewer) });
        let shared = is_shared(event).then(|| encode(Viewer::Spectator));
        for listener in &self.0 {
            let frame = match &shared {
                Some(frame) => frame.clone(),
                None => encode(viewer_of(room, listener.player)),
            };
            listener.connection.send(frame, Class::Durable);
        }
    }

    /// Sends a message that may be lost.
    pub(super) fn ephemeral(&self, message: &ServerMessage) {
        let frame = frame_of(message);
        for listener in &self.0 {
            listener.connection.send(frame.clone(), Class::Ephemeral);
        }
    }

    /// Tells everybody who is connected.
    pub(super) fn presence(&self, room: &Room) {
        let frame = frame_of(&ServerMessage::Presence(self.present(room)));
        for listener in &self.0 {
            listener.connection.send(frame.clone(), PRESENCE);
        }
    }

    /// Returns who is connected.
    pub(super) fn present(&self, room: &Room) -> Presence {
        let is_here = |seat: Seat| {
            let player = room.player_at(seat);
            player.is_some() && self.0.iter().any(|listener| listener.player == player)
        };
        let sits = |listener: &&Listener| {
            listener.player.is_some_and(|player| room.seat_of(player).is_some())
        };
        let seated = self.0.iter().filter(sits).count();
        Presence {
            connected: BySeat::from_fn(|seat| room.is_bot(seat) || is_here(seat)),
            spectators: u32::try_from(self.0.len() - seated).unwrap_or(u32::MAX),
        }
    }
}

/// Returns what a player may see of a room: its own seat's part, or a spectator's.
pub(super) fn viewer_of(room: &Room, player: Option<PlayerId>) -> Viewer {
    player.and_then(|player| room.seat_of(player)).map_or(Viewer::Spectator, Viewer::Seat)
}
