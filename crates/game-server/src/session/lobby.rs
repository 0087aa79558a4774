//! The lobby: who wants to know of changes in the list of rooms.

use std::{sync::Arc, time::Duration};

use infra_core::lifecycle::Stop;
use infra_ws::{Class, Connection, ConnectionId, Rooms};

use crate::{
    domain::Status,
    protocol::{LISTED_ROOMS, RoomSummary, ServerMessage},
    rooms::{Registry, Summary, frame_of},
    telemetry::ROOMS,
};

/// The one room of those who watch the list.
const LOBBY: &str = "lobby";

/// The class key of the list: only the latest of it matters.
const LIST: Class = Class::Latest(2);

/// The least time between two lists.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells connections about rooms.
#[derive(Debug)]
pub(super) struct Lobby {
    registry: Arc<Registry>,
    listeners: Rooms,
}

impl Lobby {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, listeners: Rooms::new() }
    }

    /// Sends the list now, and again whenever it changes.
    pub(super) fn enter(&self, connection: &Connection) {
        self.listeners.join(LOBBY, connection);
        connection.send(frame_of(&self.list()), LIST);
    }

    pub(super) fn leave(&self, connection: ConnectionId) {
        self.listeners.leave(LOBBY, connection);
    }

    /// Sends the list to all listeners when it has changed, until the service stops.
    pub(super) async fn run(&self, stop: Stop) {
        let mut sent = None;
        loop {
            tokio::select! {
                () = self.registry.changed() => {}
                () = stop.requested() => return,
            }
            let list = self.list();
            if sent.as_ref() != Some(&list) {
                self.listeners.broadcast(LOBBY, &frame_of(&list), LIST, None);
                sent = Some(list);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn list(&self) -> ServerMessage {
        let summaries = self.registry.summaries();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
        ROOMS.set(summaries.len() as f64);
        let mut rooms: Vec<RoomSummary> =
            summaries.into_iter().filter(Summary::is_listed).map(|summary| summary.lobby).collect();
        rooms.sort_by_key(|room| (order(room.status), room.room.to_string()));
        let total = u32::try_from(rooms.len()).unwrap_or(u32::MAX);
        rooms.truncate(LISTED_ROOMS);
        ServerMessage::Rooms { rooms, total }
    }
}

/// Rooms that can be joined come first, then those that can be watched.
const fn order(status: Status) -> u8 {
    match status {
        Status::Waiting => 0,
        Status::Ready => 1,
        Status::InGame => 2,
        Status::Completed | Status::Abandoned => 3,
    }
}
