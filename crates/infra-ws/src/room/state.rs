//! A room on this node: its members and how far each was told.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use infra_core::clock::Instant;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

use super::{
    handler::Sight,
    line::{Line, Step},
    presence::Presence,
    seats::Seats,
    synced::{Following, Synced},
};
use crate::{
    budget::Advance,
    connection::{Connection, ConnectionId},
    frame::Class,
    history::{Entry, Place},
    lanes::Priority,
    ledger::Account,
    post::{Fanout, Post},
    telemetry::ROOMS,
    wire::{Cause, Codec, Encoded, Event, Present, ServerMessage},
};

/// How a user sees an event.
pub(super) type View<'a> = &'a dyn Fn(&Value, &str) -> Sight;

/// The most events in one message.
const CHUNK: usize = 64;

/// A room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: Arc<str>,
    /// What became of everything that was sent to its members as such.
    pub(super) account: Arc<Account>,
    inside: Mutex<Inside>,
}

/// What changes in a room.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) line: Line,
    pub(super) links: HashMap<ConnectionId, Link>,
    pub(super) seats: Seats,
    pub(super) presence: Presence,
    pub(super) synced: Synced,
    pub(super) is_locked: bool,
    /// It is no longer in the list of rooms; who finds it looks again.
    pub(super) is_disposed: bool,
    /// Since when nobody is there.
    pub(super) empty_since: Option<Instant>,
}

/// A connection that is in a room.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) codec: Codec,
    pub(super) user: Arc<str>,
    pub(super) flow: Flow,
    pub(super) following: Option<Following>,
    /// When it gets a fresh resume token.
    pub(super) token_due: Instant,
}

/// How a link hears the stream.
#[derive(Debug)]
pub(super) enum Flow {
    /// What it missed is being read; what comes meanwhile is held back, up to a bound.
    Catching { held: VecDeque<(u64, Arc<Value>)>, is_overrun: bool },
    /// It was told everything up to here.
    Live { seen: u64 },
    /// It was told that it must join again.
    Lost,
}

/// What a link that was caught up is told first.
#[derive(Debug)]
pub(super) struct CaughtUp {
    /// The place behind which the events begin.
    pub(super) base: Place,
    pub(super) entries: Vec<Entry>,
}

impl Room {
    pub(super) fn new(name: &str, line: Line, seats: u32, now: Instant) -> Arc<Self> {
        ROOMS.add(1.0);
        Arc::new(Self {
            name: Arc::from(name),
            account: Arc::default(),
            inside: Mutex::new(Inside {
                line,
                links: HashMap::new(),
                seats: Seats::new(seats),
                presence: Presence::new(),
                synced: Synced::default(),
                is_locked: false,
                is_disposed: false,
                empty_since: Some(now),
            }),
        })
    }

