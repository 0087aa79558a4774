//! The archivist: archives streams some time after the event that ended them.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use infra_core::{
    ErrorKind, Result,
    backoff::Backoff,
    clock::{Clock, Timestamp},
    event::{EventStore as _, Filter},
    id::{EventType, StreamName},
    lifecycle::Stop,
    version::Position,
};

use super::store::ArchivedEventStore;

/// How many events are read at a time.
const PAGE: usize = 256;

/// How often it looks for ended streams, and whether one is due.
const LOOK: Duration = Duration::from_secs(1);

/// Archives streams once they have been ended for so long.
///
/// It keeps nothing of its own: after a restart it finds ended streams in the store again, and
/// passes over those that are archived.
///
/// ```no_run
/// # use std::{sync::Arc, time::Duration};
/// # use infra_core::{SystemClock, id::EventType, lifecycle::Shutdown};
/// # use infra_events::archive::{Archivist, ArchivedEventStore};
/// # fn example(store: ArchivedEventStore, shutdown: &Shutdown) -> infra_core::Result<()> {
/// let archivist = Archivist::new(store, SystemClock::shared())
///     .ended_by(EventType::new("game_completed")?)
///     .after(Duration::from_secs(3_600));
/// let stop = shutdown.stop();
/// shutdown.spawn(async move { archivist.run(stop).await });
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Archivist {
    store: ArchivedEventStore,
    clock: Arc<dyn Clock>,
    filter: Filter,
    delay: Duration,
    drain: Duration,
    position: Position,
    /// Ended streams by when they are due.
    pending: BTreeSet<(Timestamp, StreamName)>,
    known: HashSet<StreamName>,
}

impl Archivist {
    /// Creates an archivist of streams that no event type ends yet; it waits an hour after one,
    /// and takes up to 10 seconds to archive the rest when it is told to stop.
    pub fn new(store: ArchivedEventStore, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            filter: Filter::default(),
            delay: Duration::from_hours(1),
            drain: Duration::from_secs(10),
            position: Position::ZERO,
            pending: BTreeSet::new(),
            known: HashSet::new(),
        }
    }

    /// Adds a type of events that end their stream.
    #[must_use]
    pub fn ended_by(mut self, event_type: EventType) -> Self {
        self.filter.event_types.push(event_type);
        self
    }

    /// Sets how long after its end a stream is archived; an hour by default.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets how long stopping may take; 10 seconds by default.
    #[must_use]
    pub const fn drain_within(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// Returns how many ended streams wait to be archived.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Looks for ended streams, and archives those that are due; returns how many.
    ///
    /// # Errors
    ///
    /// What the stores fail with; the stream is tried again the next time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves streams archived, or as they were.
    pub async fn sweep(&mut self) -> Result<usize> {
        self.find().await?;
        let now = self.clock.wall();
        self.archive_until(now).await
    }

    /// Archives all ended streams now, due or not.
    ///
    /// # Errors
    ///
    /// As for [`Archivist::sweep`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Archivist::sweep`].
    pub async fn drain(&mut self) -> Result<usize> {
        self.find().await?;
        self.archive_until(Timestamp::from_millis(u64::MAX)).await
    }

    /// Sweeps each second until it is told to stop, then archives what waits within its limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves streams archived, or as they were.
    pub async fn run(mut self, stop: Stop) {
        let backoff = Backoff::exponential(LOOK).capped_at(Duration::from_mins(1));
        let mut failures = 0;
        while !stop.is_requested() {
            failures = match self.sweep().await {
                Ok(_) => 0,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "not archived");
                    failures + 1
                }
            };
            tokio::select! {
                () = stop.requested() => {}
                () = tokio::time::sleep(backoff.pause_before(failures.max(1))) => {}
            }
        }
        match tokio::time::timeout(self.drain, self.drain()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "not archived");
            }
            Err(_) => tracing::warn!(pending = self.pending.len(), "left for the next start"),
        }
    }

    /// Reads on, and notes streams that ended.
    async fn find(&mut self) -> Result<()> {
        loop {
            let page = self.store.read_all(self.position, &self.filter, PAGE).await?;
            for event in page.events {
                let is_new =
                    !self.filter.event_types.is_empty() && !self.known.contains(&event.stream);
                if is_new && !self.store.is_archived(&event.stream).await? {
                    self.known.insert(event.stream.clone());
                    self.pending.insert((event.recorded.plus(self.delay), event.stream));
                }
            }
            self.position = page.read_to;
            if page.is_end {
                return Ok(());
            }
        }
    }

    async fn archive_until(&mut self, now: Timestamp) -> Result<usize> {
        let mut count = 0;
        while let Some((due, stream)) = self.pending.first().cloned() {
            if now < due {
                break;
            }
            match self.store.archive(&stream).await {
                Ok(_) => count += 1,
                // It was tombstoned meanwhile.
                Err(error) if *error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.pending.remove(&(due, stream.clone()));
            self.known.remove(&stream);
        }
        Ok(count)
    }
}
