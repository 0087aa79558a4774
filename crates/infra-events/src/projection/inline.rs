//! Inline projections: in memory, after the commit, before the append is acknowledged.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::{
    Parked, Projection,
    fold::{self, Slots},
};

const PAGE: usize = 256;

/// How long an append waits until its own events can be read by everybody.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Memory<V> {
    position: Position,
    slots: Slots<V>,
}

/// The views of a projection in memory.
///
/// They hold every key that ever was, so it fits views whose number is bounded.
#[derive(Debug)]
pub struct Inline<P: Projection> {
    projection: P,
    memory: RwLock<Memory<P::View>>,
    /// One at a time reads on; whoever waits finds its events folded in already.
    turn: Mutex<()>,
}

impl<P: Projection> Inline<P> {
    /// Creates the views as they are before the first event.
    pub fn new(projection: P) -> Self {
        let memory = Memory { position: Position::ZERO, slots: BTreeMap::new() };
        Self { projection, memory: RwLock::new(memory), turn: Mutex::new(()) }
    }

    /// Returns a copy of a view; the default one for a key that no event has touched.
    pub fn view(&self, key: &str) -> P::View {
        let memory = self.memory.read();
        memory.slots.get(key).map(|slot| slot.view.clone()).unwrap_or_default()
    }

    /// Looks at a view without copying it.
    pub fn with<T>(&self, key: &str, look: impl FnOnce(Option<&P::View>) -> T) -> T {
        look(self.memory.read().slots.get(key).map(|slot| &slot.view))
    }

    /// Returns all keys.
    pub fn keys(&self) -> Vec<String> {
        self.memory.read().slots.keys().cloned().collect()
    }

    /// Returns up to which position events are folded in.
    pub fn position(&self) -> Position {
        self.memory.read().position
    }

    /// Returns the parked keys. Since projections are pure they stay so until a program whose
    /// projection can apply the event makes the views anew, at its start.
    pub fn parked(&self) -> Vec<Parked> {
        let memory = self.memory.read();
        memory.slots.values().filter_map(|slot| slot.parked.clone()).collect()
    }

    fn take(&self, page: EventPage) {
        let events: Vec<_> = page.events.into_iter().map(Arc::new).collect();
        let groups = fold::by_key(&self.projection, &events);
        let mut memory = self.memory.write();
        for (key, events) in groups {
            let slot = memory.slots.entry(key.clone()).or_default();
            fold::fold(&self.projection, &key, slot, &events);
        }
        memory.position = memory.position.max(page.read_to);
    }
}

/// What can be brought up to date.
#[async_trait]
trait Follow: Send + Sync + std::fmt::Debug {
    async fn follow(&self, store: &dyn EventStore, to: Position) -> Result<()>;
}

#[async_trait]
impl<P: Projection> Follow for Inline<P> {
    async fn follow(&self, store: &dyn EventStore, to: Position) -> Result<()> {
        let _turn = self.turn.lock().await;
        let filter = self.projection.filter();
        while self.position() < to {
            let page = store.read_all(self.position(), &filter, PAGE).await?;
            let is_end = page.is_end;
            self.take(page);
            if is_end {
                break;
            }
        }
        Ok(())
    }
}

/// An event store whose inline projections have seen an append before it is acknowledged.
///
/// ```
/// # use std::sync::Arc;
/// # use infra_core::{Result, SystemClock, event::RecordedEvent};
/// # use infra_events::{MemoryEventStore, projection::{Inline, Projecting, Projection}};
/// #[derive(Debug)]
/// struct Count;
///
/// impl Projection for Count {
///     type View = u64;
///     fn name(&self) -> &str { "count" }
///     fn keys(&self, event: &RecordedEvent) -> Vec<String> { vec![event.stream.to_string()] }
///     fn apply(&self, _key: &str, view: &mut u64, _event: &RecordedEvent) -> Result<()> {
///         *view += 1;
///         Ok(())
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let count = Arc::new(Inline::new(Count));
/// let events = Arc::new(MemoryEventStore::new(SystemClock::shared()));
/// let store = Projecting::new(events).with(Arc::clone(&count)).await?;
/// // After `store.append(..).await`, `count.view("room-7")` has counted it.
/// assert_eq!(count.view("room-7"), 0);
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Projecting {
    inner: Arc<dyn EventStore>,
    followers: Vec<Arc<dyn Follow>>,
}

impl Projecting {
    /// Wraps a store.
    pub const fn new(inner: Arc<dyn EventStore>) -> Self {
        Self { inner, followers: Vec::new() }
    }

    /// Adds a projection, after it has seen all that is stored.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops this store, and leaves the projection somewhere on its way.
    pub async fn with<P: Projection>(mut self, inline: Arc<Inline<P>>) -> Result<Self> {
        let head = self.inner.stable_head().await?;
        inline.follow(self.inner.as_ref(), head).await?;
        self.followers.push(inline);
        Ok(self)
    }

    /// Brings all projections to a position; what fails is told in the log and caught up later,
    /// since the events are committed already.
    async fn follow(&self, position: Position) {
        if self.followers.is_empty() {
            return;
        }
        let reached = self.inner.wait_for(position, PATIENCE).await;
        for follower in &self.followers {
            let followed = match &reached {
                Ok(()) => follower.follow(self.inner.as_ref(), position).await,
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = followed {
                tracing::warn!(error = &error as &dyn std::error::Error, "projection is late");
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl EventStore for Projecting {
    async fn append(&self, append: Append) -> Result<Appended> {
        let appended = self.inner.append(append).await?;
        self.follow(appended.position).await;
        Ok(appended)
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        self.inner.read_stream(stream, from, direction, limit).await
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        self.inner.read_all(after, filter, limit).await
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        self.inner.subscribe(after, filter).await
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        self.inner.stream_info(stream).await
    }

    async fn stable_head(&self) -> Result<Position> {
        self.inner.stable_head().await
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        self.inner.wait_for(position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        self.inner.truncate_before(stream, before).await
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        self.inner.tombstone(stream, expected).await
    }
}
