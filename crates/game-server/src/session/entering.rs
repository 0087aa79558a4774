//! How a connection comes into a room, and out of it.

use infra_core::ErrorKind;
use tokio::sync::oneshot;

use super::{
    answers::{refused, setback},
    conversation::{Game, Place, Session},
};
use crate::{
    domain::{PlayerId, Refusal, Settings},
    protocol::{LeftReason, Refused, RoomCode, ServerMessage, Setback},
    rooms::{Enter, Entry, Mail, Purpose},
};

impl Game {
    /// Enters a room from the lobby, with a token if it takes a seat.
    pub(super) async fn enter(
        &self,
        session: &mut Session,
        player: PlayerId,
        room: RoomCode,
        purpose: Purpose,
    ) -> Result<(), Refused> {
        let is_new = matches!(purpose, Purpose::Create { .. });
        if !is_new && self.registry.find(room).await.map_err(|error| setback(&error))?.is_none() {
            return Err(refused(Refusal::NoSuchRoom));
        }
        let watching = match purpose {
            Purpose::Watch { .. } => self.count_spectator(room).await?,
            Purpose::Create { .. } | Purpose::Join { .. } | Purpose::Return { .. } => None,
        };
        let token = match purpose {
            Purpose::Watch { .. } => None,
            Purpose::Create { .. } | Purpose::Join { .. } | Purpose::Return { .. } => {
                Some(self.credentials.issue(player, room).await.map_err(|error| setback(&error))?)
            }
        };
        let connection = session.connection.clone();
        self.go(session, room, Enter { connection, player, purpose, token }).await?;
        session.watching = watching;
        Ok(())
    }

    /// Returns the settings of a new room: the times are the host's to choose, the bounds are not.
    pub(super) fn settings_of(&self, chosen: Option<Settings>) -> Result<Settings, Refused> {
        match chosen {
            None => Ok(self.settings),
            Some(chosen) if chosen.bounds.is_none() => {
                Ok(Settings { bounds: self.settings.bounds, ..chosen })
            }
            Some(_) => Err(refused(Refusal::InvalidSettings)),
        }
    }

    /// Sends a connection into a room and waits until it is there.
    pub(super) async fn go(
        &self,
        session: &mut Session,
        room: RoomCode,
        enter: Enter,
    ) -> Result<(), Refused> {
        let token = enter.token.clone();
        // Before anything is waited for: a client may go while it is on its way in, and then the
        // room must hear of it, after the letter that brings it in.
        session.place = if token.is_some() { Place::Seated(room) } else { Place::Watching(room) };
        if let Err(refused) = self.knock(room, enter).await {
            session.place = Place::Lobby;
            return Err(refused);
        }
        self.lobby.leave(session.connection.id());
        if let Some(token) = token {
            self.tokens.lock().insert(session.connection.id(), token);
        }
        Ok(())
    }

    /// Asks a room to let a connection in.
    pub(super) async fn knock(&self, room: RoomCode, enter: Enter) -> Result<(), Refused> {
        let is_new = matches!(enter.purpose, Purpose::Create { .. });
        let (reply, answer) = oneshot::channel();
        let mail = Mail::Enter(Box::new(enter), reply);
        if is_new {
            let handle = self.registry.open(room).await.map_err(|error| setback(&error))?;
            handle.send(mail).await.map_err(|_| refused(Setback::Overloaded))?;
        } else {
            self.registry.send(room, mail).await.map_err(|error| {
                if matches!(error.kind(), ErrorKind::NotFound) {
                    refused(Refusal::NoSuchRoom)
                } else {
                    setback(&error)
                }
            })?;
        }
        match answer.await {
            Ok(Entry::Entered) => Ok(()),
            Ok(Entry::Refused(code)) => Err(refused(code)),
            // The room's task is gone, perhaps after it was stored.
            Err(_) => Err(refused(Setback::StorageUnavailable)),
        }
    }

    pub(super) async fn stop_watching(&self, session: &mut Session, room: RoomCode) {
        if let Some(handle) = self.registry.in_memory(room) {
            let _sent = handle.send(Mail::Leave(session.connection.id())).await.is_ok();
        }
        session.place = Place::Lobby;
        session.watching = None;
        session.say(&ServerMessage::Left { room, reason: LeftReason::Asked });
    }

    /// Notices that the room of a connection was given up: it is in the lobby then.
    pub(super) fn leave_gone_room(&self, session: &mut Session) {
        let (Place::Seated(room) | Place::Watching(room)) = session.place else { return };
        let summary = self.registry.in_memory(room).and_then(|handle| handle.summary());
        let is_gone =
            summary.is_none_or(|summary| summary.lobby.status == crate::domain::Status::Abandoned);
        if is_gone {
            session.place = Place::Lobby;
            session.watching = None;
            self.tokens.lock().remove(&session.connection.id());
        }
    }
}
