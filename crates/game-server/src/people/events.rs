//! The rooms' events with what people say sealed in the store and plain to whoever reads here.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use infra_core::{
    Error, ErrorKind, Result,
    codec::Payload,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, NewEvent, RecordedEvent,
        StreamInfo, Subscription, SubscriptionItem,
    },
    id::{EventId, StreamName},
    version::{Expected, Position, Version},
};
use uuid::Uuid;

use super::{
    People,
    stored::{Object, PLAIN, Personal, SEALED, Sealed},
};
use crate::{
    domain::{Event, PlayerId},
    protocol::RoomCode,
    rooms::room_of,
};

/// Where the facts beside an event name who acted.
const ACTOR: &str = "state-actor";

fn actor_of(event: &NewEvent) -> Option<PlayerId> {
    event.metadata.get(ACTOR)?.parse::<Uuid>().ok().map(PlayerId::from_uuid)
}

impl People {
    /// Returns an event as it is kept, sealed also if it was stored before events were.
    pub(crate) async fn kept(&self, recorded: &RecordedEvent) -> Result<Object> {
        let mut object: Object = recorded.event.payload.decode()?;
        if let (Some(room), PLAIN) = (room_of(&recorded.stream), recorded.event.payload.schema) {
            let actor = actor_of(&recorded.event);
            self.seal_object(room, recorded.event.id, &mut object, actor).await?;
        }
        Ok(object)
    }

    /// Reads an event of a room as it is kept.
    pub(crate) async fn read(&self, room: RoomCode, mut object: Object) -> Result<Event> {
        self.open_object(room, &mut object, None).await?;
        serde_json::from_value(object.into())
            .map_err(|cause| Error::new(ErrorKind::Corrupt, "read event").because(cause))
    }

    /// Takes out of a kept event what it says plainly of a player, for good; returns whether it did.
    pub(crate) fn strip(object: &mut Object, player: PlayerId, actor: Option<PlayerId>) -> bool {
        let Some(personal) = Personal::of_object(object) else { return false };
        let is_its_own = personal.player(object).or(actor) == Some(player);
        let is_plain = personal.text(object).is_some();
        if is_its_own && is_plain {
            personal.seal(object, player, None);
        }
        is_its_own && is_plain
    }

    /// Seals what an event has of a person; returns whether it has anything.
    async fn seal_object(
        &self,
        room: RoomCode,
        id: EventId,
        object: &mut Object,
        actor: Option<PlayerId>,
    ) -> Result<bool> {
        let Some(personal) = Personal::of_object(object) else { return Ok(false) };
        let Some(text) = personal.text(object).map(str::to_owned) else { return Ok(false) };
        let nobodys = || Error::new(ErrorKind::Invalid, "seal event").detail("whose is it?");
        let player = personal.player(object).or(actor).ok_or_else(nobodys)?;
        let sealed = self.seal((player, room), id, &text).await?;
        personal.seal(object, player, sealed);
        Ok(true)
    }

    /// Opens what an event has of a person, or puts a stand-in there; returns whether it changed.
    async fn open_object(
        &self,
        room: RoomCode,
        object: &mut Object,
        actor: Option<PlayerId>,
    ) -> Result<bool> {
        let Some(personal) = Personal::of_object(object) else { return Ok(false) };
        let Some(player) = personal.player(object).or(actor) else { return Ok(false) };
        let text = match Personal::sealed(object) {
            Sealed::To(sealed) => self.open_text((player, room), sealed).await?,
            Sealed::Not if !self.is_forgotten(player) => return Ok(false),
            Sealed::Not | Sealed::Forgotten => None,
        };
        personal.unseal(object, text.unwrap_or_else(|| personal.stand_in(player)));
        Ok(true)
    }
}

/// An event store of rooms.
#[derive(Debug, Clone)]
pub(crate) struct SealedEvents {
    store: Arc<dyn EventStore>,
    people: People,
}

impl SealedEvents {
    pub(crate) fn new(store: Arc<dyn EventStore>, people: People) -> Self {
        Self { store, people }
    }

    async fn seal(&self, room: RoomCode, event: &mut NewEvent) -> Result<()> {
        if event.payload.schema != PLAIN || Personal::of(event.event_type.as_str()).is_none() {
            return Ok(());
        }
        let mut object: Object = event.payload.decode()?;
        let actor = actor_of(event);
        if self.people.seal_object(room, event.id, &mut object, actor).await? {
            event.payload = Payload::json(SEALED, &object)?;
        }
        Ok(())
    }

    async fn open(&self, recorded: &mut RecordedEvent) -> Result<()> {
        let event = &recorded.event;
        let is_sealed = event.payload.schema == SEALED;
        if Personal::of(event.event_type.as_str()).is_none()
            || !(is_sealed || self.people.is_anybody_forgotten())
        {
            return Ok(());
        }
        let Some(room) = room_of(&recorded.stream) else { return Ok(()) };
        let mut object: Object = event.payload.decode()?;
        let actor = actor_of(event);
        if self.people.open_object(room, &mut object, actor).await? {
            recorded.event.payload = Payload::json(PLAIN, &object)?;
        }
        Ok(())
    }

    async fn open_all(&self, recorded: &mut [RecordedEvent]) -> Result<()> {
        for event in recorded {
            self.open(event).await?;
        }
        Ok(())
    }

    async fn open_item(self, item: Result<SubscriptionItem>) -> Result<SubscriptionItem> {
        let mut item = item?;
        if let SubscriptionItem::Event(event) = &mut item {
            self.open(event).await?;
        }
        Ok(item)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventStore for SealedEvents {
    /// A key that an event needs is durable before the event.
    async fn append(&self, mut append: Append) -> Result<Appended> {
        for part in &mut append.streams {
            let Some(room) = room_of(&part.stream) else { continue };
            for event in &mut part.events {
                self.seal(room, event).await?;
            }
        }
        self.store.append(append).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        let mut recorded = self.store.read_stream(stream, from, direction, limit).await?;
        self.open_all(&mut recorded).await?;
        Ok(recorded)
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        let mut page = self.store.read_all(after, filter, limit).await?;
        self.open_all(&mut page.events).await?;
        Ok(page)
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        let (subscription, own) = (self.store.subscribe(after, filter).await?, self.clone());
        Ok(Box::pin(subscription.then(move |item| own.clone().open_item(item))))
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        self.store.stream_info(stream).await
    }

    async fn stable_head(&self) -> Result<Position> {
        self.store.stable_head().await
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        self.store.wait_for(position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        self.store.truncate_before(stream, before).await
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        self.store.tombstone(stream, expected).await
    }
}
