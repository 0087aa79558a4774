//! The queue as the contract reads: one list of messages.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    clock::{Instant, Timestamp},
    durability::Durability,
    id::{MessageId, QueueName},
    queue::{
        Attempts, Cause, DeadLetter, Delivery, Failure, Features, Lease, MAX_HISTORY, Message,
        Queue, Settlement, Stats,
    },
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a queue is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many messages it holds, dead letters aside.
    pub capacity: usize,
    /// How many failures make a message a dead letter.
    pub max_failures: u32,
    /// How many crashes do.
    pub max_crashes: u32,
    /// How long a dedup id is known.
    pub window: Duration,
    /// Each so manieth delivery is of the oldest ready message, whatever its priority.
    pub oldest_every: Option<u32>,
}

/// Keeps messages in a list, oldest first. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct ModelQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: QueueName,
    policy: Policy,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    dead: Vec<DeadLetter>,
    known: HashMap<String, Instant>,
    leases: u64,
    taken: u32,
    is_paused: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    message: Message,
    attempts: Attempts,
    history: Vec<Failure>,
    published: Timestamp,
    /// When its time to live is over.
    end: Option<Instant>,
    /// Before this it is not delivered; or, leased, until then it is in somebody's hands.
    until: Instant,
    lease: Option<u64>,
}

impl ModelQueue {
    /// Creates an empty queue on `clock`.
    pub fn new(name: QueueName, policy: Policy, clock: Arc<dyn Clock>) -> Self {
        let (state, changed) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { name, policy, clock, state, changed }))
    }

    /// Does something with a state where everything that was due has happened.
    fn with<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = self.0.clock.now();
        let mut state = self.0.state.lock();
        state.pass(now, self.0.policy, self.0.clock.wall());
        let done = act(&mut state, now);
        self.0.changed.notify_waiters();
        done
    }

    /// Ends a lease, and does with its message what `verdict` says.
    fn settle(&self, lease: u64, settlement: Settlement) -> Result<()> {
        let policy = self.0.policy;
        let wall = self.0.clock.wall();
        self.with(|state, now| {
            let place = state.entries.iter().position(|entry| entry.lease == Some(lease));
            let Some(entry) = place.and_then(|place| state.entries.get_mut(place)) else {
                return Err(Error::new(ErrorKind::LeaseLost, "settle delivery"));
            };
            entry.lease = None;
            entry.until = now;
            let dead = match settlement {
                Settlement::Ack => None,
                Settlement::Nack { delay, reason } => {
                    entry.attempts.failures += 1;
                    entry.note(wall, &reason);
                    entry.until = now + delay;
                    if entry.attempts.failures < policy.max_failures {
                        return Ok(());
                    }
                    Some((Cause::Failed, reason))
                }
                Settlement::Release => {
                    entry.attempts.releases += 1;
                    return Ok(());
                }
                Settlement::Crash { reason } => {
                    entry.attempts.crashes += 1;
                    entry.note(wall, &reason);
                    state.pass(now, policy, wall);
                    return Ok(());
                }
                Settlement::DeadLetter { reason } => Some((Cause::Refused, reason)),
            };
            let entry = entry.clone();
            state.entries.retain(|other| other.message.id != entry.message.id);
            state.dead.extend(dead.map(|(cause, reason)| entry.die(cause, reason, wall)));
            Ok(())
        })
    }
}

impl Entry {
    fn die(self, cause: Cause, reason: String, died: Timestamp) -> DeadLetter {
        let Self { message, attempts, history, .. } = self;
        DeadLetter { message, attempts, cause, reason, history, died }
    }

    fn note(&mut self, at: Timestamp, reason: &str) {
        self.history.push(Failure { at, reason: reason.to_owned() });
        let excess = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..excess);
    }
}

