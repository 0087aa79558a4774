//! The rooms of a process, and how events get into their streams and to their members.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use infra_core::{Error, ErrorKind, Result, random::Random};
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    cluster::{Node, Speaking},
    handler::{Denied, Life, RoomHandler, Sight},
    line::{Line, Step},
    options::RoomOptions,
    state::Room,
    tokens::TokenBook,
};
use crate::{
    connection::ConnectionId,
    history::{Entry, History, Place},
    hub::Hub,
    ledger::Ledger,
    telemetry::PUBLISHED,
    wire::{Cause, Code, Present},
};

/// How many events are read of a history at once.
const PAGE: usize = 256;

/// A server of rooms; cheap to clone.
///
/// ```
/// use std::sync::Arc;
/// use async_trait::async_trait;
/// use infra_core::{SystemClock, lifecycle::Shutdown};
/// use infra_ws::{
///     Facts, Hub, Options, OriginPolicy,
///     history::{Bounds, MemoryHistory},
///     room::{Denied, Identity, Published, Role, RoomHandler, RoomOptions, RoomServer, TokenBook},
///     token::KeyRing,
/// };
///
/// /// Everybody may say anything; a name is all it takes.
/// #[derive(Debug)]
/// struct Chat;
///
/// #[async_trait]
/// impl RoomHandler for Chat {
///     async fn authenticate(&self, token: &str, _: &Facts) -> Result<Identity, Denied> {
///         Ok(Identity::user(token))
///     }
///     async fn may_enter(&self, _: &Identity, _: &str) -> Result<Role, Denied> {
///         Ok(Role::Spectator)
///     }
///     async fn publish(
///         &self, _: &Identity, _: &str, data: serde_json::Value,
///     ) -> Result<Published, Denied> {
///         Ok(Published::Event(data))
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let (clock, shutdown) = (SystemClock::shared(), Shutdown::new());
/// let hub = Hub::new(Options::new(OriginPolicy::same_host()), Arc::clone(&clock), shutdown);
/// let history = Arc::new(MemoryHistory::new(Bounds::new(), Arc::clone(&clock)));
/// let tokens = TokenBook::in_memory(KeyRing::generate()?, clock);
/// let rooms = RoomServer::new(hub, Chat, history, tokens, RoomOptions::new());
/// let place = rooms.publish("lobby", &serde_json::json!("hello")).await?;
/// assert_eq!(place.offset, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct RoomServer<H>(pub(super) Arc<Inner<H>>);

#[derive(Debug)]
pub(super) struct Inner<H> {
    pub(super) hub: Arc<Hub>,
    pub(super) handler: H,
    pub(super) history: Arc<dyn History>,
    pub(super) tokens: TokenBook,
    pub(super) options: RoomOptions,
    pub(super) node: Node,
    pub(super) bus: OnceLock<Arc<Speaking>>,
    rooms: Mutex<HashMap<Arc<str>, Arc<Room>>>,
}

impl<H> Clone for RoomServer<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H: fmt::Debug> fmt::Debug for RoomServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<H: RoomHandler> RoomServer<H> {
    /// Creates a server without rooms. Its upkeep runs as a task of the hub's shutdown.
    pub fn new(
        hub: Arc<Hub>,
        handler: H,
        history: Arc<dyn History>,
        tokens: TokenBook,
        options: RoomOptions,
    ) -> Self {
        let node = Node(Random::from_system().next_u64());
        let server = Self(Arc::new(Inner {
            node,
            hub,
            handler,
            history,
            tokens,
            options,
            bus: OnceLock::new(),
            rooms: Mutex::default(),
        }));
        server.start_upkeep();
        server
    }

    /// Returns what the application says.
    pub fn handler(&self) -> &H {
        &self.0.handler
    }

    /// Returns the names of the rooms that are open here.
    pub fn rooms(&self) -> Vec<String> {
        self.0.rooms.lock().keys().map(|name| name.as_ref().to_owned()).collect()
    }

    /// Returns who is in a room here.
    pub fn present(&self, room: &str) -> Vec<Present> {
        self.find(room).map_or_else(Vec::new, |room| room.inside().present())
    }

    /// Returns the connections that are in a room here.
    pub fn members(&self, room: &str) -> Vec<ConnectionId> {
        self.find(room).map_or_else(Vec::new, |room| room.inside().links.keys().copied().collect())
    }

    /// Returns what became of everything that was sent to a room's members as such.
    pub fn ledger(&self, room: &str) -> Ledger {
        self.find(room).map_or_else(Ledger::default, |room| room.account.ledger())
    }

    /// Lets nobody enter any more who is not in the room already; returns false if there is none.
    pub fn lock(&self, room: &str) -> bool {
        self.find(room).map(|room| room.inside().is_locked = true).is_some()
    }

    /// Lets others enter again; returns false if there is no such room.
    pub fn unlock(&self, room: &str) -> bool {
        self.find(room).map(|room| room.inside().is_locked = false).is_some()
    }

    /// Keeps a seat of a room for a user, opening the room if it is not.
    ///
    /// # Errors
    ///
    /// What the history fails with; inside, that all seats are taken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future reserves nothing.
    pub async fn reserve(
        &self,
        room: &str,
        user: &str,
        hold: std::time::Duration,
    ) -> Result<Result<u32, super::seats::SeatRefused>> {
        let room = self.open(room).await?;
        let now = self.0.hub.clock.now();
        Ok(room.inside().seats.reserve(user, hold, now))
    }

