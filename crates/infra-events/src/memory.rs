//! The store in memory: for tests, for tools, and as the model of the others.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    context::Context,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, NewEvent, RecordedEvent,
        StreamInfo, Subscription,
    },
    id::{EventId, StreamName},
    version::{Expected, Position, Version},
};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{
    index::{Index, Plan},
    subscription::{self, Source},
};

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    state: RwLock<State>,
    head: watch::Sender<Position>,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    events: Vec<RecordedEvent>,
}

/// Keeps events in memory. Cheap to clone; clones share the events.
///
/// Everything is lost at the end of the process, whatever durability an append asks for.
#[derive(Debug, Clone)]
pub struct MemoryEventStore(Arc<Shared>);

impl MemoryEventStore {
    /// Creates an empty store whose times come from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let state = RwLock::default();
        Self(Arc::new(Shared { clock, state, head: watch::channel(Position::ZERO).0 }))
    }
}

/// Returns whether two events with the same id say the same.
pub(crate) fn is_same(stored: &NewEvent, offered: &NewEvent) -> bool {
    stored.event_type == offered.event_type && stored.payload == offered.payload
}

pub(crate) fn reused(id: EventId) -> Error {
    let detail = format!("event id {id} is in the stream with other content");
    Error::invalid("append to stream", detail)
}

/// Returns the ids of an append's events by stream, as the index takes them.
pub(crate) fn ids_of(append: &Append) -> Vec<(StreamName, Vec<EventId>)> {
    let parts = append.streams.iter();
    parts
        .map(|part| (part.stream.clone(), part.events.iter().map(|event| event.id).collect()))
        .collect()
}

impl State {
    fn at(&self, position: Position) -> Option<&RecordedEvent> {
        let place = position.get().checked_sub(1)?;
        self.events.get(usize::try_from(place).ok()?)
    }

    fn append(&mut self, append: Append, clock: &dyn Clock) -> Result<Appended> {
        let first = match self.index.judge(&append)? {
            Plan::Write(first) => first,
            Plan::Compare { same, versions, position } => {
                for (part, event, version) in same {
                    let offered = append
                        .streams
                        .get(part)
                        .and_then(|p| p.events.get(event).map(|event| (&p.stream, event)));
                    let Some((stream, offered)) = offered else { continue };
                    let stored = self.index.position(stream, version).and_then(|at| self.at(at));
                    if !stored.is_some_and(|stored| is_same(&stored.event, offered)) {
                        return Err(reused(offered.id));
                    }
                }
                return Ok(Appended { position, versions, is_duplicate: true });
            }
        };
        self.index.apply(&ids_of(&append), append.fence.as_ref());
        let context = Context::current();
        let recorded = clock.wall();
        let mut versions = Vec::with_capacity(first.len());
        for (part, mut version) in append.streams.into_iter().zip(first) {
            for event in part.events {
                self.events.push(RecordedEvent {
                    position: Position::new(self.events.len() as u64 + 1),
                    stream: part.stream.clone(),
                    version,
                    event,
                    recorded,
                    correlation: context.correlation_id(),
                    trace: context.trace_context(),
                });
                version = version.next();
            }
            versions.push(version.previous());
        }
        Ok(Appended { position: self.index.head(), versions, is_duplicate: false })
    }
}

#[async_trait]
impl Source for MemoryEventStore {
    async fn page(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        self.read_all(after, filter, limit).await
    }
}

#[async_trait]
impl EventStore for MemoryEventStore {
    async fn append(&self, append: Append) -> Result<Appended> {
        let appended = self.0.state.write().append(append, &self.0.clock)?;
        self.0.head.send_if_modified(|head| {
            let is_later = *head < appended.position;
            *head = (*head).max(appended.position);
            is_later
        });
        Ok(appended)
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        let state = self.0.state.read();
        let positions = state.index.range(stream, (from, direction), Position::MAX, limit);
        Ok(positions.into_iter().filter_map(|at| state.at(at)).cloned().collect())
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        let state = self.0.state.read();
        let mut page = EventPage { events: Vec::new(), read_to: after, is_end: false };
        let skipped = usize::try_from(after.get()).unwrap_or(usize::MAX);
        for event in state.events.iter().skip(skipped) {
            if limit <= page.events.len() {
                return Ok(page);
            }
            page.read_to = event.position;
            let is_readable = state.index.is_readable(&event.stream, event.version);
            if is_readable && filter.admits(event) {
                page.events.push(event.clone());
            }
        }
        page.is_end = true;
        Ok(page)
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        // A store that nobody holds any more still serves its subscribers what it has.
        let head = self.0.head.subscribe();
        Ok(subscription::start(Arc::new(self.clone()), head, after, filter))
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        Ok(self.0.state.read().index.info(stream, Position::MAX))
    }

    async fn stable_head(&self) -> Result<Position> {
        Ok(*self.0.head.borrow())
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        wait_for(self.0.head.subscribe(), position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        let mut state = self.0.state.write();
        state.index.judge_truncate(stream, before)?;
        state.index.truncate(stream, before);
        Ok(())
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        let mut state = self.0.state.write();
        state.index.judge_tombstone(stream, expected)?;
        state.index.tombstone(stream);
        Ok(())
    }
}

/// Waits until the head has reached `position`.
pub(crate) async fn wait_for(
    mut head: watch::Receiver<Position>,
    position: Position,
    patience: Duration,
) -> Result<()> {
    const WAIT: &str = "wait for position";
    match tokio::time::timeout(patience, head.wait_for(|head| position <= *head)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Error::new(ErrorKind::Closed, WAIT)),
        Err(_) => Err(Error::new(ErrorKind::Timeout, WAIT).detail(format!("position {position}"))),
    }
}
