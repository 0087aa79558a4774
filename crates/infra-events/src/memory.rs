//! The store in memory: for tests, for tools, and as the model of the others.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc, time::Duration};

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
    index::{Extent, Found, Index, Places, Plan, check_shape},
    memtable::Memtable,
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
    table: Memtable,
    /// By position; what is truncated or tombstoned is removed.
    events: BTreeMap<Position, RecordedEvent>,
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
fn ids_of(append: &Append) -> Vec<(StreamName, Vec<EventId>)> {
    let parts = append.streams.iter();
    parts
        .map(|part| (part.stream.clone(), part.events.iter().map(|event| event.id).collect()))
        .collect()
}

impl Places for Memtable {
    fn find(&self, extent: Extent, id: EventId) -> Result<Option<Found>> {
        Ok(Self::find(self, extent.stream, id))
    }

    fn count_up_to(&self, _extent: Extent, _head: Position) -> Option<u64> {
        None
    }
}

impl State {
    fn at(&self, position: Position) -> Option<&RecordedEvent> {
        self.events.get(&position)
    }

    fn append(&mut self, append: Append, clock: &dyn Clock) -> Result<Appended> {
        check_shape(&append)?;
        let first = match self.index.judge(&append, &self.table)? {
            Plan::Write(first) => first,
            Plan::Compare { same, versions, position } => {
                for (part, event, position) in same {
                    let offered = append.streams.get(part).and_then(|part| part.events.get(event));
                    let Some(offered) = offered else { continue };
                    let stored = self.at(position);
                    if !stored.is_some_and(|stored| is_same(&stored.event, offered)) {
                        return Err(reused(offered.id));
                    }
                }
                return Ok(Appended { position, versions, is_duplicate: true });
            }
        };
        let mut position = self.index.head();
        let table = (0, &mut self.table);
        self.index.apply(&ids_of(&append), append.fence.as_ref(), table);
        let context = Context::current();
        let headers = context.headers();
        let recorded = clock.wall();
        let mut versions = Vec::with_capacity(first.len());
        for (part, mut version) in append.streams.into_iter().zip(first) {
            for event in part.events {
                position = position.next();
                let recorded = RecordedEvent {
                    position,
                    stream: part.stream.clone(),
                    version,
                    event,
                    recorded,
                    correlation: context.correlation_id(),
                    trace: context.trace_context(),
                    headers: headers.clone(),
                };
                self.events.insert(position, recorded);
                version = version.next();
            }
            versions.push(version.previous());
        }
        Ok(Appended { position: self.index.head(), versions, is_duplicate: false })
    }

    /// Returns the positions of a stream's versions.
    fn positions(&self, stream: &StreamName, versions: &RangeInclusive<Version>) -> Vec<Position> {
        let extents = self.index.extents(stream, versions);
        let positions = extents
            .iter()
            .flat_map(|(extent, versions)| self.table.positions(extent.stream, versions));
        positions.copied().collect()
    }

    /// Drops the events of a stream below `before`.
    fn forget(&mut self, stream: &StreamName, before: Version) {
        for (extent, _) in self.index.extents(stream, &(Version::ZERO..=Version::MAX)) {
            for position in self.table.forget(extent.stream, before) {
                self.events.remove(&position);
            }
        }
    }
}

#[async_trait]
impl Source for MemoryEventStore {
    async fn page(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        self.read_all(after, filter, limit).await
    }

    // A store that nobody holds any more still serves its subscribers what it has.
    async fn changed(&self, after: Position) -> bool {
        subscription::beyond(&self.0.head.subscribe(), after).await
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
        let seen = (Position::MAX, &state.table);
        let Some(span) = state.index.span(stream, (from, direction), seen, limit) else {
            return Ok(Vec::new());
        };
        let positions = state.positions(stream, &span).into_iter();
        let mut events: Vec<_> = positions.filter_map(|at| state.at(at)).cloned().collect();
        if direction == Direction::Backward {
            events.reverse();
        }
        Ok(events)
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        let state = self.0.state.read();
        let mut page = EventPage { events: Vec::new(), read_to: after, is_end: false };
        for event in state.events.range(after.next()..).map(|(_, event)| event) {
            if limit <= page.events.len() {
                return Ok(page);
            }
            page.read_to = event.position;
            if filter.admits(event) {
                page.events.push(event.clone());
            }
        }
        page.is_end = 0 < limit || state.index.head() <= after;
        if page.is_end {
            page.read_to = after.max(state.index.head());
        }
        Ok(page)
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        Ok(subscription::start(Arc::new(self.clone()), after, filter))
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        let state = self.0.state.read();
        Ok(state.index.info(stream, Position::MAX, &state.table))
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
        state.forget(stream, before);
        state.index.truncate(stream, before);
        Ok(())
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        let mut state = self.0.state.write();
        state.index.judge_tombstone(stream, expected)?;
        state.forget(stream, Version::MAX);
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
