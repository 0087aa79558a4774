//! Stored events as signals: whatever was committed is removed from the cache, in order, and nothing is skipped.

use std::{fmt::Debug, sync::Arc, time::Duration};

use infra_core::{
    Error, ErrorKind, Result,
    backoff::Backoff,
    event::{EventStore, Filter, RecordedEvent, Subscription, SubscriptionItem},
    lifecycle::Stop,
    version::Position,
};
use tokio::sync::watch;

use super::{invalidator::Invalidator, signal::Signal};
use crate::telemetry::{RULES, Ruled};

/// Follows an event store and applies the rules of an [`Invalidator`] to its events.
///
/// It begins at the end of the store and empties the cache, since nobody told what happened before; or it
/// goes on where an earlier one ended, and then a second tier keeps what it has. An event that cannot be read, or
/// lacks a field that a rule names, may be about anything, so it empties the cache.
#[derive(Debug)]
#[must_use = "nothing is heard unless it runs"]
pub struct Feed {
    events: Arc<dyn EventStore>,
    filter: Filter,
    invalidator: Invalidator,
    from: Option<Position>,
    reached: watch::Sender<Position>,
}

/// Tells how far a [`Feed`] is.
#[derive(Debug, Clone)]
pub struct FeedHandle(watch::Receiver<Position>);

impl FeedHandle {
    /// Returns up to where all events are applied.
    pub fn position(&self) -> Position {
        *self.0.borrow()
    }

    /// Waits until the event at `position` is applied: a read after that sees nothing older.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) after `patience`, [`Closed`](ErrorKind::Closed) if the feed has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        const WAIT: &str = "wait for invalidation";
        let mut reached = self.0.clone();
        let waited = tokio::time::timeout(patience, reached.wait_for(|at| position <= *at)).await;
        let ended = waited.map_err(|_| Error::new(ErrorKind::Timeout, WAIT))?;
        ended.map(drop).map_err(|_| Error::new(ErrorKind::Closed, WAIT))
    }
}

/// How often a store is asked again that fails, or a cache.
const PAUSE: Backoff =
    Backoff::exponential(Duration::from_millis(100)).capped_at(Duration::from_secs(5));

impl Feed {
    /// Creates a feed of the events that fit a filter, and the handle that tells how far it is.
    pub fn new(
        events: Arc<dyn EventStore>,
        filter: Filter,
        invalidator: Invalidator,
    ) -> (Self, FeedHandle) {
        let (reached, receiver) = watch::channel(Position::ZERO);
        (Self { events, filter, invalidator, from: None, reached }, FeedHandle(receiver))
    }

    /// Goes on after a position where an earlier feed ended, instead of emptying the cache.
    pub fn after(mut self, position: Position) -> Self {
        self.note(position);
        self
    }

    /// Applies events until it is told to stop. A store or cache that fails is asked again; no event is skipped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it; go on from [`FeedHandle::position`].
    pub async fn run(mut self, stop: Stop) {
        let mut failures = 0;
        loop {
            let before = self.from;
            tokio::select! {
                () = stop.requested() => return,
                _ended = self.follow() => {}
            }
            failures = if before == self.from { failures + 1 } else { 1 };
            RULES.add_for(Ruled::Failed, 1);
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(PAUSE.pause_before(failures)) => {}
            }
        }
    }

    /// Applies events until something fails; what is applied is noted, so it goes on after that.
    async fn follow(&mut self) -> Result<()> {
        let from = match self.from {
            Some(from) => from,
            None => self.begin().await?,
        };
        let mut subscription = self.events.subscribe(from, self.filter.clone()).await?;
        while let Some(item) = next(&mut subscription).await {
            match item? {
                SubscriptionItem::Event(event) => {
                    self.apply(&event).await?;
                    self.note(event.position);
                }
                SubscriptionItem::Checkpoint(at) | SubscriptionItem::CaughtUp(at) => self.note(at),
            }
        }
        Ok(())
    }

    /// Takes the end of the store, and only then empties the cache: what is loaded after that knows all before it.
    async fn begin(&mut self) -> Result<Position> {
        let head = self.events.stable_head().await?;
        self.invalidator.cache.purge_everything().await?;
        self.note(head);
        Ok(head)
    }

    async fn apply(&self, event: &RecordedEvent) -> Result<()> {
        if !self.invalidator.rules.know(event.event.event_type.as_str()) {
            return Ok(());
        }
        let signal = Signal::of(event);
        let handled = match &signal {
            Ok(signal) => self.invalidator.handle(signal).await,
            Err(error) => Err(error.clone()),
        };
        match handled {
            Err(error) if !is_of_cache(&error) => {
                RULES.add_for(Ruled::Unreadable, 1);
                self.invalidator.cache.purge_everything().await
            }
            handled => handled.map(|_| ()),
        }
    }

    fn note(&mut self, position: Position) {
        self.from = Some(position);
        self.reached.send_replace(position);
    }
}

/// Returns whether an error is about the cache, so that the event can be applied later.
const fn is_of_cache(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::Corrupt)
}

async fn next(subscription: &mut Subscription) -> Option<Result<SubscriptionItem>> {
    std::future::poll_fn(|context| subscription.as_mut().poll_next(context)).await
}
