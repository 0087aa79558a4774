//! The event store: streams of events with versions, one global order, subscriptions.

use std::{collections::BTreeMap, fmt::Debug, pin::Pin, time::Duration};

use async_trait::async_trait;
use futures_core::Stream;

use crate::{
    clock::Timestamp,
    codec::Payload,
    context::Context,
    durability::Durability,
    error::Result,
    id::{CorrelationId, EventId, EventType, StreamName},
    lease::Fence,
    trace::TraceContext,
    version::{Expected, Position, Version},
};

/// The largest payload of one event, in bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// The most events in one append, over all its streams.
pub const MAX_EVENTS: usize = 10_000;

/// Small facts about an event that are not its payload, such as the number of the player's action.
pub type Metadata = BTreeMap<String, String>;

/// An event that is to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its id; appending the same id again is idempotent.
    pub id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// The event itself, with codec and schema version.
    pub payload: Payload,
    /// The event that caused it.
    pub causation: Option<EventId>,
    /// Facts beside the payload.
    pub metadata: Metadata,
}

impl NewEvent {
    /// Creates an event without causation and metadata.
    pub const fn new(id: EventId, event_type: EventType, payload: Payload) -> Self {
        Self { id, event_type, payload, causation: None, metadata: Metadata::new() }
    }

    /// Adds one fact.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Names the event that caused it.
    #[must_use]
    pub const fn caused_by(mut self, cause: EventId) -> Self {
        self.causation = Some(cause);
        self
    }
}

/// An event as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its place in the store.
    pub position: Position,
    /// The stream it belongs to.
    pub stream: StreamName,
    /// Its number in the stream.
    pub version: Version,
    /// The event as it was appended.
    pub event: NewEvent,
    /// When the store took it, by the store's clock.
    pub recorded: Timestamp,
    /// The correlation id of the context that appended it.
    pub correlation: Option<CorrelationId>,
    /// The trace of the context that appended it.
    pub trace: Option<TraceContext>,
    /// What that context carried beside the trace, under the names of [`Context::headers`].
    pub headers: Metadata,
}

impl RecordedEvent {
    /// Returns the context that appended it, as far as it is stored, for whoever goes on with it.
    pub fn context(&self) -> Context {
        let mut context = Context::default();
        if let Some(correlation) = self.correlation {
            context = context.correlation(correlation);
        }
        if let Some(trace) = self.trace {
            context = context.trace(trace);
        }
        context.with_headers(|name| self.headers.get(name))
    }
}

/// The events for one stream, and what must be true of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAppend {
    /// The stream.
    pub stream: StreamName,
    /// What version it must have; with no events this is a check alone.
    pub expected: Expected,
    /// The events, in order.
    pub events: Vec<NewEvent>,
}

/// One atomic append to one or more streams.
///
/// ```
/// use infra_core::{durability::Durability, event::Append, id::StreamName, version::Expected};
///
/// let stream = StreamName::new("room-7")?;
/// let append = Append::to(stream, Expected::Absent, vec![]);
/// assert_eq!(append.durability, Durability::Durable);
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The streams; each may stand once.
    pub streams: Vec<StreamAppend>,
    /// What must be reached before the append is acknowledged.
    pub durability: Durability,
    /// The proof of ownership, if the streams are owned.
    pub fence: Option<Fence>,
}

impl Append {
    /// Creates a durable append of `events` to one stream.
    pub fn to(stream: StreamName, expected: Expected, events: Vec<NewEvent>) -> Self {
        Self {
            streams: vec![StreamAppend { stream, expected, events }],
            durability: Durability::Durable,
            fence: None,
        }
    }

    /// Adds another stream to the same atomic append.
    #[must_use]
    pub fn and(mut self, stream: StreamName, expected: Expected, events: Vec<NewEvent>) -> Self {
        self.streams.push(StreamAppend { stream, expected, events });
        self
    }

    /// Sets the durability.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Carries a fence.
    #[must_use]
    pub fn fenced(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }
}

/// Where an append ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The position of the last event; of an append without events, the head.
    pub position: Position,
    /// The version of each stream of the append after its events, in the append's order.
    pub versions: Vec<Version>,
    /// Whether the events were there already and nothing was written.
    pub is_duplicate: bool,
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From older to newer.
    #[default]
    Forward,
    /// From newer to older.
    Backward,
}

/// Which events of the whole store to read; every part that is set must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// The stream's name starts with this.
    pub stream_prefix: Option<String>,
    /// The event is of one of these types; empty means any.
    pub event_types: Vec<EventType>,
    /// The event carries this correlation id.
    pub correlation: Option<CorrelationId>,
    /// The event was recorded at this time or later.
    pub recorded_from: Option<Timestamp>,
    /// The event was recorded at this time or earlier.
    pub recorded_to: Option<Timestamp>,
}

