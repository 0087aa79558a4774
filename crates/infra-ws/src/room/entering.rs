//! Entering a room, for the first time or again, without missing anything on the way.

use std::{collections::VecDeque, sync::Arc};

use super::{
    conversation::Talk,
    handler::{Denied, Identity, Life, Role, RoomHandler},
    presence::Change,
    server::RoomServer,
    state::{CaughtUp, Flow, Link, Room},
    synced::codec_of,
};
use crate::{
    close::Close,
    connection::Connection,
    frame::Class,
    history::Place,
    resume::Recovery,
    telemetry::{Outcome, RESUMED},
    wire::{Code, Recovered, ServerMessage},
};

/// The longest name of a room.
const MAX_NAME: usize = 64;

/// How often a client is caught up again when more came meanwhile than is held back.
const ATTEMPTS: u32 = 3;

/// What a client that enters asks for.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) id: u64,
    pub(super) room: &'a str,
    pub(super) seat: Option<u32>,
    pub(super) from: Option<Place>,
}

impl<H: RoomHandler> RoomServer<H> {
    /// Lets a client enter.
    pub(super) async fn enter(&self, talk: &mut Talk, wish: Wish<'_>) -> Result<(), Denied> {
        let who = talk.who()?.clone();
        check_name(wish.room)?;
        let is_again = talk.rooms.contains(wish.room);
        if !is_again && self.0.options.per_connection <= talk.rooms.len() {
            return Err(Denied::new(Code::TooMany, "this connection is in too many rooms"));
        }
        let role = self.ask(self.0.handler.may_enter(&who, wish.room)).await?;
        let unavailable = |_| Denied::new(Code::Unavailable, "the room cannot be opened now");
        let (room, change) = loop {
            let room = self.open(wish.room).await.map_err(unavailable)?;
            // Noted first, so that the end of the connection finds it, whenever it comes.
            talk.rooms.insert(Arc::clone(&room.name));
            match self.admit(&room, &talk.connection, &who, (role, wish.seat)) {
                Ok(Some(change)) => break (room, change),
                Ok(None) => {}
                Err(denied) => {
                    if !is_again {
                        talk.rooms.remove(&room.name);
                    }
                    return Err(denied);
                }
            }
        };
        let caught_up = self.bring_in(&room, talk, &who, &wish).await;
        if caught_up.is_err() {
            self.withdraw(&room, &talk.connection, false).await;
            talk.rooms.remove(&room.name);
        }
        caught_up?;
        self.tell_change(&room, &who.user, change, Some(&talk.connection)).await;
        Ok(())
    }

    /// Puts the connection into the room, still deaf; `None` if the room is gone meanwhile.
    fn admit(
        &self,
        room: &Room,
        connection: &Connection,
        who: &Identity,
        (role, seat): (Role, Option<u32>),
    ) -> Result<Option<Change>, Denied> {
        let now = self.0.hub.clock.now();
        let mut inside = room.inside();
        if inside.is_disposed {
            return Ok(None);
        }
        let is_known = inside.presence.connections(&who.user).is_some();
        if inside.is_locked && !is_known {
            return Err(Denied::new(Code::Locked, "the room takes nobody any more"));
        }
        let flow = Flow::Catching { held: VecDeque::new(), is_overrun: false };
        if let Some(link) = inside.links.get_mut(&connection.id()) {
            link.flow = flow;
            return Ok(Some(Change::None));
        }
        if self.0.options.members <= inside.links.len() {
            return Err(Denied::new(Code::TooMany, "the room is full"));
        }
        if role == Role::Player {
            let taken = inside.seats.take(&who.user, seat, now);
            taken.map_err(|refused| Denied::new(Code::NoSeat, refused.to_string()))?;
        }
        let link = Link {
            connection: connection.clone(),
            codec: codec_of(connection),
            user: Arc::from(who.user.as_str()),
            flow,
            following: None,
            token_due: now + self.0.options.token / 2,
        };
        inside.links.insert(connection.id(), link);
        inside.empty_since = None;
        let change = inside.presence.join(&who.user);
        drop(inside);
        Ok(Some(change))
    }

    /// Reads what the client missed, or the state, and makes it hear what comes.
    async fn bring_in(
        &self,
        room: &Arc<Room>,
        talk: &Talk,
        who: &Identity,
        wish: &Wish<'_>,
    ) -> Result<(), Denied> {
        let unavailable = |_| Denied::new(Code::Unavailable, "no token can be issued now");
        let token = self.issue(who, &room.name).await.map_err(unavailable)?;
        for _ in 0..ATTEMPTS {
            let (caught_up, recovered, state) = self.catch_up(room, who, wish).await?;
            let (seat, present) = {
                let inside = room.inside();
                (inside.seats.of(&who.user), inside.present())
            };
            let first = ServerMessage::Joined {
                id: wish.id,
                room: wish.room.to_owned(),
                user: who.user.clone(),
                seat,
                from: caught_up.base.clone(),
                recovered,
                state,
                present,
                token: token.clone(),
            };
            let view = self.view(&room.name);
            if room.go_live(talk.connection.id(), &first, &caught_up, &view) {
                match recovered {
                    Recovered::Fresh => {}
                    Recovered::Recovered { .. } => RESUMED.add_for(Outcome::Recovered, 1),
                    Recovered::NotRecovered { .. } => RESUMED.add_for(Outcome::NotRecovered, 1),
                }
                return Ok(());
            }
            // The stream may have begun anew; then this node must hear of it first.
            if self.pump(room).await.is_err() {
                break;
            }
        }
        Err(Denied::new(Code::Unavailable, "the room is too busy, try again"))
    }

