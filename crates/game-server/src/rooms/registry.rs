//! Finds the rooms: those in memory, and those that only the event store remembers.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use infra_core::{
    Error, ErrorKind, Result,
    context::Context,
    lifecycle::Shutdown,
    pubsub::{Pattern, PubSub, Subject, Subscription},
    random::Random,
};
use infra_persistence::state::Durable;
use infra_resilience::Refused;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, mpsc, watch};

use super::{
    machine::Stores,
    mail::{Mail, RoomHandle},
    record::stream_of,
    summary::Summary,
    task::{MAILBOX, RoomTask, Tools},
};
use crate::{domain::Room, observe::RoomTelemetry, protocol::RoomCode};

/// How the rooms are kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The most rooms in memory.
    pub rooms: usize,
    /// The most missed events that are sent again.
    pub resume_events: u32,
    /// How long a room without people stays in memory.
    pub linger: Duration,
    /// How long a room that does not play may be without people before it is given up.
    pub idle: Duration,
    /// After how many events a room has a snapshot.
    pub snapshot_events: NonZeroU32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rooms: 5_000,
            resume_events: 500,
            linger: Duration::from_mins(1),
            idle: Duration::from_mins(10),
            snapshot_events: const { NonZeroU32::new(100).unwrap() },
        }
    }
}

/// A room that is being loaded or is there.
pub(super) type Slot = Arc<OnceCell<RoomHandle>>;

/// Finds and makes rooms.
#[derive(Debug)]
pub struct Registry {
    pub(super) tools: Tools,
    capacity: usize,
    rooms: Mutex<HashMap<RoomCode, Slot>>,
    shutdown: Shutdown,
    bus: Arc<dyn PubSub>,
}

impl Registry {
    /// Creates a registry over the stores of rooms; the rooms' tasks belong to `shutdown`, and `bus` is
    /// told which room has changed. Times come from the clock of `telemetry`.
    pub fn new(
        options: Options,
        stores: Stores,
        bus: Arc<dyn PubSub>,
        telemetry: RoomTelemetry,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        let tools = Tools {
            machine: stores.machine(options.snapshot_events, Arc::clone(telemetry.clock())),
            events: stores.events,
            snapshots: stores.snapshots,
            clock: Arc::clone(telemetry.clock()),
            telemetry,
            random: Arc::new(Random::from_system()),
            resume_events: u64::from(options.resume_events),
            linger: options.linger,
            idle: options.idle,
        };
        let rooms = Mutex::default();
        Arc::new(Self { tools, capacity: options.rooms, rooms, shutdown, bus })
    }