impl Filter {
    /// Returns whether `event` fits.
    pub fn admits(&self, event: &RecordedEvent) -> bool {
        let fits_stream = self
            .stream_prefix
            .as_ref()
            .is_none_or(|prefix| event.stream.as_str().starts_with(prefix.as_str()));
        let fits_type =
            self.event_types.is_empty() || self.event_types.contains(&event.event.event_type);
        let fits_correlation =
            self.correlation.is_none_or(|wanted| event.correlation == Some(wanted));
        let fits_time = self.recorded_from.is_none_or(|from| from <= event.recorded)
            && self.recorded_to.is_none_or(|to| event.recorded <= to);
        fits_stream && fits_type && fits_correlation && fits_time
    }
}

/// A part of the whole store, in order of position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// The events that fit the filter.
    pub events: Vec<RecordedEvent>,
    /// The last position that was looked at; read on after it.
    pub read_to: Position,
    /// Whether `read_to` was the stable head when this was read.
    pub is_end: bool,
}

/// What the store knows of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// The id of the stream's very first event: another one means another life of the name.
    pub incarnation: EventId,
    /// The first version that can still be read.
    pub first: Version,
    /// The version of the last event.
    pub last: Version,
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionItem {
    /// The next event that fits the filter.
    Event(Box<RecordedEvent>),
    /// All events up to here were looked at; resuming after it repeats and skips none.
    Checkpoint(Position),
    /// The subscription has reached the live end for the first time.
    CaughtUp(Position),
}

/// A subscription: it ends after the store is closed, or after its first error.
pub type Subscription = Pin<Box<dyn Stream<Item = Result<SubscriptionItem>> + Send>>;

