//! Committed events become events of rooms, by one table.

use std::sync::Arc;

use futures_util::StreamExt;
use infra_core::{
    Result,
    event::{EventStore, Filter, RecordedEvent, SubscriptionItem},
    version::Position,
};
use serde_json::Value;

use crate::room::{RoomHandler, RoomServer};

/// What a committed event means to a room.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    /// The room.
    pub room: String,
    /// What its members hear, each through the handler's `view`.
    pub data: Value,
}

/// Follows an event store and publishes what its table makes of each event.
///
/// It hears of an event only after its commit, so nothing is announced that was rolled back. The
/// table is one function over the application's events; write it as one `match` without `_`, so
/// that a new event does not compile until somebody has said what becomes of it.
#[derive(Debug)]
pub struct Announcer<T> {
    store: Arc<dyn EventStore>,
    filter: Filter,
    table: T,
}

impl<T> Announcer<T>
where
    T: Fn(&RecordedEvent) -> Vec<Announcement> + Send + Sync,
{
    /// Announces the events of `store` that fit `filter` by `table`.
    pub fn new(store: Arc<dyn EventStore>, filter: Filter, table: T) -> Self {
        Self { store, filter, table }
    }

    /// Announces everything behind `after`, until the store is closed; returns the last position
    /// that was announced whole.
    ///
    /// Delivery is at least once: who goes on after a crash begins at the last position that it
    /// kept.
    ///
    /// # Errors
    ///
    /// What the store, or the history of the rooms, fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops between two announcements.
    pub async fn run<H: RoomHandler>(
        &self,
        rooms: &RoomServer<H>,
        after: Position,
    ) -> Result<Position> {
        let mut reached = after;
        let mut events = self.store.subscribe(after, self.filter.clone()).await?;
        while let Some(item) = events.next().await {
            match item? {
                SubscriptionItem::Event(event) => {
                    for Announcement { room, data } in (self.table)(&event) {
                        rooms.publish(&room, &data).await?;
                    }
                    reached = event.position;
                }
                SubscriptionItem::Checkpoint(position) | SubscriptionItem::CaughtUp(position) => {
                    reached = position;
                }
            }
        }
        Ok(reached)
    }
}