    /// Reads everything behind what the client saw, or the state and everything behind that.
    async fn catch_up(
        &self,
        room: &Room,
        who: &Identity,
        wish: &Wish<'_>,
    ) -> Result<(CaughtUp, Recovered, Option<serde_json::Value>), Denied> {
        let unavailable = |_| Denied::new(Code::Unavailable, "the history cannot be read now");
        let limit = usize::try_from(self.0.options.replay).unwrap_or(usize::MAX);
        let mut recovered = Recovered::Fresh;
        if let Some(seen) = &wish.from {
            let read = self.0.history.read(&room.name, seen.offset, limit).await;
            let window = read.map_err(unavailable)?;
            match window.decide(seen, self.0.options.replay) {
                Recovery::Recovered { from, to } => {
                    let base = Place { epoch: window.epoch, offset: seen.offset };
                    let count = (to + 1).saturating_sub(from);
                    let caught_up = CaughtUp { base, entries: window.entries };
                    return Ok((caught_up, Recovered::Recovered { count }, None));
                }
                Recovery::NotRecovered(reason) => {
                    recovered = Recovered::NotRecovered { reason: reason.into() };
                }
            }
        }
        let state = self.ask(self.0.handler.state(who, &room.name)).await?;
        let Some(state) = state else {
            let window = self.0.history.read(&room.name, 0, 0).await.map_err(unavailable)?;
            let base = Place { epoch: window.epoch, offset: window.last };
            return Ok((CaughtUp { base, entries: Vec::new() }, recovered, None));
        };
        let read = self.0.history.read(&room.name, state.offset, limit).await;
        let window = read.map_err(unavailable)?;
        let seen = Place { epoch: window.epoch.clone(), offset: state.offset };
        match window.decide(&seen, self.0.options.replay) {
            Recovery::Recovered { .. } => {
                let caught_up = CaughtUp { base: seen, entries: window.entries };
                Ok((caught_up, recovered, Some(state.data)))
            }
            Recovery::NotRecovered(_) => {
                Err(Denied::new(Code::Unavailable, "the state is behind the history, try again"))
            }
        }
    }

    /// Takes a connection out of a room: for good if it left, else its user is expected back.
    pub(super) async fn withdraw(&self, room: &Room, connection: &Connection, is_leaving: bool) {
        let now = self.0.hub.clock.now();
        let change = {
            let mut inside = room.inside();
            let Some(link) = inside.links.remove(&connection.id()) else { return };
            let change = if is_leaving {
                inside.presence.leave(&link.user)
            } else {
                inside.presence.lose(&link.user, now)
            };
            if change == Change::Left {
                inside.seats.leave(&link.user);
                inside.synced.forget(&link.user);
            }
            if inside.is_empty() {
                inside.empty_since = Some(now);
            }
            (link.user, change)
        };
        self.tell_change(room, &change.0, change.1, Some(connection)).await;
    }

    /// Tells the members, and the application, what changed.
    pub(super) async fn tell_change(
        &self,
        room: &Room,
        user: &str,
        change: Change,
        by: Option<&Connection>,
    ) {
        let presence = |joined, left| ServerMessage::Presence {
            room: room.name.as_ref().to_owned(),
            joined,
            left,
        };
        let except = by.map(Connection::id);
        let life = match change {
            Change::None => return,
            Change::Dropped => Life::Dropped(user.to_owned()),
            Change::Returned => Life::Returned(user.to_owned()),
            Change::Joined => {
                let one = {
                    let inside = room.inside();
                    inside.one_present(user, inside.presence.connections(user).unwrap_or(0))
                };
                room.tell(presence(vec![one], Vec::new()), Class::Durable, except);
                Life::Joined(user.to_owned())
            }
            Change::Left => {
                let left = vec![user.to_owned()];
                room.tell(presence(Vec::new(), left), Class::Durable, except);
                Life::Left(user.to_owned())
            }
        };
        self.0.handler.happened(&room.name, life).await;
    }

    /// Closes the sockets that a client which came back has left behind in a room.
    pub(super) async fn replace_stale(&self, room: &str, fresh: &Connection, who: &Identity) {
        let Some(room) = self.find(room) else { return };
        let stale: Vec<Connection> = {
            let inside = room.inside();
            let of_user = inside.links.values().filter(|link| link.user.as_ref() == who.user);
            let others = of_user.map(|link| &link.connection).filter(|one| one.id() != fresh.id());
            others.filter(|one| one.session() == who.session.as_deref()).cloned().collect()
        };
        for connection in stale {
            self.withdraw(&room, &connection, false).await;
            connection.shed(Close::REPLACED);
        }
    }

    pub(super) async fn issue(&self, who: &Identity, room: &str) -> infra_core::Result<String> {
        let session = who.session.as_deref();
        self.0.tokens.issue(&who.user, room, session, self.0.options.token).await
    }
}

fn check_name(room: &str) -> Result<(), Denied> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if room.is_empty() || MAX_NAME < room.len() || !room.bytes().all(is_plain) {
        return Err(Denied::new(Code::NotFound, "there is no such room"));
    }
    Ok(())
}
