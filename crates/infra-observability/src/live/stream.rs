//! The live stream: a bounded history and subscribers that hold up nobody.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    metric::{Counter, Declaration, Gauge},
};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use super::{
    event::{Draft, Event},
    filter::Filter,
};

const PUBLISHED: Counter =
    Counter::new("infra_observability_live_events_total", "Events of the live stream.");
const DROPPED: Counter = Counter::new(
    "infra_observability_live_dropped_total",
    "Events that a slow subscriber of the live stream did not get.",
);
const SUBSCRIBERS: Gauge =
    Gauge::new("infra_observability_live_subscribers", "", "Subscribers of the live stream.");

pub(crate) const METRICS: &[Declaration] =
    &[PUBLISHED.declaration(), DROPPED.declaration(), SUBSCRIBERS.declaration()];

/// How much the stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    history: usize,
    subscribers: usize,
    queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { history: 10_000, subscribers: 100, queue: 1_000 }
    }
}

impl Options {
    /// Sets how many events are kept; 10,000 by default.
    #[must_use]
    pub const fn history(mut self, events: usize) -> Self {
        self.history = events;
        self
    }

    /// Sets how many may subscribe; 100 by default.
    #[must_use]
    pub const fn subscribers(mut self, count: usize) -> Self {
        self.subscribers = count;
        self
    }

    /// Sets how many events wait for one subscriber; 1,000 by default. Then the oldest are dropped,
    /// and the subscriber is told how many.
    #[must_use]
    pub const fn queue(mut self, events: usize) -> Self {
        self.queue = events;
        self
    }
}

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// An event.
    Event(Arc<Event>),
    /// So many events were dropped here, because the subscriber was slow.
    Gap(u64),
}

impl Item {
    /// Writes the item as one of the server-sent events of HTML; a gap is of the kind `gap`.
    pub fn to_sse(&self) -> String {
        match self {
            Self::Event(event) => event.to_sse(),
            Self::Gap(missed) => format!("event: gap\ndata: {{\"missed\":{missed}}}\n\n"),
        }
    }
}

/// What is known of one subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubscriberStats {
    /// The name it gave itself.
    pub name: String,
    /// Events that wait for it.
    pub queued: usize,
    /// Events that it did not get.
    pub dropped: u64,
}

/// What is known of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// All events since the start.
    pub published: u64,
    /// Of these, how many of each kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Each subscriber.
    pub subscribers: Vec<SubscriberStats>,
}

#[derive(Debug)]
struct Subscriber {
    name: String,
    filter: Filter,
    queue: VecDeque<Arc<Event>>,
    /// Dropped since the last gap that was told.
    missed: u64,
    dropped: u64,
    filled: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    sequence: u64,
    history: VecDeque<Arc<Event>>,
    by_kind: BTreeMap<&'static str, u64>,
    subscribers: BTreeMap<u64, Subscriber>,
    next_subscriber: u64,
    is_closed: bool,
}

/// Publishes what happens to whoever watches. Cheap to clone.
///
/// Publishing never waits: the history and each subscriber's queue are bounded, and from both the
/// oldest event goes first. Sequence numbers are those of the order in which everybody sees them.
#[derive(Clone)]
pub struct Stream {
    options: Options,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

impl Stream {
    /// Creates an empty stream; times come from `clock`.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        Self { options, clock, state: Arc::default() }
    }

    /// Publishes an event and returns its number; after the end it goes nowhere.
    pub fn publish(&self, draft: Draft) -> u64 {
        let at = self.clock.wall();
        let mut state = self.state.lock();
        state.sequence += 1;
        let sequence = state.sequence;
        let event = Arc::new(Event::of(draft, sequence, at));
        *state.by_kind.entry(event.kind).or_default() += 1;
        state.history.push_back(Arc::clone(&event));
        while self.options.history < state.history.len() {
            state.history.pop_front();
        }
        let mut dropped = 0;
        for subscriber in state.subscribers.values_mut() {
            dropped += subscriber.offer(&event, self.options.queue);
        }
        drop(state);
        PUBLISHED.add(1);
        if 0 < dropped {
            DROPPED.add(dropped);
        }
        sequence
    }

