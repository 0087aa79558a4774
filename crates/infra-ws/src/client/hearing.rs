//! What a client of rooms does with each message of its server.

use std::time::Duration;

use infra_core::{Error, ErrorKind, Result};

use super::{
    followed::{Followed, Took},
    heard::Heard,
    socket::{Client, Received},
    work::{ASK, Asked, Over, Work},
};
use crate::{
    app::Inbound,
    history::Place,
    sync::Update,
    wire::{ClientMessage, Code, Codec, Event, Part, ServerMessage},
};

/// The closes that coming back would not change: the client itself is at fault.
const FAULTS: [u16; 10] = [1000, 1002, 1003, 1007, 1008, 1009, 4003, 4010, 4011, 4012];

/// The closes of a server that goes away, and of one that restarts.
const GOES: [u16; 2] = [1001, 1012];

impl Work {
    /// Takes what came into account.
    pub(super) async fn receive(
        &mut self,
        client: &mut Client,
        received: Received,
        was_known: &mut bool,
    ) -> Result<(), Over> {
        let message = match received {
            Received::Text(text) => Inbound::Text(text.into()),
            Received::Binary(bytes) => Inbound::Binary(bytes),
            Received::Closed(Some(close)) if FAULTS.contains(&close.code) => {
                return Err(Over::Closed(close));
            }
            Received::Closed(Some(close)) if !GOES.contains(&close.code) => {
                return Err(Over::Lost);
            }
            Received::Closed(_) => return Err(Over::Away),
        };
        // A server of a later version may say what is not known here.
        let Ok(message) = Codec::Json.decode::<ServerMessage>(&message) else { return Ok(()) };
        match message {
            ServerMessage::Connected { user, .. } => {
                *was_known = true;
                self.known(client, user).await
            }
            ServerMessage::Joined {
                id,
                room,
                seat,
                from,
                recovered,
                state,
                present,
                token,
                ..
            } => {
                self.asked.remove(&id);
                let told = Heard::Joined { room, from, recovered, state, seat, present };
                self.joined(client, told, token).await
            }
            ServerMessage::Events { room, epoch, events } => {
                self.events(client, room, &epoch, events).await
            }
            ServerMessage::Position { room, place } => {
                let took = self.rooms.get_mut(&room).map(|followed| followed.position(&place));
                self.after(client, room, took).await
            }
            ServerMessage::Lost { room, .. } => {
                let took = self.rooms.get_mut(&room).map(Followed::lost);
                self.after(client, room, took).await
            }
            ServerMessage::State { room, part, update } => {
                self.updated(client, (room, part), update).await
            }
            ServerMessage::Error { id, code, message, retry_after_ms } => {
                self.refused(client, id, (code, message, retry_after_ms)).await
            }
            other @ (ServerMessage::Refreshed { .. }
            | ServerMessage::Message { .. }
            | ServerMessage::Ack { .. }
            | ServerMessage::Reply { .. }
            | ServerMessage::Presence { .. }
            | ServerMessage::Token { .. }
            | ServerMessage::Goodbye { .. }
            | ServerMessage::Pong) => self.take(other).await,
        }
    }

    /// Takes what needs no answer.
    async fn take(&mut self, message: ServerMessage) -> Result<(), Over> {
        match message {
            ServerMessage::Token { room, token } => {
                if let Some(followed) = self.rooms.get_mut(&room) {
                    followed.token = Some(token);
                }
                Ok(())
            }
            ServerMessage::Message { room, data } => self.tell(Heard::Message { room, data }).await,
            ServerMessage::Presence { room, joined, left } => {
                self.tell(Heard::Presence { room, joined, left }).await
            }
            ServerMessage::Goodbye { retry_after_ms } => {
                self.come_back_in = Some(Duration::from_millis(retry_after_ms));
                Ok(())
            }
            ServerMessage::Ack { id, .. }
            | ServerMessage::Reply { id, .. }
            | ServerMessage::Refreshed { id, .. } => {
                if let Some(Asked::Caller(answer)) = self.asked.remove(&id) {
                    // Whoever gave up waiting does not mind.
                    let _told = answer.send(Ok(message)).is_ok();
                }
                Ok(())
            }
            ServerMessage::Pong
            | ServerMessage::Connected { .. }
            | ServerMessage::Joined { .. }
            | ServerMessage::Events { .. }
            | ServerMessage::Position { .. }
            | ServerMessage::Lost { .. }
            | ServerMessage::State { .. }
            | ServerMessage::Error { .. } => Ok(()),
        }
    }