    pub(super) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock()
    }

    /// Sends one message to all members but one; returns how many took it and how many did not.
    pub(super) fn tell(
        &self,
        message: ServerMessage,
        class: Class,
        except: Option<ConnectionId>,
    ) -> (usize, usize) {
        let (encoded, mut fanout) =
            (Encoded::new(message), Fanout::new(class, Some(&self.account)));
        let inside = self.inside();
        let links = inside.links.iter().filter(|(id, _)| Some(**id) != except);
        let (taken, refused): (Vec<_>, Vec<_>) = links
            .map(|(_, link)| link.send_of_many(&encoded, &mut fanout))
            .partition(|is_taken| *is_taken);
        (taken.len(), refused.len())
    }

    /// Hands an event to everybody if it is the next one.
    pub(super) fn hand_out(
        &self,
        epoch: &str,
        entry: &Entry,
        view: View<'_>,
        held_back: usize,
    ) -> Step {
        let mut inside = self.inside();
        let step = inside.line.step(epoch, entry.offset);
        if step != Step::Next {
            return step;
        }
        let Ok(data) = serde_json::from_slice::<Value>(&entry.body) else {
            tracing::error!(room = %self.name, offset = entry.offset, "event is not JSON");
            return step;
        };
        let data = Arc::new(data);
        let event = |data| {
            let events = vec![Event { offset: entry.offset, data }];
            Encoded::new(ServerMessage::Events {
                room: self.name.as_ref().to_owned(),
                epoch: epoch.to_owned(),
                events,
            })
        };
        let (mut full, mut hidden) = (None, None);
        let mut fanout = Fanout::new(Class::Durable, Some(&self.account));
        for link in inside.links.values_mut() {
            if link.holds_back(entry.offset, &data, held_back) {
                continue;
            }
            let encoded = match view(&data, &link.user) {
                Sight::Full => full.get_or_insert_with(|| event((*data).clone())),
                Sight::Hidden => hidden.get_or_insert_with(|| event(Value::Null)),
                Sight::Redacted(data) => &mut event(data),
            };
            link.send_of_many(encoded, &mut fanout);
        }
        step
    }

    /// Tells everybody that the stream cannot go on for them, and goes on at another place.
    pub(super) fn lose(&self, place: Place, reason: Cause) {
        let lost =
            Encoded::new(ServerMessage::Lost { room: self.name.as_ref().to_owned(), reason });
        let mut inside = self.inside();
        for link in inside.links.values_mut() {
            match &mut link.flow {
                Flow::Catching { is_overrun, .. } => *is_overrun = true,
                Flow::Live { .. } => {
                    link.flow = Flow::Lost;
                    link.send(self, &lost, Class::Durable);
                }
                Flow::Lost => {}
            }
        }
        inside.line = Line { epoch: place.epoch, head: place.offset };
    }

    /// Makes a link that was caught up a live one, behind `first` and what it missed.
    ///
    /// Returns false if that is not possible any more, and it must be caught up again.
    pub(super) fn go_live(
        &self,
        id: ConnectionId,
        first: &ServerMessage,
        caught_up: &CaughtUp,
        view: View<'_>,
    ) -> bool {
        let mut inside = self.inside();
        let epoch = inside.line.epoch.clone();
        let Some(link) = inside.links.get_mut(&id) else { return true };
        let Flow::Catching { held, is_overrun } = &mut link.flow else { return true };
        let CaughtUp { base, entries } = caught_up;
        // An empty epoch behind another one is a stream that is to begin anew.
        if *is_overrun || !(epoch.is_empty() || epoch == base.epoch) {
            held.clear();
            *is_overrun = false;
            return false;
        }
        let held = std::mem::take(held);
        let mut events = Vec::new();
        let mut seen = base.offset;
        let missed = entries.iter().filter_map(|entry| {
            let data = serde_json::from_slice(&entry.body).ok()?;
            Some((entry.offset, Arc::new(data)))
        });
        for (offset, data) in missed.chain(held) {
            if seen < offset {
                seen = offset;
                events.push(Event { offset, data: seen_by(view, &data, &link.user) });
            }
        }
        link.flow = Flow::Live { seen };
        link.send(self, &Encoded::new(first.clone()), Class::Durable);
        let epoch = if base.epoch.is_empty() { epoch } else { base.epoch.clone() };
        for chunk in events.chunks(CHUNK) {
            let message = ServerMessage::Events {
                room: self.name.as_ref().to_owned(),
                epoch: epoch.clone(),
                events: chunk.to_vec(),
            };
            link.send(self, &Encoded::new(message), Class::Durable);
        }
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        ROOMS.add(-1.0);
    }
}

impl Inside {
    /// Returns who is there.
    pub(super) fn present(&self) -> Vec<Present> {
        let users = self.presence.users();
        users.map(|(user, connections)| self.one_present(user, connections)).collect()
    }

    pub(super) fn one_present(&self, user: &str, connections: usize) -> Present {
        Present { user: user.to_owned(), seat: self.seats.of(user), connections }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty() && self.presence.is_empty()
    }
}

impl Link {
    pub(super) fn send(&self, room: &Room, encoded: &Encoded, class: Class) -> bool {
        let post = Post::new(encoded.frame(self.codec), class, Some(&room.account));
        self.connection.offer_post(post, Priority::Normal, &mut Advance::none()).is_ok()
    }

    fn send_of_many(&self, encoded: &Encoded, fanout: &mut Fanout<'_>) -> bool {
        let post = fanout.post(encoded.frame(self.codec));
        self.connection.offer_post(post, Priority::Normal, &mut fanout.advance).is_ok()
    }

    /// Returns whether an event is not to be sent now: it is held back, or it was seen.
    fn holds_back(&mut self, offset: u64, data: &Arc<Value>, most: usize) -> bool {
        match &mut self.flow {
            Flow::Lost => true,
            Flow::Live { seen } if offset <= *seen => true,
            Flow::Live { seen } => {
                *seen = offset;
                false
            }
            Flow::Catching { held, is_overrun } => {
                if most <= held.len() {
                    *is_overrun = true;
                }
                if !*is_overrun {
                    held.push_back((offset, Arc::clone(data)));
                }
                true
            }
        }
    }
}

fn seen_by(view: View<'_>, data: &Value, user: &str) -> Value {
    match view(data, user) {
        Sight::Full => data.clone(),
        Sight::Hidden => Value::Null,
        Sight::Redacted(data) => data,
    }
}