impl State {
    /// Lets everything happen that is due: leases end, times to live end, dedup ids are forgotten.
    fn pass(&mut self, now: Instant, policy: Policy, wall: Timestamp) {
        self.known.retain(|_, end| now < *end);
        for entry in &mut self.entries {
            if entry.lease.is_some() && entry.until <= now {
                entry.lease = None;
                entry.attempts.crashes += 1;
                entry.note(wall, "its lease ended");
            }
        }
        for entry in std::mem::take(&mut self.entries) {
            let is_free = entry.lease.is_none();
            if is_free && policy.max_crashes <= entry.attempts.crashes {
                let reason = format!("{} consumers died with it", entry.attempts.crashes);
                self.dead.push(entry.die(Cause::Crashed, reason, wall));
            } else if is_free && entry.end.is_some_and(|end| end <= now) {
                let reason = "its time to live is over".to_owned();
                self.dead.push(entry.die(Cause::Expired, reason, wall));
            } else {
                self.entries.push(entry);
            }
        }
    }

    /// Returns the place of the message that is delivered next.
    fn next(&mut self, now: Instant, policy: Policy) -> Option<usize> {
        let is_aged =
            policy.oldest_every.is_some_and(|every| (self.taken + 1).is_multiple_of(every));
        let mut keys = HashSet::new();
        let mut best: Option<(usize, &Entry)> = None;
        for (place, entry) in self.entries.iter().enumerate() {
            let is_first = entry.message.key.as_ref().is_none_or(|key| keys.insert(key));
            let is_ready = is_first && entry.lease.is_none() && entry.until <= now;
            let is_better = best
                .is_none_or(|(_, best)| best.message.priority < entry.message.priority && !is_aged);
            if is_ready && is_better && !self.is_paused {
                best = Some((place, entry));
            }
        }
        let place = best.map(|(place, _)| place)?;
        self.taken += 1;
        Some(place)
    }

    /// Returns when something happens by itself.
    fn due(&self, now: Instant) -> Option<Instant> {
        let untils = self.entries.iter().map(|entry| entry.until).filter(|until| now < *until);
        untils.chain(self.entries.iter().filter_map(|entry| entry.end)).min()
    }
}

#[async_trait]
impl Queue for ModelQueue {
    fn name(&self) -> &QueueName {
        &self.0.name
    }

    fn features(&self) -> Features {
        Features::all(Durability::Durable)
    }

    async fn publish(&self, messages: Vec<Message>, _durability: Durability) -> Result<Vec<bool>> {
        let policy = self.0.policy;
        let published = self.0.clock.wall();
        self.with(|state, now| {
            let mut known = state.known.clone();
            let mut new = Vec::new();
            let mut entries = Vec::new();
            for message in messages {
                let dedup = message.dedup.clone();
                let is_new = dedup.is_none_or(|id| known.insert(id, now + policy.window).is_none());
                new.push(is_new);
                if is_new {
                    entries.push(Entry {
                        attempts: Attempts::default(),
                        history: Vec::new(),
                        published,
                        end: message.ttl.map(|ttl| now + ttl),
                        until: now + message.delay,
                        lease: None,
                        message,
                    });
                }
            }
            if policy.capacity < state.entries.len() + entries.len() {
                return Err(Error::new(ErrorKind::Overloaded, "publish message"));
            }
            for (id, end) in known {
                state.known.entry(id).or_insert(end);
            }
            state.entries.append(&mut entries);
            Ok(new)
        })
    }

    async fn receive(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>> {
        if limit == 0 || lease.is_zero() {
            return Err(Error::invalid("receive message", "a limit or lease of zero"));
        }
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut taken = Vec::new();
            let due = self.take(limit, lease, &mut taken);
            if !taken.is_empty() {
                return Ok(taken);
            }
            let far = Duration::from_hours(1);
            let pause = due.map_or(far, |due| due.since(self.0.clock.now()));
            // It is over when something changes, or is due.
            let _is_over = tokio::time::timeout(pause, changed).await.is_ok();
        }
    }

