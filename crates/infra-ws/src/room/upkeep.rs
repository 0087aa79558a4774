//! What a server of rooms does by itself: ticks of state, checks, fresh tokens, ends; and drains.

use std::{sync::Weak, time::Duration};

use infra_core::clock::Instant;

use super::{
    handler::{Identity, Life, RoomHandler},
    presence::Change,
    server::{Inner, RoomServer},
    state::{Flow, Room},
};
use crate::{
    close::Close,
    frame::Class,
    history::Place,
    hub::Drained,
    wire::{Encoded, ServerMessage},
};

impl<H: RoomHandler> RoomServer<H> {
    pub(super) fn start_upkeep(&self) {
        let (weak, stop) = (std::sync::Arc::downgrade(&self.0), self.0.hub.shutdown.stop());
        let tick = self.0.options.tick;
        self.0.hub.shutdown.spawn(async move {
            tokio::select! {
                () = keep_up(weak, tick) => {}
                () = stop.requested() => {}
            }
        });
    }

    /// Ends a tick: whoever follows a room's state is brought up to date.
    fn tick(&self) {
        for room in self.all_rooms() {
            let mut inside = room.inside();
            let inside = &mut *inside;
            inside.synced.tick(&room.name, &mut inside.links);
        }
    }

    /// Looks after the rooms' members and ends.
    async fn look_after(&self) {
        let now = self.0.hub.clock.now();
        for room in self.all_rooms() {
            let over = self.give_up(&room, now);
            for user in over {
                self.tell_change(&room, &user, Change::Left, None).await;
            }
            self.renew_tokens(&room, now).await;
            let since = room.inside().empty_since;
            let is_over = since.is_some_and(|since| self.0.options.linger <= now.since(since));
            if is_over && self.dispose(&room) {
                self.0.handler.happened(&room.name, Life::Disposed).await;
            }
        }
    }

    fn give_up(&self, room: &Room, now: Instant) -> Vec<String> {
        let mut inside = room.inside();
        let over = inside.presence.give_up(now, self.0.options.grace);
        for user in &over {
            inside.seats.leave(user);
            inside.synced.forget(user);
        }
        if inside.is_empty() {
            inside.empty_since.get_or_insert(now);
        }
        over
    }

    /// Sends a fresh token to each member whose own is half spent.
    async fn renew_tokens(&self, room: &Room, now: Instant) {
        let due: Vec<_> = {
            let mut inside = room.inside();
            let links = inside.links.values_mut().filter(|link| link.token_due <= now);
            links
                .map(|link| {
                    link.token_due = now + self.0.options.token / 2;
                    link.connection.clone()
                })
                .collect()
        };
        for connection in due {
            self.send_token(room, &connection).await;
        }
    }

    async fn send_token(&self, room: &Room, connection: &crate::connection::Connection) {
        let Some(user) = connection.user() else { return };
        let mut who = Identity::user(user);
        who.session = connection.session().map(ToOwned::to_owned);
        let Ok(token) = self.issue(&who, &room.name).await else { return };
        let message =
            Encoded::new(ServerMessage::Token { room: room.name.as_ref().to_owned(), token });
        if let Some(link) = room.inside().links.get(&connection.id()) {
            link.send(room, &message, Class::Durable);
        }
    }

    /// Compares every room with the history, and tells the members how far the stream is.
    pub(super) async fn check_all(&self) {
        for room in self.all_rooms() {
            if let Err(error) = self.pump(&room).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "history failed");
            }
            let inside = room.inside();
            let place = Place { epoch: inside.line.epoch.clone(), offset: inside.line.head };
            let room_name = room.name.as_ref().to_owned();
            let position = Encoded::new(ServerMessage::Position { room: room_name, place });
            for link in inside.links.values() {
                if matches!(link.flow, Flow::Live { .. }) {
                    link.send(&room, &position, Class::IfRoom);
                }
            }
        }
    }

    /// Refuses newcomers, gives every member fresh resume tokens and a time to come back, and
    /// closes everybody with 1012, each at a random moment of `spread`; waits up to `grace`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the hub draining, with some connections not asked yet.
    pub async fn drain(&self, spread: Duration, grace: Duration, retry_after: Duration) -> Drained {
        self.0.hub.begin_drain();
        for room in self.all_rooms() {
            let members: Vec<_> =
                room.inside().links.values().map(|link| link.connection.clone()).collect();
            for connection in members {
                self.send_token(&room, &connection).await;
            }
        }
        let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        let goodbye = |connection: &crate::connection::Connection| {
            let message = ServerMessage::Goodbye { retry_after_ms };
            let codec = super::synced::codec_of(connection);
            connection.send(codec.encode(&message), Class::Durable);
        };
        self.0.hub.drain(Close::RESTART, spread, grace, goodbye).await
    }
}

/// Works until the server is gone.
async fn keep_up<H: RoomHandler>(server: Weak<Inner<H>>, tick: Duration) {
    let mut ticks = tokio::time::interval(tick);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut since_look, mut since_check) = (Duration::ZERO, Duration::ZERO);
    loop {
        ticks.tick().await;
        let Some(server) = server.upgrade().map(RoomServer) else { return };
        server.tick();
        since_look += tick;
        since_check += tick;
        // Often enough for the shortest of the times that are kept here.
        let look =
            server.0.options.grace.min(server.0.options.linger).min(server.0.options.token) / 4;
        if look.min(Duration::from_secs(1)) <= since_look {
            since_look = Duration::ZERO;
            server.look_after().await;
        }
        if server.0.options.check <= since_check {
            since_check = Duration::ZERO;
            server.check_all().await;
        }
    }
}
