//! The conversation with one client.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use infra_core::{
    context::Context,
    trace::{TraceContext, TraceState},
};
use serde_json::Value;

use super::{
    entering::Wish,
    handler::{Denied, Identity, Published, RoomHandler},
    server::RoomServer,
    state::Flow,
    synced::{Following, codec_of},
};
use crate::{
    app::{App, Inbound},
    close::Close,
    connection::Connection,
    frame::Class,
    history::Place,
    index::NotIdentified,
    wire::{ClientMessage, Code, Codec, ServerMessage},
};

/// What the server keeps of one conversation.
#[derive(Debug)]
pub struct Talk {
    pub(super) connection: Connection,
    pub(super) rooms: BTreeSet<Arc<str>>,
    codec: Codec,
    who: Option<Identity>,
    /// Resume tokens that were refused.
    refused: u32,
}

/// How a message is answered: with these words, or with the end.
enum Answer {
    Nothing,
    Say(ServerMessage),
    Refuse(Denied),
    Close(Close),
}

impl Talk {
    /// Returns who the client is.
    pub(super) fn who(&self) -> Result<&Identity, Denied> {
        self.who.as_ref().ok_or_else(|| Denied::new(Code::Unauthenticated, "connect first"))
    }

    /// Returns who the client is, if it is in that room.
    fn in_room(&self, room: &str) -> Result<&Identity, Denied> {
        let who = self.who()?;
        if !self.rooms.contains(room) {
            return Err(Denied::new(Code::NotInRoom, "this connection is not in that room"));
        }
        Ok(who)
    }

    fn say(&self, message: &ServerMessage) {
        self.connection.send(self.codec.encode(message), Class::Durable);
    }

    /// Notes who the client is; it never becomes another.
    fn identify(&mut self, who: Identity) -> Result<(), Denied> {
        let identified = self.connection.identify(&who.user);
        identified.map_err(|refused| match refused {
            NotIdentified::Other => Denied::new(Code::Denied, "this connection is another user's"),
            NotIdentified::TooMany => Denied::new(Code::TooMany, "too many connections"),
            NotIdentified::Ended => Denied::new(Code::Unavailable, "the connection has ended"),
        })?;
        if let Some(session) = &who.session {
            self.connection.set_session(session);
        }
        if let Some(moment) = who.good_until {
            self.connection.good_until(moment);
        }
        self.who = Some(who);
        Ok(())
    }
}

#[async_trait]
impl<H: RoomHandler> App for RoomServer<H> {
    type Session = Talk;

    async fn open(&self, connection: Connection) -> Result<Talk, Close> {
        let codec = codec_of(&connection);
        Ok(Talk { connection, rooms: BTreeSet::new(), codec, who: None, refused: 0 })
    }

    async fn message(&self, session: &mut Talk, message: Inbound) -> Result<(), Close> {
        let Ok(message) = session.codec.decode::<ClientMessage>(&message) else {
            session.say(&error(None, Denied::new(Code::InvalidMessage, "not of the protocol")));
            return Ok(());
        };
        let id = id_of(&message);
        match self.answer(session, message).await {
            Answer::Nothing => Ok(()),
            Answer::Say(message) => {
                session.say(&message);
                Ok(())
            }
            Answer::Refuse(denied) => {
                session.say(&error(id, denied));
                Ok(())
            }
            Answer::Close(close) => Err(close),
        }
    }

    async fn closed(&self, session: Talk) {
        for room in &session.rooms {
            if let Some(room) = self.find(room) {
                self.withdraw(&room, &session.connection, false).await;
            }
        }
    }
}