    async fn stats(&self) -> Result<Stats> {
        let wall = self.0.clock.wall();
        Ok(self.with(|state, now| {
            let count =
                |fits: &dyn Fn(&&Entry) -> bool| state.entries.iter().filter(fits).count() as u64;
            let is_ready = |entry: &&Entry| entry.lease.is_none() && entry.until <= now;
            let oldest = state.entries.iter().filter(is_ready).map(|entry| entry.published).min();
            Stats {
                ready: count(&is_ready),
                delayed: count(&|entry| entry.lease.is_none() && now < entry.until),
                leased: count(&|entry| entry.lease.is_some()),
                dead: state.dead.len() as u64,
                oldest: oldest.map_or(Duration::ZERO, |oldest| wall.since(oldest)),
            }
        }))
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        Ok(self.with(|state, _| state.dead.iter().take(limit).cloned().collect()))
    }

    async fn replay(&self, id: MessageId) -> Result<bool> {
        let published = self.0.clock.wall();
        Ok(self.with(|state, now| {
            let Some(place) = state.dead.iter().position(|dead| dead.message.id == id) else {
                return false;
            };
            let DeadLetter { message, attempts, history, .. } = state.dead.remove(place);
            state.entries.push(Entry {
                attempts: Attempts { replays: attempts.replays + 1, ..Attempts::default() },
                history,
                published,
                end: message.ttl.map(|ttl| now + ttl),
                until: now,
                lease: None,
                message,
            });
            true
        }))
    }

    async fn peek(&self, limit: usize) -> Result<Vec<Message>> {
        Ok(self.with(|state, _| {
            state.entries.iter().take(limit).map(|entry| entry.message.clone()).collect()
        }))
    }

    async fn purge_dead(&self, before: Timestamp, cause: Option<Cause>) -> Result<u64> {
        Ok(self.with(|state, _| {
            let count = state.dead.len();
            let is_meant = |dead: &DeadLetter| cause.is_none_or(|cause| cause == dead.cause);
            state.dead.retain(|dead| before <= dead.died || !is_meant(dead));
            (count - state.dead.len()) as u64
        }))
    }

    async fn clear(&self) -> Result<u64> {
        Ok(self.with(|state, _| {
            let count = state.entries.len();
            state.entries.retain(|entry| entry.lease.is_some());
            (count - state.entries.len()) as u64
        }))
    }

    async fn set_paused(&self, paused: bool) -> Result<()> {
        self.with(|state, _| state.is_paused = paused);
        Ok(())
    }
}

impl ModelQueue {
    /// Takes up to so many messages; returns when something is due if there was none.
    fn take(&self, limit: usize, lease: Duration, taken: &mut Vec<Delivery>) -> Option<Instant> {
        let now = self.0.clock.now();
        let mut state = self.0.state.lock();
        state.pass(now, self.0.policy, self.0.clock.wall());
        while taken.len() < limit {
            let Some(place) = state.next(now, self.0.policy) else { break };
            state.leases += 1;
            let number = state.leases;
            let Some(entry) = state.entries.get_mut(place) else { break };
            entry.attempts.deliveries += 1;
            entry.lease = Some(number);
            entry.until = now + lease;
            let held = Held { queue: self.clone(), lease: number };
            let (message, attempts) = (entry.message.clone(), entry.attempts);
            taken.push(Delivery::new(message, attempts, entry.published, Box::new(held)));
        }
        state.due(now)
    }
}

/// A lease of this queue.
#[derive(Debug)]
struct Held {
    queue: ModelQueue,
    lease: u64,
}

#[async_trait]
impl Lease for Held {
    async fn settle(&self, settlement: Settlement) -> Result<()> {
        self.queue.settle(self.lease, settlement)
    }

    async fn extend(&self, lease: Duration) -> Result<()> {
        self.queue.with(|state, now| {
            let held = state.entries.iter_mut().find(|entry| entry.lease == Some(self.lease));
            let held = held.ok_or_else(|| Error::new(ErrorKind::LeaseLost, "extend lease"))?;
            held.until = now + lease;
            Ok(())
        })
    }

    fn abandon(&self) {
        // A lease that was lost is nobody's to release.
        let _released = self.queue.settle(self.lease, Settlement::Release).is_ok();
    }
}
