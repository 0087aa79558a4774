//! Event stores that are wrong on purpose: each has one bug that a clause must catch.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures_core::Stream;
use infra_core::{
    ErrorKind, Result,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, RecordedEvent, StreamInfo,
        Subscription, SubscriptionItem,
    },
    id::{EventId, StreamName},
    random::Random,
    version::{Expected, Position, Version},
};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// An append to several streams writes its first one, whatever becomes of the others.
    HalfAppend,
    /// Versions jump by one after the second.
    GapInVersions,
    /// Two events of the store are read in the wrong order.
    Reordered,
    /// Expectations are not looked at.
    Unconditional,
    /// A conflict tells another version than was found.
    WrongConflict,
    /// A repeated append writes its events again.
    WritesTwice,
    /// A repeated id is accepted with any content.
    AcceptsOtherContent,
    /// Fences are not looked at.
    Unfenced,
    /// The last event is not read yet.
    LosesLastWrite,
    /// Limits are not looked at.
    Unbounded,
    /// Truncations do nothing.
    KeepsTruncated,
    /// Tombstones do nothing.
    KeepsTombstoned,
    /// A subscription leaves out the first event after it caught up.
    SkipsLive,
    /// A subscription repeats the last event when it caught up.
    RepeatsAtHandover,
    /// A wait returns at once.
    NeverWaits,
    /// Backward is forward.
    NeverBackward,
    /// Filters admit everything.
    Unfiltered,
    /// Parts without events are not looked at.
    IgnoresChecks,
    /// Facts beside the payload are not stored.
    DropsMetadata,
    /// The correlation of the context is not stored.
    DropsCorrelation,
    /// The baggage of the context is not stored.
    DropsBaggage,
    /// A page passes over an event that is committed late, as one does that reads by a sequence.
    SkipsLateCommits,
    /// A subscription tells a checkpoint before the events up to it.
    EarlyCheckpoint,
    /// A subscription drops an event when its reader is slow.
    DropsForSlowReaders,
    /// Bounds of time are not looked at.
    Timeless,
    /// A read forward from beyond the first version begins one event late.
    OffByOneRange,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 26] = [
        (Self::HalfAppend, "all_or_nothing"),
        (Self::GapInVersions, "gapless"),
        (Self::Reordered, "ordered"),
        (Self::Unconditional, "one_winner"),
        (Self::WrongConflict, "expected"),
        (Self::WritesTwice, "idempotent"),
        (Self::AcceptsOtherContent, "idempotent"),
        (Self::Unfenced, "fenced"),
        (Self::LosesLastWrite, "read_your_writes"),
        (Self::Unbounded, "bounded_reads"),
        (Self::KeepsTruncated, "truncated"),
        (Self::KeepsTombstoned, "tombstoned"),
        (Self::SkipsLive, "live_without_gap"),
        (Self::RepeatsAtHandover, "live_without_gap"),
        (Self::NeverWaits, "waits_for_a_position"),
        (Self::NeverBackward, "backward"),
        (Self::Unfiltered, "filtered"),
        (Self::IgnoresChecks, "checks_alone"),
        (Self::DropsMetadata, "kept_whole"),
        (Self::DropsCorrelation, "kept_whole"),
        (Self::DropsBaggage, "kept_whole"),
        (Self::SkipsLateCommits, "pages_never_skip"),
        (Self::EarlyCheckpoint, "resumed"),
        (Self::DropsForSlowReaders, "slow_reader_loses_nothing"),
        (Self::Timeless, "filtered"),
        (Self::OffByOneRange, "ranged"),
    ];
}

/// A right store with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn EventStore>,
    bug: Bug,
}