/// Keeps streams of events.
///
/// # Contract
///
/// 1. **All or nothing:** a refused or failed append leaves no event behind, in no stream.
/// 2. **Gapless:** the versions of a stream count 1, 2, 3, ... without holes or repeats.
/// 3. **Ordered:** positions grow in the order of commit, and in a stream with its versions.
/// 4. **Expected:** an append whose expectation does not hold is a
///    [`Conflict`](crate::error::ErrorKind::Conflict) that says what was expected and found.
/// 5. **Idempotent:** appending events whose ids are in the stream already, with the same type,
///    schema and payload, gives the first result, whatever version is expected by then; with
///    other content, or only in part, it is [`Invalid`](crate::error::ErrorKind::Invalid).
/// 6. **Durable:** a durable append that was acknowledged survives the loss of power, and no
///    reader ever sees an event that a crash can undo.
/// 7. **Honest:** a write whose fate is unknown is
///    [`Indeterminate`](crate::error::ErrorKind::Indeterminate), never a plain failure.
/// 8. **Fenced:** an append whose fence is below the highest token seen for its scope is
///    [`Fenced`](crate::error::ErrorKind::Fenced) and writes nothing.
/// 9. **Read your writes:** after an append returned, every read of its streams sees its events;
///    after [`wait_for`](EventStore::wait_for) its position, every read of the whole store does.
/// 10. **Live without gap:** a subscription yields each fitting event once, in order, from its
///     start over the hand-over to live, and `CaughtUp` once.
/// 11. **Bounded reads:** a read returns at most `limit` events; zero means none.
/// 12. **Truncated:** events below the truncation are gone from reads; versions do not restart.
/// 13. **Tombstoned:** a tombstoned stream is gone for good; appending to it is
///     [`Denied`](crate::error::ErrorKind::Denied).
/// 14. **Checks alone:** a part without events is a condition on its stream, and writes nothing.
/// 15. **Kept whole:** an event is read as it was appended, with the correlation, trace, trace state
///     and baggage of the context, and the time of the store's clock.
/// 16. **Never skips:** whoever pages by `read_to` while others append sees each event once.
/// 17. **Resumed:** a subscription tells by `Checkpoint` how far it has looked, also over events
///     that do not fit; resuming there repeats and skips none, however slow the reader is.
#[async_trait]
pub trait EventStore: Send + Sync + Debug {
    /// Appends events to streams, all or nothing.
    ///
    /// Correlation, trace and [`headers`](Context::headers) are taken from the current context, the
    /// time from the store's clock.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::error::ErrorKind::Conflict), [`Fenced`](crate::error::ErrorKind::Fenced),
    /// [`Invalid`](crate::error::ErrorKind::Invalid) (too large, a stream named twice, a reused
    /// id), [`Denied`](crate::error::ErrorKind::Denied) (tombstoned),
    /// [`Indeterminate`](crate::error::ErrorKind::Indeterminate),
    /// [`Poisoned`](crate::error::ErrorKind::Poisoned) after a failed sync,
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) for a durability it cannot give.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the append done or not done, never in part. Repeating it with
    /// the same event ids is harmless.
    async fn append(&self, append: Append) -> Result<Appended>;

    /// Reads up to `limit` events of a stream, from version `from` on, in `direction`.
    ///
    /// Backward, `from` may be [`Version::MAX`] to begin at the end. A stream that does not exist
    /// has no events.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::error::ErrorKind::Corrupt) if a stored record fails its checksum.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>>;

    /// Reads events of all streams after position `after`, up to the stable head.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::error::ErrorKind::Corrupt) if a stored record fails its checksum.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage>;

    /// Subscribes to all events after position `after` that fit: first those that are stored, then
    /// live ones.
    ///
    /// Nothing is buffered without bound: a subscriber that falls behind reads from the store
    /// again, so it is slow but loses nothing.
    ///
    /// # Errors
    ///
    /// What the engine fails with at the start; later failures come through the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the subscription ends it; resume from its last `Checkpoint` or event.
    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription>;

    /// Returns what is known of a stream, or `None` if it was never written or is tombstoned.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>>;

    /// Returns the position of the last event up to which no other can appear any more.
    ///
    /// An engine with concurrent transactions holds it back below the oldest one that still writes.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn stable_head(&self) -> Result<Position>;

    /// Waits until the stable head has reached `position`.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::error::ErrorKind::Timeout) after `patience`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()>;

    /// Removes the events of a stream below version `before` from all reads.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::ErrorKind::NotFound) if there is no such stream,
    /// [`Invalid`](crate::error::ErrorKind::Invalid) if `before` is beyond the version after its last.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it done or not done; it may be repeated.
    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()>;

    /// Ends a stream for good: its events are gone and nobody can append to it again.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::ErrorKind::NotFound) if there is no such stream,
    /// [`Conflict`](crate::error::ErrorKind::Conflict) if it is not as expected.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it done or not done; it may be repeated.
    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn event(stream: &str, event_type: &str, correlation: Option<CorrelationId>) -> RecordedEvent {
        let id = EventId::generate(Timestamp::EPOCH, &Random::seeded(1));
        RecordedEvent {
            position: Position::new(1),
            stream: StreamName::new(stream).unwrap(),
            version: Version::new(1),
            event: NewEvent::new(id, EventType::new(event_type).unwrap(), Payload::raw("x"))
                .with("action", "1")
                .caused_by(id),
            recorded: Timestamp::EPOCH,
            correlation,
            trace: None,
            headers: Metadata::new(),
        }
    }

    #[test]
    fn an_event_gives_back_the_context_that_appended_it() {
        let correlation = CorrelationId::generate(Timestamp::EPOCH, &Random::seeded(2));
        let trace = TraceContext::root(&Random::seeded(3), true);
        let mut event = event("room-1", "played", Some(correlation));
        event.headers.insert("tracestate".to_owned(), "vendor=1".to_owned());
        event.headers.insert("baggage".to_owned(), "season=3".to_owned());
        let without = event.context();
        assert_eq!(without.trace_state_of().as_str(), "", "a state belongs to its trace");
        event.trace = Some(trace);
        let context = event.context();
        assert_eq!(context.correlation_id(), Some(correlation));
        assert_eq!(context.trace_context(), Some(trace));
        assert_eq!(context.headers(), event.headers);
    }

    #[test]
    fn a_filter_admits_only_what_fits_all_its_parts() {
        let correlation = CorrelationId::generate(Timestamp::EPOCH, &Random::seeded(2));
        let filter = Filter {
            stream_prefix: Some("room-".to_owned()),
            event_types: vec![EventType::new("played").unwrap()],
            correlation: Some(correlation),
            recorded_from: Some(Timestamp::EPOCH),
            recorded_to: Some(Timestamp::EPOCH),
        };
        assert!(filter.admits(&event("room-1", "played", Some(correlation))));
        assert!(!filter.admits(&event("bank-1", "played", Some(correlation))));
        assert!(!filter.admits(&event("room-1", "dealt", Some(correlation))));
        assert!(!filter.admits(&event("room-1", "played", None)));
        assert!(Filter::default().admits(&event("bank-1", "dealt", None)));
    }

    #[test]
    fn bounds_of_time_are_inclusive() {
        let at = |millis| {
            let recorded = Timestamp::from_millis(millis);
            RecordedEvent { recorded, ..event("room-1", "played", None) }
        };
        let (from, to) = (Some(Timestamp::from_millis(10)), Some(Timestamp::from_millis(20)));
        let filter = Filter { recorded_from: from, recorded_to: to, ..Filter::default() };
        let admitted: Vec<u64> = (8..=22).filter(|millis| filter.admits(&at(*millis))).collect();
        assert_eq!(admitted, (10..=20).collect::<Vec<u64>>());
    }

    #[test]
    fn an_append_of_several_streams_keeps_their_order() {
        let name = |text| StreamName::new(text).unwrap();
        let append = Append::to(name("a"), Expected::Absent, vec![])
            .and(name("b"), Expected::Any, vec![])
            .durability(Durability::Buffered);
        let streams: Vec<_> = append.streams.iter().map(|part| part.stream.as_str()).collect();
        assert_eq!((streams, append.durability), (vec!["a", "b"], Durability::Buffered));
    }
}
