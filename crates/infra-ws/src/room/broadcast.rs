//! Saying something that has no place in a stream: to rooms, users, connections or everybody.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{handler::RoomHandler, server::RoomServer, synced::codec_of};
use crate::{
    connection::{Connection, ConnectionId},
    frame::Class,
    lanes::Priority,
    post::Fanout,
    wire::{Encoded, ServerMessage},
};

/// How many queues took a message. Whether it was written to sockets, the ledger says later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sent {
    /// Queues that took it.
    pub queued: usize,
    /// Queues that did not, by its class, or because the connection is ending.
    pub refused: usize,
}

/// A message and whom it is for; each connection gets it once, however often it is named.
#[derive(Debug)]
pub struct Broadcast<'a, H> {
    server: &'a RoomServer<H>,
    room: Option<&'a str>,
    to: BTreeMap<ConnectionId, Connection>,
    class: Class,
    priority: Priority,
}

impl<H: RoomHandler> RoomServer<H> {
    /// Begins a message to nobody yet.
    pub const fn broadcast(&self) -> Broadcast<'_, H> {
        Broadcast {
            server: self,
            room: None,
            to: BTreeMap::new(),
            class: Class::Ephemeral,
            priority: Priority::Normal,
        }
    }
}

impl<'a, H: RoomHandler> Broadcast<'a, H> {
    /// Adds the members of a room; the message names the room that was added last.
    #[must_use]
    pub fn room(mut self, room: &'a str) -> Self {
        self.room = Some(room);
        if let Some(found) = self.server.find(room) {
            let inside = found.inside();
            self.to.extend(inside.links.iter().map(|(id, link)| (*id, link.connection.clone())));
        }
        self
    }

    /// Adds all connections of a user.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        let connections = self.server.0.hub.of_user(user);
        self.to.extend(connections.into_iter().map(|connection| (connection.id(), connection)));
        self
    }

    /// Adds a connection.
    #[must_use]
    pub fn connection(mut self, id: ConnectionId) -> Self {
        self.to.extend(self.server.0.hub.get(id).map(|connection| (id, connection)));
        self
    }

    /// Adds every connection of the hub.
    #[must_use]
    pub fn everybody(mut self) -> Self {
        let connections = self.server.0.hub.connections();
        self.to.extend(connections.into_iter().map(|connection| (connection.id(), connection)));
        self
    }

    /// Takes a connection out again.
    #[must_use]
    pub fn except(mut self, id: ConnectionId) -> Self {
        self.to.remove(&id);
        self
    }

    /// Takes all connections of a user out again.
    #[must_use]
    pub fn except_user(mut self, user: &str) -> Self {
        self.to.retain(|_, connection| connection.user() != Some(user));
        self
    }

    /// Sets what happens where a queue is full; the oldest ephemeral gives way by default.
    #[must_use]
    pub const fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// Sets how urgent it is.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sends it; encoded once per codec, waiting for nobody.
    pub fn send(self, data: Value) -> Sent {
        let room = self.room.map(ToOwned::to_owned);
        let account = self.room.and_then(|room| self.server.find(room));
        let account = account.as_ref().map(|room| &room.account);
        let encoded = Encoded::new(ServerMessage::Message { room, data });
        let (mut sent, mut fanout) = (Sent::default(), Fanout::new(self.class, account));
        for connection in self.to.into_values() {
            let frame = encoded.frame(codec_of(&connection));
            let post = fanout.post(frame);
            let taken = connection.offer_post(post, self.priority, &mut fanout.advance);
            match taken {
                Ok(()) => sent.queued += 1,
                Err(_) => sent.refused += 1,
            }
        }
        sent
    }
}
