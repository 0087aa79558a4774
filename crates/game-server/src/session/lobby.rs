//! The lobby: who wants to know of changes in the list of rooms.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use infra_core::{Result, lifecycle::Stop};
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
        loop {
            let followed = tokio::select! {
                followed = self.follow() => followed,
                () = stop.requested() => return,
            };
            if let Err(error) = followed {
                tracing::warn!(error = &error as &dyn std::error::Error, "lobby not followed");
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.requested() => return,
            }
        }
    }

    /// Follows the rooms until the bus ends.
    async fn follow(&self) -> Result<()> {
        let mut changes = self.registry.changes().await?;
        let mut sent = None;
        loop {
            // Whatever was said meanwhile is in the list as well, and so is what was missed.
            while changes.next().now_or_never().is_some_and(|said| said.is_some()) {}
            let list = self.list();
            if sent.as_ref() != Some(&list) {
                self.listeners.broadcast(LOBBY, &frame_of(&list), LIST, None);
                sent = Some(list);
            }
            tokio::time::sleep(PAUSE).await;
            if changes.next().await.is_none() {
                return Ok(());
            }
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