impl<H: RoomHandler> RoomServer<H> {
    async fn answer(&self, talk: &mut Talk, message: ClientMessage) -> Answer {
        let answered = match message {
            ClientMessage::Connect { token } => return self.connect(talk, token).await,
            ClientMessage::Resume { id, token, from } => {
                return self.resume(talk, (id, token), from).await;
            }
            ClientMessage::Refresh { id, token } => return self.refresh(talk, id, &token).await,
            ClientMessage::Join { id, room, seat, from } => {
                self.enter(talk, Wish { id, room: &room, seat, from }).await.map(|()| None)
            }
            ClientMessage::Leave { id, room } => self.leave(talk, id, &room).await.map(Some),
            ClientMessage::Publish { id, room, data, trace } => {
                traced(trace, self.say_to(talk, id, (&room, data))).await.map(Some)
            }
            ClientMessage::Request { id, room, method, data, trace } => {
                let asked = self.request(talk, id, (room.as_deref(), &method, data));
                traced(trace, asked).await.map(Some)
            }
            ClientMessage::Sync { room, version } => {
                self.follow(talk, &room, version).map(|()| None)
            }
            ClientMessage::Ping => Ok(Some(ServerMessage::Pong)),
        };
        match answered {
            Ok(Some(message)) => Answer::Say(message),
            Ok(None) => Answer::Nothing,
            Err(denied) => Answer::Refuse(denied),
        }
    }

    async fn connect(&self, talk: &mut Talk, token: Option<String>) -> Answer {
        let offered = talk.connection.facts().token().map(ToOwned::to_owned);
        // Without a token the client means to resume; until then it may do nothing.
        let Some(token) = token.or(offered) else { return Answer::Nothing };
        let facts = talk.connection.facts().clone();
        let identified = match self.ask(self.0.handler.authenticate(&token, &facts)).await {
            Ok(who) => talk.identify(who),
            Err(denied) => Err(denied),
        };
        match (identified, &talk.who) {
            (Ok(()), Some(who)) => Answer::Say(ServerMessage::Connected {
                connection: talk.connection.id().number(),
                user: who.user.clone(),
                expires_ms: who.good_until.map(infra_core::clock::Timestamp::as_millis),
                heartbeat_ms: millis(self.0.hub.options.heartbeat),
            }),
            (Ok(()), None) => Answer::Close(Close::DENIED),
            (Err(denied), _) => {
                talk.say(&error(None, denied));
                Answer::Close(Close::DENIED)
            }
        }
    }

    async fn refresh(&self, talk: &mut Talk, id: u64, token: &str) -> Answer {
        let user = match talk.who() {
            Ok(who) => who.user.clone(),
            Err(denied) => return Answer::Refuse(denied),
        };
        let facts = talk.connection.facts().clone();
        let who = match self.ask(self.0.handler.authenticate(token, &facts)).await {
            Ok(who) if who.user == user => who,
            Ok(_) => return Answer::Refuse(Denied::new(Code::Denied, "the token is another's")),
            Err(denied) => return Answer::Refuse(denied),
        };
        let expires_ms = who.good_until.map(infra_core::clock::Timestamp::as_millis);
        match talk.identify(who) {
            Ok(()) => Answer::Say(ServerMessage::Refreshed { id, expires_ms }),
            Err(denied) => Answer::Refuse(denied),
        }
    }

    async fn resume(
        &self,
        talk: &mut Talk,
        (id, token): (u64, String),
        from: Option<Place>,
    ) -> Answer {
        let claims = match self.0.tokens.take(&token).await {
            Ok(Ok(claims)) => claims,
            Ok(Err(refused)) => {
                talk.refused += 1;
                talk.say(&error(Some(id), Denied::new(Code::BadToken, refused.to_string())));
                let is_too_many = self.0.options.attempts <= talk.refused;
                return if is_too_many { Answer::Close(Close::DENIED) } else { Answer::Nothing };
            }
            Err(_) => {
                let why = "tokens cannot be checked now";
                return Answer::Refuse(Denied::new(Code::Unavailable, why));
            }
        };
        let bearer = Identity { user: claims.user, session: claims.session, good_until: None };
        if talk.who.is_none() {
            // A connection lives on a resume token no longer than the token itself; a refresh,
            // which authenticates, moves that.
            let bearer = bearer.clone().good_until(claims.expires);
            if let Err(denied) = talk.identify(bearer) {
                return Answer::Refuse(denied);
            }
        }
        if talk.who.as_ref().is_none_or(|who| who.user != bearer.user) {
            let why = "the token is another's";
            return Answer::Refuse(Denied::new(Code::BadToken, why));
        }
        self.replace_stale(&claims.room, &talk.connection, &bearer).await;
        match self.enter(talk, Wish { id, room: &claims.room, seat: None, from }).await {
            Ok(()) => Answer::Nothing,
            Err(denied) => Answer::Refuse(denied),
        }
    }

