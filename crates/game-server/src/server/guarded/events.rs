//! An event store behind policies.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Result,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, RecordedEvent, StreamInfo,
        Subscription,
    },
    id::StreamName,
    version::{Expected, Position, Version},
};
use infra_observability::trace::traced_result;
use infra_resilience::{Policy as _, at_most_once, idempotent};

use super::Guard;

#[derive(Debug)]
pub(super) struct GuardedEvents {
    store: Arc<dyn EventStore>,
    guard: Guard,
}

impl GuardedEvents {
    pub(super) const fn new(store: Arc<dyn EventStore>, guard: Guard) -> Self {
        Self { store, guard }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventStore for GuardedEvents {
    /// Repeated after a failure: the store knows the ids of the events that it has.
    ///
    /// One span for all attempts; stored events name it.
    async fn append(&self, append: Append) -> Result<Appended> {
        let n_events: usize = append.streams.iter().map(|stream| stream.events.len()).sum();
        let span = tracing::info_span!("store.append", events = n_events);
        let call = idempotent(|| self.store.append(append.clone()));
        traced_result(span, self.guard.write.run("append events", call)).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        let call = idempotent(|| self.store.read_stream(stream, from, direction, limit));
        self.guard.read("read stream", call).await
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        let call = idempotent(|| self.store.read_all(after, filter, limit));
        self.guard.read("read all events", call).await
    }

    /// Only the beginning is guarded; what comes through the subscription is the store's own.
    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        let call = at_most_once(|| self.store.subscribe(after, filter));
        self.guard.once("subscribe to events", call).await
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        let call = idempotent(|| self.store.stream_info(stream));
        self.guard.read("look up stream", call).await
    }

    async fn stable_head(&self) -> Result<Position> {
        self.guard.read("read stable head", idempotent(|| self.store.stable_head())).await
    }

    /// Waits by the caller's own patience: that it runs out is no failure of the store.
    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        self.store.wait_for(position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        let call = idempotent(|| self.store.truncate_before(stream, before));
        self.guard.write("truncate stream", call).await
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        let call = at_most_once(|| self.store.tombstone(stream, expected));
        self.guard.once("end stream", call).await
    }
}
