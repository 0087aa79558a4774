//! A queue within a process.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    clock::Timestamp,
    durability::Durability,
    id::{MessageId, QueueName},
    queue::{DeadLetter, Delivery, Features, Lease, Message, Queue, Settlement, Stats},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    entry::Number,
    options::{Options, Overflow},
    state::{Moment, State, Taken},
};
use crate::telemetry::{ACKNOWLEDGED, HANDED_OUT, QUEUED, REFUSED, RETURNED};

/// How long is waited at most before it is looked again.
const LONG: Duration = Duration::from_hours(1);

/// Hands out the messages of one process. Clones are the same queue.
///
/// Everything is lost at the end of the process, so it gives [`Durability::Applied`] and refuses
/// to promise more. Everything else of the port's contract it keeps: leases, retries, dead letters,
/// order per key, priorities, delays, times to live, dedup ids, bounds.
///
/// A message of low priority waits as long as more urgent ones come.
#[derive(Debug, Clone)]
pub struct MemoryQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: QueueName,
    options: Options,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Something may be ready, or due at another time.
    ready: Notify,
    /// There may be room.
    room: Notify,
}

impl MemoryQueue {
    /// Creates an empty queue; delays, leases and times to live are judged by `clock`.
    pub fn new(name: QueueName, options: Options, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(State::new(options));
        let (ready, room) = (Notify::new(), Notify::new());
        Self(Arc::new(Shared { name, options, clock, state, ready, room }))
    }

    /// Ends the queue: nothing more is taken or handed out, and whoever waits is told so. What is
    /// in hand can still be settled.
    pub fn close(&self) {
        self.0.state.lock().is_closed = true;
        self.0.ready.notify_waiters();
        self.0.room.notify_waiters();
    }

    fn moment(&self) -> Moment {
        Moment { now: self.0.clock.now(), wall: self.0.clock.wall() }
    }

    /// Does something with a state where everything that was due has happened, and wakes whom that
    /// may concern.
    fn with<T>(&self, act: impl FnOnce(&mut State, Moment) -> T) -> T {
        let mut state = self.0.state.lock();
        let at = self.moment();
        state.pass(at);
        let before = state.due();
        let done = act(&mut state, at);
        if state.is_ready() || state.due() != before {
            // Who is woken takes what it can, and wakes the next one if there is more.
            self.0.ready.notify_one();
        }
        done
    }

    fn hand(&self, taken: Taken) -> Delivery {
        let Taken { number, lease, message, attempts, published } = taken;
        let held = Held { queue: self.clone(), number, lease };
        Delivery::new(message, attempts, published, Box::new(held))
    }

    fn closed(&self, operation: &'static str) -> Error {
        Error::new(ErrorKind::Closed, operation).detail(self.0.name.to_string())
    }

    fn try_publish(&self, messages: &[Message]) -> Result<Vec<bool>> {
        const PUBLISH: &str = "publish message";
        self.with(|state, at| {
            if state.is_closed {
                return Err(self.closed(PUBLISH));
            }
            state.publish(messages, at)
        })
    }
}

fn is_full(error: &Error) -> bool {
    *error.kind() == ErrorKind::Overloaded
}

#[async_trait]
impl Queue for MemoryQueue {
    fn name(&self) -> &QueueName {
        &self.0.name
    }

    fn features(&self) -> Features {
        Features::all(Durability::Applied)
    }

    async fn publish(&self, messages: Vec<Message>, durability: Durability) -> Result<Vec<bool>> {
        if Durability::Applied < durability {
            let detail = format!("{durability:?}: queue {} is in memory", self.0.name);
            return Err(Error::new(ErrorKind::Unsupported, "publish message").detail(detail));
        }
        loop {
            let room = self.0.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let said = self.try_publish(&messages);
            let may_fit = messages.len() <= self.0.options.capacity;
            let is_waiting = self.0.options.overflow == Overflow::Wait && may_fit;
            match said {
                Err(error) if is_waiting && is_full(&error) => {
                    // Room comes by a settlement, or when a message's time is over.
                    let due = self.0.state.lock().due();
                    let pause = due.map_or(LONG, |due| due.since(self.0.clock.now()));
                    let _has_come = tokio::time::timeout(pause, room).await.is_ok();
                }
                said => {
                    let new = said.as_ref().map_or(0, |new| new.iter().filter(|is| **is).count());
                    QUEUED.add(new as u64);
                    REFUSED.add(u64::from(said.as_ref().is_err_and(is_full)));
                    return said;
                }
            }
        }
    }

    async fn receive(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>> {
        const RECEIVE: &str = "receive message";
        if limit == 0 || lease.is_zero() {
            return Err(Error::invalid(RECEIVE, format!("limit {limit}, lease {lease:?}")));
        }
        loop {
            let ready = self.0.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            let (taken, due) = self.with(|state, at| {
                if state.is_closed {
                    return Err(self.closed(RECEIVE));
                }
                Ok((state.take(limit, lease, at), state.due()))
            })?;
            if !taken.is_empty() {
                HANDED_OUT.add(taken.len() as u64);
                return Ok(taken.into_iter().map(|taken| self.hand(taken)).collect());
            }
            let pause = due.map_or(LONG, |due| due.since(self.0.clock.now())).min(LONG);
            // Either something has changed, or something is due.
            let _has_changed = tokio::time::timeout(pause, ready).await.is_ok();
        }
    }

    async fn stats(&self) -> Result<Stats> {
        Ok(self.with(|state, at| state.stats(at)))
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        Ok(self.with(|state, _| state.dead_letters(limit)))
    }

    async fn replay(&self, id: MessageId) -> Result<bool> {
        Ok(self.with(|state, at| state.replay(id, at)))
    }

    async fn purge_dead(&self, before: Timestamp) -> Result<u64> {
        Ok(self.with(|state, _| state.purge_dead(before)))
    }

    async fn set_paused(&self, paused: bool) -> Result<()> {
        self.with(|state, _| state.is_paused = paused);
        Ok(())
    }
}

/// A lease of this queue.
#[derive(Debug)]
struct Held {
    queue: MemoryQueue,
    number: Number,
    lease: u64,
}

impl Held {
    fn settle(&self, settlement: Settlement) -> Result<()> {
        let is_ack = settlement == Settlement::Ack;
        self.queue.with(|state, at| state.settle(self.number, self.lease, settlement, at))?;
        if is_ack {
            ACKNOWLEDGED.add(1);
        } else {
            RETURNED.add(1);
        }
        self.queue.0.room.notify_waiters();
        Ok(())
    }
}

#[async_trait]
impl Lease for Held {
    async fn settle(&self, settlement: Settlement) -> Result<()> {
        Self::settle(self, settlement)
    }

    async fn extend(&self, lease: Duration) -> Result<()> {
        self.queue.with(|state, at| state.extend(self.number, self.lease, lease, at))
    }

    fn abandon(&self) {
        // A lease that was lost is nobody's to release.
        let _released = Self::settle(self, Settlement::Release).is_ok();
    }
}