    async fn leave(&self, talk: &mut Talk, id: u64, room: &str) -> Result<ServerMessage, Denied> {
        talk.in_room(room)?;
        if let Some(found) = self.find(room) {
            self.withdraw(&found, &talk.connection, true).await;
        }
        talk.rooms.remove(room);
        Ok(ServerMessage::Ack { id, place: None })
    }

    async fn say_to(
        &self,
        talk: &Talk,
        id: u64,
        (room, data): (&str, Value),
    ) -> Result<ServerMessage, Denied> {
        let who = talk.in_room(room)?;
        let place = match self.ask(self.0.handler.publish(who, room, data)).await? {
            Published::Event(event) => {
                let failed = |error: infra_core::Error| {
                    tracing::warn!(error = &error as &dyn std::error::Error, "publish failed");
                    Denied::new(Code::Unavailable, "it cannot be kept now")
                };
                Some(self.publish(room, &event).await.map_err(failed)?)
            }
            Published::Passing(message) => {
                self.say(room, message).await;
                None
            }
            Published::Silently => None,
        };
        Ok(ServerMessage::Ack { id, place })
    }

    async fn request(
        &self,
        talk: &Talk,
        id: u64,
        (room, method, data): (Option<&str>, &str, Value),
    ) -> Result<ServerMessage, Denied> {
        let who = match room {
            Some(room) => talk.in_room(room)?,
            None => talk.who()?,
        };
        let data = self.ask(self.0.handler.request(who, room, method, data)).await?;
        Ok(ServerMessage::Reply { id, data })
    }

    fn follow(&self, talk: &Talk, room: &str, version: Option<u64>) -> Result<(), Denied> {
        talk.in_room(room)?;
        let found = self.find(room);
        let found = found.ok_or_else(|| Denied::new(Code::NotFound, "there is no such room"))?;
        let mut inside = found.inside();
        if let Some(link) = inside.links.get_mut(&talk.connection.id())
            && !matches!(link.flow, Flow::Lost)
        {
            // What it has of its own part it does not say; that is sent whole.
            link.following = Some(Following { shared: version, own: None });
        }
        drop(inside);
        Ok(())
    }
}

async fn traced<F: Future>(trace: Option<TraceContext>, work: F) -> F::Output {
    match trace {
        // What the handshake's trace had beside it is not this one's.
        Some(trace) => {
            let context = Context::current().trace(trace).trace_state(TraceState::default());
            context.scope(work).await
        }
        None => work.await,
    }
}

fn error(id: Option<u64>, denied: Denied) -> ServerMessage {
    let Denied { code, message } = denied;
    ServerMessage::Error { id, code, message: message.into_owned(), retry_after_ms: None }
}

const fn id_of(message: &ClientMessage) -> Option<u64> {
    match message {
        ClientMessage::Refresh { id, .. }
        | ClientMessage::Join { id, .. }
        | ClientMessage::Resume { id, .. }
        | ClientMessage::Leave { id, .. }
        | ClientMessage::Publish { id, .. }
        | ClientMessage::Request { id, .. } => Some(*id),
        ClientMessage::Connect { .. } | ClientMessage::Sync { .. } | ClientMessage::Ping => None,
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