    /// The server knows who this is: the rooms are entered.
    async fn known(&mut self, client: &mut Client, user: String) -> Result<(), Over> {
        self.tell(Heard::Connected(user)).await?;
        for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
            self.enter(client, room).await?;
        }
        Ok(())
    }

    async fn joined(
        &mut self,
        client: &mut Client,
        told: Heard,
        token: String,
    ) -> Result<(), Over> {
        let Heard::Joined { room, from, .. } = &told else { return Ok(()) };
        let Some(followed) = self.rooms.get_mut(room) else { return Ok(()) };
        followed.joined(from.clone(), token);
        let sync = followed.sync(room);
        self.tell(told).await?;
        match sync {
            Some(message) => self.say(client, &message).await,
            None => Ok(()),
        }
    }

    async fn events(
        &mut self,
        client: &mut Client,
        room: String,
        epoch: &str,
        events: Vec<Event>,
    ) -> Result<(), Over> {
        for event in events {
            let Some(followed) = self.rooms.get_mut(&room) else { return Ok(()) };
            let place = Place { epoch: epoch.to_owned(), offset: event.offset };
            match followed.event(&place) {
                Took::New => {
                    let (room, data) = (room.clone(), event.data);
                    self.tell(Heard::Event { room, place, data }).await?;
                }
                Took::Nothing => {}
                Took::Missing => return self.enter(client, room).await,
            }
        }
        Ok(())
    }

    async fn updated(
        &mut self,
        client: &mut Client,
        (room, part): (String, Part),
        update: Update,
    ) -> Result<(), Over> {
        let Some(followed) = self.rooms.get_mut(&room) else { return Ok(()) };
        match followed.state(part, update) {
            Ok(Some(state)) => self.tell(Heard::State { room, part, state }).await,
            Ok(None) => Ok(()),
            Err(_) => self.say(client, &ClientMessage::Sync { room, version: None }).await,
        }
    }

    /// Enters a room again if something is missing.
    async fn after(
        &mut self,
        client: &mut Client,
        room: String,
        took: Option<Took>,
    ) -> Result<(), Over> {
        match took {
            Some(Took::Missing) => self.enter(client, room).await,
            Some(Took::New | Took::Nothing) | None => Ok(()),
        }
    }

    async fn refused(
        &mut self,
        client: &mut Client,
        id: Option<u64>,
        (code, message, retry_after_ms): (Code, String, Option<u64>),
    ) -> Result<(), Over> {
        match id.and_then(|id| self.asked.remove(&id)) {
            Some(Asked::Caller(answer)) => {
                let error = error(code, message, retry_after_ms);
                let _told = answer.send(Err(error)).is_ok();
                Ok(())
            }
            Some(Asked::Entering { room, by_token: true, .. }) => {
                // The token is spent or too old; the name is good as long as the identification.
                if let Some(followed) = self.rooms.get_mut(&room) {
                    followed.token = None;
                }
                self.enter(client, room).await
            }
            Some(Asked::Entering { .. }) if code == Code::Unavailable => Err(Over::Unavailable),
            Some(Asked::Entering { room, .. }) => {
                self.rooms.remove(&room);
                self.tell(Heard::Refused { room, code }).await
            }
            None => Ok(()),
        }
    }
}

/// Says in our errors what the server refused.
fn error(code: Code, message: String, retry_after_ms: Option<u64>) -> Error {
    let kind = match code {
        Code::InvalidMessage => ErrorKind::Invalid,
        Code::Unauthenticated | Code::Denied | Code::BadToken | Code::Locked | Code::NoSeat => {
            ErrorKind::Denied
        }
        Code::NotInRoom | Code::NotFound => ErrorKind::NotFound,
        Code::TooMany => ErrorKind::Overloaded,
        Code::RateLimited => {
            let retry_after = Duration::from_millis(retry_after_ms.unwrap_or_default());
            ErrorKind::Throttled { retry_after }
        }
        Code::Unavailable => ErrorKind::Unavailable,
    };
    Error::new(kind, ASK).detail(message)
}
