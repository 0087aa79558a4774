//! The event store as the contract reads: one list of all events.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use futures_core::Stream;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    context::Context,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, MAX_EVENTS, MAX_PAYLOAD,
        NewEvent, RecordedEvent, StreamInfo, Subscription, SubscriptionItem,
    },
    id::{Scope, StreamName},
    version::{Expected, FencingToken, Position, Version},
};
use parking_lot::Mutex;
use tokio::sync::watch;

const APPEND: &str = "append to stream";

/// Keeps events in a list.
#[derive(Debug)]
pub struct ModelEvents {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
    head: watch::Sender<Position>,
}

#[derive(Debug, Clone, Default)]
struct State {
    events: Vec<RecordedEvent>,
    /// The first version of a stream that can be read.
    firsts: HashMap<StreamName, Version>,
    tombstoned: HashSet<StreamName>,
    fences: HashMap<Scope, FencingToken>,
    wakers: Vec<Waker>,
}

impl ModelEvents {
    /// Creates an empty store whose times come from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Arc::default(), head: watch::channel(Position::ZERO).0 }
    }
}

impl State {
    fn head(&self) -> Position {
        Position::new(self.events.len() as u64)
    }

    fn of<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> impl DoubleEndedIterator<Item = &'a RecordedEvent> {
        self.events.iter().filter(move |event| event.stream == *stream)
    }

    fn version(&self, stream: &StreamName) -> Version {
        self.of(stream).next_back().map_or(Version::ZERO, |event| event.version)
    }

    fn is_readable(&self, event: &RecordedEvent) -> bool {
        let first = self.firsts.get(&event.stream).copied().unwrap_or_default();
        first <= event.version && !self.tombstoned.contains(&event.stream)
    }

    fn page(&self, after: Position, filter: &Filter, limit: usize) -> EventPage {
        let mut page = EventPage { events: Vec::new(), read_to: after, is_end: false };
        for event in self.events.iter().filter(|event| after < event.position) {
            if limit <= page.events.len() {
                return page;
            }
            page.read_to = event.position;
            if self.is_readable(event) && filter.admits(event) {
                page.events.push(event.clone());
            }
        }
        page.is_end = true;
        page
    }

    /// Returns where the events of an append are if they all are there already.
    fn repeated(&self, append: &Append) -> Result<Option<Appended>> {
        let (mut found, mut count, mut position) = (0, 0, Position::ZERO);
        let mut versions = Vec::new();
        for part in &append.streams {
            let mut version = self.version(&part.stream);
            for event in &part.events {
                count += 1;
                let has_id = |stored: &&RecordedEvent| {
                    stored.event.id == event.id && self.is_readable(stored)
                };
                let Some(stored) = self.of(&part.stream).find(has_id) else { continue };
                if !is_same(&stored.event, event) {
                    return Err(Error::invalid(APPEND, "an event id has other content"));
                }
                found += 1;
                position = position.max(stored.position);
                version = stored.version;
            }
            versions.push(version);
        }
        match found {
            0 => Ok(None),
            _ if found == count => Ok(Some(Appended { position, versions, is_duplicate: true })),
            _ => Err(Error::invalid(APPEND, "some event ids are there already")),
        }
    }

    fn append(&mut self, append: Append, clock: &dyn Clock) -> Result<Appended> {
        check(&append)?;
        if let Some(fence) = append.fence.clone() {
            let highest = self.fences.entry(fence.scope).or_default();
            if fence.token < *highest {
                return Err(Error::new(ErrorKind::Fenced, APPEND));
            }
            *highest = fence.token;
        }
        if let Some(appended) = self.repeated(&append)? {
            return Ok(appended);
        }
        let context = Context::current();
        let headers = context.headers();
        let mut versions = Vec::new();
        for part in append.streams {
            if self.tombstoned.contains(&part.stream) {
                return Err(Error::new(ErrorKind::Denied, APPEND));
            }
            let mut version = self.version(&part.stream);
            if !part.expected.admits(version) {
                return Err(Error::conflict(APPEND, part.expected, version));
            }
            for event in part.events {
                version = version.next();
                self.events.push(RecordedEvent {
                    position: self.head().next(),
                    stream: part.stream.clone(),
                    version,
                    event,
                    recorded: clock.wall(),
                    correlation: context.correlation_id(),
                    trace: context.trace_context(),
                    headers: headers.clone(),
                });
            }
            versions.push(version);
        }
        Ok(Appended { position: self.head(), versions, is_duplicate: false })
    }

    fn known(&self, operation: &'static str, stream: &StreamName) -> Result<Version> {
        let version = self.version(stream);
        if version == Version::ZERO || self.tombstoned.contains(stream) {
            return Err(Error::new(ErrorKind::NotFound, operation));
        }
        Ok(version)
    }
}

