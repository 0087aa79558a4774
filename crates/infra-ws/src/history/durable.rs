//! The history of rooms in an event store: it outlives the node, and other nodes can serve it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    codec::Payload,
    durability::Durability,
    event::{Append, Direction, EventStore, NewEvent},
    id::{EventId, EventType, StreamName},
    lease::Fence,
    random::Random,
    version::{Expected, Version},
};

use super::{Entry, History, Place, Window};

/// Keeps the stream of each room as a stream of an [`EventStore`]: the offset is the version, the
/// epoch the incarnation.
pub struct EventHistory {
    store: Arc<dyn EventStore>,
    prefix: String,
    event_type: EventType,
    durability: Durability,
    fence: Option<Fence>,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl fmt::Debug for EventHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHistory").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl EventHistory {
    /// Keeps rooms in streams whose names begin with `prefix`.
    ///
    /// # Errors
    ///
    /// Never for now; a prefix that is no name is refused when a room is used.
    pub fn new(
        store: Arc<dyn EventStore>,
        prefix: impl Into<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Ok(Self {
            store,
            prefix: prefix.into(),
            event_type: EventType::new("room.published")?,
            durability: Durability::Durable,
            fence: None,
            clock,
            random: Random::from_system(),
        })
    }

    /// Sets what is reached before an event is sent to anybody; durable by default.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Carries a fence with each append: once another node has a newer one, this node publishes
    /// nothing any more.
    #[must_use]
    pub fn fenced(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    fn stream(&self, room: &str) -> Result<StreamName> {
        StreamName::new(format!("{}{room}", self.prefix))
    }
}

#[async_trait]
impl History for EventHistory {
    async fn append(&self, room: &str, body: Bytes) -> Result<Place> {
        let stream = self.stream(room)?;
        let id = EventId::generate(self.clock.wall(), &self.random);
        let event = NewEvent::new(id, self.event_type.clone(), Payload::raw(body));
        let mut append =
            Append::to(stream.clone(), Expected::Any, vec![event]).durability(self.durability);
        append.fence.clone_from(&self.fence);
        let appended = self.store.append(append).await?;
        let offset = appended.versions.first().map_or(0, |version| version.get());
        let info = self.store.stream_info(&stream).await?;
        let info = info.ok_or_else(|| Error::new(ErrorKind::Internal, "append to room"))?;
        Ok(Place { epoch: info.incarnation.to_string(), offset })
    }

    async fn read(&self, room: &str, after: u64, limit: usize) -> Result<Window> {
        let stream = self.stream(room)?;
        let from = Version::new(after.saturating_add(1));
        let recorded = match limit {
            0 => Vec::new(),
            _ => self.store.read_stream(&stream, from, Direction::Forward, limit).await?,
        };
        // Read second: what is older than the entries was there when they were read.
        let Some(info) = self.store.stream_info(&stream).await? else {
            return Ok(Window { epoch: String::new(), first: 1, last: 0, entries: Vec::new() });
        };
        let entries = recorded.into_iter().map(|recorded| Entry {
            offset: recorded.version.get(),
            body: recorded.event.payload.body,
        });
        // A truncation may have come between the client and the entries: then there are none.
        let entries: Vec<Entry> = entries
            .zip(after.saturating_add(1)..)
            .map_while(|(entry, wanted)| (entry.offset == wanted).then_some(entry))
            .collect();
        Ok(Window {
            epoch: info.incarnation.to_string(),
            first: info.first.get(),
            last: info.last.get(),
            entries,
        })
    }
}
