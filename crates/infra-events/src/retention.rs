//! Retention: how much of a stream is kept.

use std::time::Duration;

use infra_core::{
    Result,
    clock::Timestamp,
    event::{Direction, EventStore, RecordedEvent},
    id::StreamName,
    version::Version,
};

/// How many events are read at a time.
const PAGE: usize = 512;

/// What is kept of a stream; by default everything.
///
/// ```
/// use std::time::Duration;
/// use infra_events::Retention;
///
/// let a_week_at_most = Retention::all().newest(10_000).younger_than(Duration::from_secs(604_800));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    newest: Option<u64>,
    age: Option<Duration>,
}

impl Retention {
    /// Keeps everything.
    pub const fn all() -> Self {
        Self { newest: None, age: None }
    }

    /// Keeps at most so many events, the newest ones.
    #[must_use]
    pub const fn newest(mut self, events: u64) -> Self {
        self.newest = Some(events);
        self
    }

    /// Keeps only events that are younger.
    #[must_use]
    pub const fn younger_than(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Returns whether an event of a stream that ends at `last` is to go.
    fn drops(self, event: &RecordedEvent, last: Version, now: Timestamp) -> bool {
        let behind = last.get() - event.version.get().min(last.get());
        let is_beyond = self.newest.is_some_and(|newest| newest <= behind);
        is_beyond || self.age.is_some_and(|age| age <= now.since(event.recorded))
    }

    /// Truncates a stream to what is kept of it; returns how many events went.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the stream as it was or truncated.
    pub async fn apply(
        self,
        store: &dyn EventStore,
        stream: &StreamName,
        now: Timestamp,
    ) -> Result<u64> {
        let Some(info) = store.stream_info(stream).await? else { return Ok(0) };
        let mut before = info.first;
        'reading: loop {
            let events = store.read_stream(stream, before, Direction::Forward, PAGE).await?;
            for event in &events {
                if !self.drops(event, info.last, now) {
                    break 'reading;
                }
                before = event.version.next();
            }
            if events.len() < PAGE {
                break;
            }
        }
        if info.first < before {
            store.truncate_before(stream, before).await?;
        }
        Ok(before.get() - info.first.get())
    }
}
