//! The state of a room as its members follow it: one part for all, one for each.

use std::collections::HashMap;

use serde_json::Value;

use super::state::Link;
use crate::{
    connection::ConnectionId,
    frame::Class,
    lanes::Priority,
    sync::{Document, Update},
    wire::{Codec, Encoded, Part, ServerMessage},
};

/// What a link has of a room's state.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Following {
    pub(super) shared: Option<u64>,
    pub(super) own: Option<u64>,
}

/// The state of a room.
#[derive(Debug, Default)]
pub(super) struct Synced {
    shared: Option<Document>,
    own: HashMap<String, Document>,
}

impl Synced {
    pub(super) fn set_shared(&mut self, state: Value) {
        match &mut self.shared {
            Some(document) => document.set(state),
            None => self.shared = Some(Document::new(state)),
        }
    }

    pub(super) fn set_own(&mut self, user: &str, state: Value) {
        match self.own.get_mut(user) {
            Some(document) => document.set(state),
            None => {
                self.own.insert(user.to_owned(), Document::new(state));
            }
        }
    }

    /// Forgets what only a user sees, once it has left.
    pub(super) fn forget(&mut self, user: &str) {
        self.own.remove(user);
    }

    /// Ends a tick and brings every follower up to date.
    pub(super) fn tick(&mut self, room: &str, links: &mut HashMap<ConnectionId, Link>) {
        if let Some(shared) = &mut self.shared {
            shared.tick();
        }
        self.own.values_mut().for_each(|document| {
            document.tick();
        });
        // Followers of one version share one encoding of their update.
        let mut encoded: HashMap<Option<u64>, Encoded> = HashMap::new();
        for link in links.values_mut() {
            self.bring_up(room, link, &mut encoded);
        }
    }

    fn bring_up(&self, room: &str, link: &mut Link, encoded: &mut HashMap<Option<u64>, Encoded>) {
        let Some(following) = link.following else { return };
        let mut now = following;
        if let Some(shared) = &self.shared
            && following.shared != Some(shared.version())
        {
            let update = encoded.entry(following.shared).or_insert_with(|| {
                Encoded::new(state(room, Part::Shared, shared.update_for(following.shared)))
            });
            if link.send_if_room(update.frame(link.codec)) {
                now.shared = Some(shared.version());
            }
        }
        if let Some(own) = self.own.get(link.user.as_ref())
            && following.own != Some(own.version())
        {
            let update = state(room, Part::Own, own.update_for(following.own));
            if link.send_if_room(link.codec.encode(&update)) {
                now.own = Some(own.version());
            }
        }
        link.following = Some(now);
    }
}

fn state(room: &str, part: Part, update: Update) -> ServerMessage {
    ServerMessage::State { room: room.to_owned(), part, update }
}

impl Link {
    /// Sends what may be left out: the next tick brings what this one could not.
    fn send_if_room(&self, frame: crate::frame::Frame) -> bool {
        self.connection.offer(frame, Class::IfRoom, Priority::Normal).is_ok()
    }
}

/// The codec that a connection agreed on.
pub(super) fn codec_of(connection: &crate::connection::Connection) -> Codec {
    Codec::of_protocol(connection.facts().protocol())
}