    /// Returns a code that no room in memory or in the event store has.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overloaded`] if there are as many rooms as may be; what the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn free_code(&self) -> Result<RoomCode> {
        const ATTEMPTS: usize = 16;
        if self.capacity <= self.sweep() {
            return Err(Error::new(ErrorKind::Overloaded, "create room").detail("rooms are full"));
        }
        for _ in 0..ATTEMPTS {
            let number = self.tools.random.below(u64::from(RoomCode::COUNT));
            let code = RoomCode::from_number(u32::try_from(number).unwrap_or_default());
            let is_known = self.tools.events.stream_info(&stream_of(code)?).await?.is_some();
            if !is_known && !self.rooms.lock().contains_key(&code) {
                return Ok(code);
            }
        }
        Err(Error::new(ErrorKind::Overloaded, "create room").detail("no free code was found"))
    }

    /// Returns the way to a room that exists, loading it if it is not in memory.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the next caller load the room.
    pub async fn find(self: &Arc<Self>, code: RoomCode) -> Result<Option<RoomHandle>> {
        if let Some(handle) = self.in_memory(code) {
            return Ok(Some(handle));
        }
        if self.tools.events.stream_info(&stream_of(code)?).await?.is_none() {
            return Ok(None);
        }
        // In a box: most rooms that are asked for are in memory.
        Box::pin(self.open(code)).await.map(Some)
    }

    /// Returns the way to a room if it is in memory.
    pub fn in_memory(&self, code: RoomCode) -> Option<RoomHandle> {
        let handle = self.rooms.lock().get(&code).and_then(|slot| slot.get().cloned());
        handle.filter(|handle| !handle.is_closed())
    }

    /// Returns the way to a room, whether it was created already or not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overloaded`] if no more rooms fit in memory; what the store fails with.
    ///
    /// # Cancel safety
    ///
    /// As for [`Registry::find`].
    pub async fn open(self: &Arc<Self>, code: RoomCode) -> Result<RoomHandle> {
        let slot = self.slot(code)?;
        slot.get_or_try_init(|| self.load(code)).await.cloned()
    }

    /// Returns the place of a room, a new one if there is none.
    pub(super) fn slot(&self, code: RoomCode) -> Result<Slot> {
        let mut rooms = self.rooms.lock();
        let is_dead = |slot: &Slot| slot.get().is_some_and(RoomHandle::is_closed);
        if rooms.get(&code).is_some_and(is_dead) {
            rooms.remove(&code);
        }
        if self.capacity <= rooms.len() && !rooms.contains_key(&code) {
            return Err(Error::new(ErrorKind::Overloaded, "open room").detail("rooms are full"));
        }
        Ok(Arc::clone(rooms.entry(code).or_default()))
    }

    async fn load(self: &Arc<Self>, code: RoomCode) -> Result<RoomHandle> {
        let machine = self.tools.machine.clone();
        let (durable, report) = Durable::open(stream_of(code)?, machine).await?;
        for skipped in &report.skipped {
            tracing::warn!(room = %code, version = %skipped.version, why = skipped.why, "snapshot not used");
        }
        Ok(self.serve(code, durable))
    }

    /// Starts the task of a room.
    pub(super) fn serve(self: &Arc<Self>, code: RoomCode, durable: Durable<Room>) -> RoomHandle {
        let (sender, summary) = watch::channel(None);
        let task = RoomTask::new(self.tools.clone(), code, durable, sender);
        let (mailbox, letters) = mpsc::channel(MAILBOX);
        let (registry, mut changes) = (Arc::downgrade(self), summary.clone());
        let telling = async move {
            // Ends with the room's task, whose end drops the sender.
            while changes.changed().await.is_ok() {
                let Some(registry) = registry.upgrade() else { return };
                let summary = changes.borrow_and_update().clone();
                registry.tell(code, summary.as_ref()).await;
            }
            if let Some(registry) = registry.upgrade() {
                registry.sweep();
                registry.tell(code, None).await;
            }
        };
        // What the room does by itself is of no trace of whoever opened it; mail brings its own.
        Context::default().sync_scope(|| {
            self.shutdown.spawn(task.run(letters, self.shutdown.stop()));
            self.shutdown.spawn(telling);
        });
        RoomHandle { mailbox, summary }
    }

    /// Sends a letter to a room, loading the room again if its task ended meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no such room; what the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the letter unsent.
    pub async fn send(self: &Arc<Self>, code: RoomCode, mut mail: Mail) -> Result<()> {
        const ATTEMPTS: usize = 3;
        for _ in 0..ATTEMPTS {
            let Some(handle) = self.find(code).await? else {
                return Err(Error::new(ErrorKind::NotFound, "find room").detail(code.to_string()));
            };
            match handle.send(mail).await {
                Ok(()) => return Ok(()),
                Err(refused) => mail = refused,
            }
        }
        Err(Error::new(ErrorKind::Overloaded, "send to room").detail(code.to_string()))
    }

    /// Returns the rooms in memory that were created, in no order.
    pub fn summaries(&self) -> Vec<Summary> {
        let slots: Vec<Slot> = self.rooms.lock().values().cloned().collect();
        let handles = slots.iter().filter_map(|slot| slot.get());
        handles.filter_map(RoomHandle::summary).collect()
    }

    /// Subscribes to the changes of all rooms.
    ///
    /// # Errors
    ///
    /// What the bus fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future or the subscription ends it.
    pub async fn changes(&self) -> Result<Subscription> {
        self.bus.subscribe(&Pattern::new("room.*.changed")?).await
    }

    /// Tells the bus that a room has changed: its line of the lobby as JSON, or nothing if the room
    /// is not in memory any more.
    async fn tell(&self, code: RoomCode, summary: Option<&Summary>) {
        let Ok(subject) = Subject::new(format!("room.{code}.changed")) else { return };
        let line = summary.and_then(|summary| serde_json::to_vec(&summary.lobby).ok());
        if let Err(error) = self.bus.publish(&subject, line.unwrap_or_default().into()).await {
            let cause = &error as &dyn std::error::Error;
            // The health names a bus that is left alone.
            if Refused::of(&error).is_some() {
                tracing::debug!(error = cause, "change not told");
            } else {
                tracing::warn!(error = cause, "change not told");
            }
        }
    }

    /// Forgets the rooms whose tasks have ended; returns how many are left.
    fn sweep(&self) -> usize {
        let mut rooms = self.rooms.lock();
        rooms.retain(|_, slot| is_needed(slot));
        rooms.len()
    }
}

/// Returns whether a room is in memory, or is being loaded by whoever holds its slot too.
fn is_needed(slot: &Slot) -> bool {
    let is_loading = 1 < Arc::strong_count(slot);
    slot.get().map_or(is_loading, |handle| !handle.is_closed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_whose_load_failed_is_given_up_once_nobody_tries_again() {
        let slot = Slot::default();
        let loader = Arc::clone(&slot);
        assert!(is_needed(&slot));
        drop(loader);
        assert!(!is_needed(&slot));
    }
}