impl Wrong {
    /// Plants a bug into a right store.
    pub fn plant(right: Arc<dyn EventStore>, bug: Bug) -> Arc<dyn EventStore> {
        Arc::new(Self { right, bug })
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    /// Appends events that are the same but for their ids.
    async fn again(&self, mut append: Append) -> Result<Appended> {
        let random = Random::from_system();
        for part in &mut append.streams {
            part.expected = Expected::Any;
            for event in &mut part.events {
                event.id = EventId::generate(infra_core::clock::Timestamp::EPOCH, &random);
            }
        }
        self.right.append(append).await
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "each bug is about a few cases")]
#[async_trait]
impl EventStore for Wrong {
    async fn append(&self, mut append: Append) -> Result<Appended> {
        match self.bug {
            Bug::Unconditional => {
                for part in &mut append.streams {
                    part.expected = Expected::Any;
                }
            }
            Bug::Unfenced => append.fence = None,
            Bug::IgnoresChecks => append.streams.retain(|part| !part.events.is_empty()),
            Bug::DropsMetadata => {
                for event in append.streams.iter_mut().flat_map(|part| &mut part.events) {
                    event.metadata.clear();
                }
            }
            Bug::HalfAppend if append.streams.len() > 1 => {
                let first: Vec<_> = append.streams.iter().take(1).cloned().collect();
                let half = Append { streams: first, ..append.clone() };
                let result = self.right.append(append).await;
                if result.is_err() {
                    self.right.append(half).await?;
                }
                return result;
            }
            Bug::WritesTwice => {
                let appended = self.right.append(append.clone()).await?;
                return if appended.is_duplicate { self.again(append).await } else { Ok(appended) };
            }
            Bug::AcceptsOtherContent => {
                let versions = append.streams.iter().map(|_| Version::new(2)).collect();
                let result = self.right.append(append).await;
                let is_invalid =
                    matches!(&result, Err(error) if *error.kind() == ErrorKind::Invalid);
                let position = self.right.stable_head().await?;
                let first = Appended { position, versions, is_duplicate: true };
                return if is_invalid { Ok(first) } else { result };
            }
            Bug::WrongConflict => {
                return self.right.append(append).await.map_err(|error| match error.kind() {
                    ErrorKind::Conflict { expected, actual } => {
                        let (expected, actual) = (*expected, actual.next());
                        let kind = ErrorKind::Conflict { expected, actual };
                        infra_core::Error::new(kind, "append to stream")
                    }
                    _ => error,
                });
            }
            _ => {}
        }
        self.right.append(append).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        let limit = if self.is(Bug::Unbounded) { usize::MAX } else { limit };
        let direction = if self.is(Bug::NeverBackward) { Direction::Forward } else { direction };
        let mut events = self.right.read_stream(stream, from, direction, limit).await?;
        if self.is(Bug::GapInVersions) {
            for event in events.iter_mut().skip(2) {
                event.version = event.version.next();
            }
        }
        if self.is(Bug::LosesLastWrite) {
            events.pop();
        }
        if self.is(Bug::OffByOneRange) && direction == Direction::Forward && 5 < from.get() {
            events.drain(..1.min(events.len()));
        }
        if self.is(Bug::DropsCorrelation) {
            for event in &mut events {
                event.correlation = None;
            }
        }
        if self.is(Bug::DropsBaggage) {
            for event in &mut events {
                event.headers.remove("baggage");
            }
        }
        Ok(events)
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        let mut filter = filter.clone();
        match self.bug {
            Bug::Unfiltered => filter = Filter::default(),
            Bug::Timeless => (filter.recorded_from, filter.recorded_to) = (None, None),
            _ => {}
        }
        let mut page = self.right.read_all(after, &filter, limit).await?;
        if self.is(Bug::SkipsLateCommits) {
            // It is not there yet when the page is read, and below `read_to` when it is.
            page.events.retain(|event| event.position.get() % 16 != 15);
        }
        if self.is(Bug::Reordered) && page.events.len() > 2 {
            page.events.swap(0, 1);
        }
        Ok(page)
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        let right = self.right.subscribe(after, filter).await?;
        let (bug, mut next) = (self.bug, None);
        match bug {
            Bug::EarlyCheckpoint => {
                let head = self.right.stable_head().await?;
                next = Some(SubscriptionItem::Checkpoint(head.previous().previous()));
            }
            Bug::SkipsLive | Bug::RepeatsAtHandover | Bug::DropsForSlowReaders => {}
            _ => return Ok(right),
        }
        Ok(Box::pin(WrongLive { right, bug, is_live: false, last: None, next, n_events: 0 }))
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        self.right.stream_info(stream).await
    }

    async fn stable_head(&self) -> Result<Position> {
        self.right.stable_head().await
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        if self.is(Bug::NeverWaits) {
            return Ok(());
        }
        self.right.wait_for(position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        if self.is(Bug::KeepsTruncated) {
            return Ok(());
        }
        self.right.truncate_before(stream, before).await
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        if self.is(Bug::KeepsTombstoned) {
            return Ok(());
        }
        self.right.tombstone(stream, expected).await
    }
}

/// A subscription that skips, repeats or tells too early how far it is.
struct WrongLive {
    right: Subscription,
    bug: Bug,
    is_live: bool,
    last: Option<Box<RecordedEvent>>,
    next: Option<SubscriptionItem>,
    n_events: u64,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "each bug is about a few cases")]
impl WrongLive {
    /// Returns whether an event is left out.
    fn drops(&mut self) -> bool {
        self.n_events += 1;
        let is_dropped = match self.bug {
            Bug::SkipsLive => self.is_live,
            Bug::DropsForSlowReaders => self.n_events == 100,
            _ => false,
        };
        self.is_live &= !is_dropped;
        is_dropped
    }
}

impl Stream for WrongLive {
    type Item = Result<SubscriptionItem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(Ok(next)));
        }
        loop {
            let item = match self.right.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(item))) => item,
                other @ (Poll::Ready(_) | Poll::Pending) => return other,
            };
            match &item {
                SubscriptionItem::Event(_) if self.drops() => continue,
                SubscriptionItem::Event(event) => self.last = Some(event.clone()),
                SubscriptionItem::CaughtUp(_) => {
                    self.is_live = true;
                    if self.bug == Bug::RepeatsAtHandover {
                        self.next = self.last.clone().map(SubscriptionItem::Event);
                    }
                }
                SubscriptionItem::Checkpoint(_) => {}
            }
            return Poll::Ready(Some(Ok(item)));
        }
    }
}