fn is_same(stored: &NewEvent, offered: &NewEvent) -> bool {
    stored.event_type == offered.event_type && stored.payload == offered.payload
}

fn check(append: &Append) -> Result<()> {
    let events = || append.streams.iter().flat_map(|part| &part.events);
    let names: HashSet<_> = append.streams.iter().map(|part| &part.stream).collect();
    let ids: HashSet<_> = events().map(|event| event.id).collect();
    let is_large = |event: &NewEvent| MAX_PAYLOAD < event.payload.body.len();
    if append.streams.is_empty()
        || names.len() < append.streams.len()
        || ids.len() < events().count()
        || MAX_EVENTS < ids.len()
        || events().any(is_large)
    {
        return Err(Error::invalid(APPEND, "too much, nothing, or something twice"));
    }
    Ok(())
}

#[async_trait]
impl EventStore for ModelEvents {
    async fn append(&self, append: Append) -> Result<Appended> {
        let mut state = self.state.lock();
        // A copy is thrown away if anything fails.
        let mut next = state.clone();
        let appended = next.append(append, &self.clock)?;
        next.wakers.drain(..).for_each(Waker::wake);
        *state = next;
        self.head.send_replace(state.head());
        Ok(appended)
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        let state = self.state.lock();
        let readable = state.of(stream).filter(|event| state.is_readable(event)).cloned();
        Ok(match direction {
            Direction::Forward => {
                readable.filter(|event| from <= event.version).take(limit).collect()
            }
            Direction::Backward => {
                readable.rev().filter(|event| event.version <= from).take(limit).collect()
            }
        })
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        Ok(self.state.lock().page(after, filter, limit))
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        let state = Arc::clone(&self.state);
        Ok(Box::pin(Following { state, after, filter, has_caught_up: false }))
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        let state = self.state.lock();
        let all: Vec<_> = state.of(stream).collect();
        let ends = all.first().zip(all.last()).filter(|_| !state.tombstoned.contains(stream));
        Ok(ends.map(|(oldest, newest)| StreamInfo {
            incarnation: oldest.event.id,
            first: state.firsts.get(stream).copied().unwrap_or(Version::new(1)),
            last: newest.version,
        }))
    }

    async fn stable_head(&self) -> Result<Position> {
        Ok(self.state.lock().head())
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        let mut head = self.head.subscribe();
        let reached = head.wait_for(|head| position <= *head);
        match tokio::time::timeout(patience, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::new(ErrorKind::Timeout, "wait for position")),
        }
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        let mut state = self.state.lock();
        let last = state.known("truncate stream", stream)?;
        if last.next() < before {
            return Err(Error::invalid("truncate stream", "a version beyond the end"));
        }
        let first = state.firsts.entry(stream.clone()).or_insert(Version::new(1));
        *first = before.max(*first);
        Ok(())
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        let mut state = self.state.lock();
        let last = state.known("tombstone stream", stream)?;
        if !expected.admits(last) {
            return Err(Error::conflict("tombstone stream", expected, last));
        }
        state.tombstoned.insert(stream.clone());
        Ok(())
    }
}

/// A subscription, which looks for one event at a time.
struct Following {
    state: Arc<Mutex<State>>,
    after: Position,
    filter: Filter,
    has_caught_up: bool,
}

impl Stream for Following {
    type Item = Result<SubscriptionItem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let state = Arc::clone(&self.state);
        let mut state = state.lock();
        let page = state.page(self.after, &self.filter, 1);
        if let Some(event) = page.events.into_iter().next() {
            self.after = event.position;
            return Poll::Ready(Some(Ok(SubscriptionItem::Event(Box::new(event)))));
        }
        if self.after < page.read_to {
            self.after = page.read_to;
            return Poll::Ready(Some(Ok(SubscriptionItem::Checkpoint(page.read_to))));
        }
        if !self.has_caught_up {
            self.has_caught_up = true;
            return Poll::Ready(Some(Ok(SubscriptionItem::CaughtUp(self.after))));
        }
        state.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}