    /// Appends an event to the stream of a room and hands it to its members, here and, over the
    /// cluster's bus, elsewhere.
    ///
    /// # Errors
    ///
    /// What the history fails with; then nobody heard of it, unless it is
    /// [`Indeterminate`](ErrorKind::Indeterminate).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the event published or not; members hear of one that was at the
    /// next event or check, at the latest.
    pub async fn publish(&self, room: &str, data: &Value) -> Result<Place> {
        let body = serde_json::to_vec(data).map(Bytes::from).unwrap_or_default();
        let place = self.0.history.append(room, body.clone()).await?;
        PUBLISHED.add(1);
        let entry = Entry { offset: place.offset, body };
        self.arrived(room, &place.epoch, &entry).await?;
        self.announce(room, &place, entry.body).await;
        Ok(place)
    }

    /// Sets what everybody in a room sees; changes within one tick are sent as one.
    ///
    /// # Errors
    ///
    /// What the history fails with when the room is opened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future sets nothing.
    pub async fn set_state(&self, room: &str, state: Value) -> Result<()> {
        self.open(room).await?.inside().synced.set_shared(state);
        Ok(())
    }

    /// Sets what one user in a room sees besides.
    ///
    /// # Errors
    ///
    /// As for [`set_state`](Self::set_state).
    ///
    /// # Cancel safety
    ///
    /// As for [`set_state`](Self::set_state).
    pub async fn set_own_state(&self, room: &str, user: &str, state: Value) -> Result<()> {
        self.open(room).await?.inside().synced.set_own(user, state);
        Ok(())
    }

    /// Hands an event to the members here; reads the history if others come before it.
    pub(super) async fn arrived(&self, room: &str, epoch: &str, entry: &Entry) -> Result<()> {
        let Some(room) = self.find(room) else { return Ok(()) };
        match room.hand_out(epoch, entry, &self.view(&room.name), self.0.options.held_back) {
            Step::Next | Step::Old => Ok(()),
            Step::Hole | Step::Anew => self.pump(&room).await,
        }
    }

    /// Hands out whatever the history has beyond what was handed out.
    pub(super) async fn pump(&self, room: &Room) -> Result<()> {
        loop {
            let line = room.inside().line.clone();
            let window = self.0.history.read(&room.name, line.head, PAGE).await?;
            let place = || Place { epoch: window.epoch.clone(), offset: window.last };
            if window.epoch != line.epoch && !line.epoch.is_empty() {
                room.lose(place(), Cause::EpochChanged);
                return Ok(());
            }
            if window.last <= line.head {
                return Ok(());
            }
            if window.entries.is_empty() {
                room.lose(place(), Cause::TooOld);
                return Ok(());
            }
            let view = self.view(&room.name);
            for entry in &window.entries {
                room.hand_out(&window.epoch, entry, &view, self.0.options.held_back);
            }
        }
    }

    pub(super) fn view(&self, room: &Arc<str>) -> impl Fn(&Value, &str) -> Sight + use<'_, H> {
        let room = Arc::clone(room);
        move |event, user| self.0.handler.view(&room, event, user)
    }

    pub(super) fn find(&self, room: &str) -> Option<Arc<Room>> {
        self.0.rooms.lock().get(room).cloned()
    }

    pub(super) fn all_rooms(&self) -> Vec<Arc<Room>> {
        self.0.rooms.lock().values().cloned().collect()
    }

    /// Returns a room, opening it if it is not.
    pub(super) async fn open(&self, name: &str) -> Result<Arc<Room>> {
        if let Some(room) = self.find(name) {
            return Ok(room);
        }
        if self.0.options.rooms <= self.0.rooms.lock().len() {
            return Err(Error::new(ErrorKind::Overloaded, "open room"));
        }
        let window = self.0.history.read(name, 0, 0).await?;
        let line = Line { epoch: window.epoch, head: window.last };
        let fresh = Room::new(name, line, self.0.options.seats, self.0.hub.clock.now());
        let (room, is_first) = {
            let mut rooms = self.0.rooms.lock();
            let is_first = !rooms.contains_key(name);
            let room = rooms.entry(Arc::clone(&fresh.name)).or_insert(fresh);
            (Arc::clone(room), is_first)
        };
        if is_first {
            self.0.handler.happened(name, Life::Created).await;
        }
        Ok(room)
    }

    /// Takes a room out of the list if nobody is in it.
    pub(super) fn dispose(&self, room: &Room) -> bool {
        let mut rooms = self.0.rooms.lock();
        let mut inside = room.inside();
        if !inside.is_empty() || inside.is_disposed {
            return false;
        }
        inside.is_disposed = true;
        rooms.remove(&room.name);
        true
    }

    /// Waits for the application's answer; too late is no.
    pub(super) async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<T, Denied>>,
    ) -> Result<T, Denied> {
        let late = || Denied::new(Code::Unavailable, "no answer in time");
        tokio::time::timeout(self.0.options.handler, answer).await.unwrap_or_else(|_| Err(late()))
    }
}