    /// Subscribes to what is published from now on and admitted by `filter`.
    ///
    /// # Errors
    ///
    /// [`Overloaded`](ErrorKind::Overloaded) if as many subscribe as may;
    /// [`Closed`](ErrorKind::Closed) after the end.
    pub fn subscribe(&self, name: &str, filter: Filter) -> Result<Subscription> {
        let filled = Arc::new(Notify::new());
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Error::new(ErrorKind::Closed, "subscribe to live events"));
        }
        if self.options.subscribers <= state.subscribers.len() {
            return Err(Error::new(ErrorKind::Overloaded, "subscribe to live events"));
        }
        let id = state.next_subscriber;
        state.next_subscriber += 1;
        let subscriber = Subscriber {
            name: name.chars().take(64).collect(),
            filter,
            queue: VecDeque::new(),
            missed: 0,
            dropped: 0,
            filled: Arc::clone(&filled),
        };
        state.subscribers.insert(id, subscriber);
        gauge(&state);
        drop(state);
        Ok(Subscription { id, state: Arc::clone(&self.state), filled })
    }

    /// Returns the newest `limit` events that `filter` admits and that came after `sequence`,
    /// oldest first.
    pub fn history(&self, filter: &Filter, after: u64, limit: usize) -> Vec<Arc<Event>> {
        let state = self.state.lock();
        let wanted = |event: &&Arc<Event>| after < event.sequence && filter.admits(event);
        let mut found: Vec<_> =
            state.history.iter().rev().filter(wanted).take(limit).cloned().collect();
        found.reverse();
        found
    }

    /// Returns what is known of the stream.
    pub fn stats(&self) -> Stats {
        let state = self.state.lock();
        let subscribers = state.subscribers.values().map(|subscriber| SubscriberStats {
            name: subscriber.name.clone(),
            queued: subscriber.queue.len(),
            dropped: subscriber.dropped,
        });
        Stats {
            published: state.sequence,
            by_kind: state.by_kind.clone(),
            subscribers: subscribers.collect(),
        }
    }

    /// Ends the stream: subscribers get what waits for them, then nothing more.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.subscribers.values().for_each(|subscriber| subscriber.filled.notify_one());
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Subscriber {
    /// Queues an event that is wanted; returns how many were dropped for it.
    fn offer(&mut self, event: &Arc<Event>, limit: usize) -> u64 {
        if !self.filter.admits(event) {
            return 0;
        }
        self.queue.push_back(Arc::clone(event));
        let over = self.queue.len().saturating_sub(limit);
        self.queue.drain(..over);
        self.missed += over as u64;
        self.dropped += over as u64;
        self.filled.notify_one();
        over as u64
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a few hundred")]
fn gauge(state: &State) {
    SUBSCRIBERS.set(state.subscribers.len() as f64);
}

/// A subscriber's end of the stream; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    state: Arc<Mutex<State>>,
    filled: Arc<Notify>,
}

impl Subscription {
    /// Returns the next event, or a gap where some were dropped; none after the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Item> {
        loop {
            match self.take() {
                Ok(item) => return item,
                Err(()) => self.filled.notified().await,
            }
        }
    }

    /// Returns what waits; an error if that is nothing, yet.
    fn take(&self) -> std::result::Result<Option<Item>, ()> {
        let mut state = self.state.lock();
        let is_closed = state.is_closed;
        let Some(subscriber) = state.subscribers.get_mut(&self.id) else { return Ok(None) };
        if 0 < subscriber.missed {
            return Ok(Some(Item::Gap(std::mem::take(&mut subscriber.missed))));
        }
        match subscriber.queue.pop_front() {
            Some(event) => Ok(Some(Item::Event(event))),
            None if is_closed => Ok(None),
            None => Err(()),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.subscribers.remove(&self.id);
        gauge(&state);
    }
}
