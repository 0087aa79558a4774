//! The service that hands entities over: it looks for what is due, within its bounds.

use std::{ops::Bound, sync::Arc, time::Duration};

use infra_core::{
    Clock as _, ErrorKind, Result,
    clock::Timestamp,
    lifecycle::Stop,
    store::{Document, Query},
};
use tokio::task::JoinSet;

use super::{
    schedule::Priority,
    store::{Inner, PAGE, by_time},
};
use crate::{archive::Vault, repository::Entity, telemetry::HandOver};

/// The most entities that one look hands over for idleness or pressure.
const LOOK: usize = 10_000;

/// Hand-overs that are under way; dropping it ends them, and they are done again after a start.
type Flights = JoinSet<HandOver>;

/// What was done at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Entities that were handed over while the service stopped.
    pub archived: usize,
    /// Hand-overs that wait in the outbox for the next start.
    pub left: usize,
}

/// Hands entities of a [`Hybrid`](super::Hybrid) over to the archive.
#[derive(Debug)]
pub struct Archivist<E> {
    inner: Arc<Inner<E>>,
}

impl<E: Entity> Archivist<E> {
    pub(super) const fn new(inner: Arc<Inner<E>>) -> Self {
        Self { inner }
    }

    /// Hands over what is due, until it is told to stop; then what the options say of it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops at once; what was not acknowledged waits in the outbox.
    pub async fn run(self, stop: Stop) -> Drained {
        let stopped = stop.requested();
        tokio::pin!(stopped);
        let options = &self.inner.options;
        let mut flights = JoinSet::new();
        let mut look = options.clock.wall().plus(options.interval);
        while !stop.is_requested() {
            if look <= options.clock.wall() {
                if let Err(error) = self.look().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "look for idle ones");
                }
                look = options.clock.wall().plus(options.interval);
            }
            let due = self.launch(&mut flights).map_or(look, |due| due.min(look));
            let pause = due.since(options.clock.wall()).max(Duration::from_millis(1));
            tokio::select! {
                biased;
                () = &mut stopped => break,
                Some(_) = flights.join_next() => {}
                () = self.inner.wake.notified() => self.linger(&mut stopped).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.drain(flights).await
    }

    /// Hands over everything that is due now, and returns how many entities were archived.
    ///
    /// # Cancel safety
    ///
    /// As for [`Archivist::run`].
    pub async fn run_due(&self) -> usize {
        self.finish(JoinSet::new()).await
    }

    async fn finish(&self, mut flights: Flights) -> usize {
        let mut archived = 0;
        loop {
            self.launch(&mut flights);
            let Some(outcome) = flights.join_next().await else { return archived };
            archived += usize::from(matches!(outcome, Ok(HandOver::Archived)));
        }
    }

    /// Starts what is ready, as many at once as may be; returns when the next one is due.
    fn launch(&self, flights: &mut Flights) -> Option<Timestamp> {
        let options = &self.inner.options;
        let mut schedule = self.inner.schedule.lock();
        schedule.promote(options.clock.wall());
        for (key, ticket) in schedule.take(options.concurrency.saturating_sub(flights.len())) {
            let inner = Arc::clone(&self.inner);
            flights.spawn(async move { inner.hand_over(key, ticket).await });
        }
        schedule.next_due()
    }

    /// Looks for idle entities, pressure, and rows that the schedule does not know.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the look; it may be repeated.
    pub async fn look(&self) -> Result<()> {
        let inner = &self.inner;
        inner.recall().await?;
        if let Some(idle) = inner.options.idle {
            let now = inner.options.clock.wall();
            let until = Timestamp::from_millis(
                now.as_millis().saturating_sub(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
            );
            self.submit_kept(until, Priority::Low, usize::MAX).await?;
        }
        if let Some(percent) = inner.options.pressure {
            let excess = inner.excess(percent);
            self.submit_kept(Timestamp::from_millis(u64::MAX), Priority::High, excess).await?;
        }
        Ok(())
    }

    /// Hands over up to `wanted` entities that were neither saved nor read after a time.
    async fn submit_kept(&self, until: Timestamp, priority: Priority, wanted: usize) -> Result<()> {
        let inner = &self.inner;
        let mut query = Query {
            from: Bound::Unbounded,
            to: Bound::Included(by_time(until)),
            ..Query::equal(inner.indexes.kept.clone(), "", PAGE)
        };
        let (mut seen, mut submitted) = (0, 0);
        while seen < LOOK && submitted < wanted {
            let page = inner.documents().query(inner.collection(), query.clone()).await?;
            let Some(last) = page.last() else { break };
            let kept = last.terms.iter().find(|term| term.index == inner.indexes.kept);
            query.after = kept.map(|term| (term.value.clone(), last.key.clone()));
            seen += page.len();
            for document in page {
                if submitted == wanted || !inner.may_go(&document, until) {
                    continue;
                }
                match inner.submit(&document, priority).await {
                    Ok(()) => submitted += 1,
                    // It changed meanwhile: it is not idle.
                    Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {}
                    Err(error) if *error.kind() == ErrorKind::Overloaded => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Waits for a batch to fill, but not for long.
    async fn linger(&self, stopped: &mut (impl Future<Output = ()> + Unpin)) {
        let options = &self.inner.options;
        let filling = async {
            while self.inner.schedule.lock().promote(options.clock.wall()) < options.batch {
                self.inner.wake.notified().await;
            }
        };
        tokio::select! {
            () = stopped => {}
            _ = tokio::time::timeout(options.linger, filling) => {}
        }
    }

    /// Hands over what waits, as long as the options allow.
    async fn drain(&self, flights: Flights) -> Drained {
        let mut archived = 0;
        if let Some(at_most) = self.inner.options.drains {
            let draining = async {
                self.inner.schedule.lock().hurry(self.inner.options.clock.wall());
                archived = self.finish(flights).await;
            };
            // What is not done by then waits in the outbox.
            let _in_time = tokio::time::timeout(at_most, draining).await.is_ok();
        }
        Drained { archived, left: self.inner.schedule.lock().len() }
    }
}

impl<E: Entity> Inner<E> {
    /// Returns whether an entity may be handed over: nobody read it, nothing of it waits, and it is
    /// not given up in this version.
    fn may_go(&self, document: &Document, until: Timestamp) -> bool {
        let is_read = |touched: Timestamp| until < touched;
        !Vault::is_stub(&document.payload)
            && !self.schedule.lock().has(&document.key)
            && !self.repository.residents().peek(&document.key).is_some_and(|(_, t)| is_read(t))
    }

    /// Returns how many entities memory holds beyond a percentage of its limits.
    fn excess(&self, percent: u8) -> usize {
        let usage = self.repository.usage();
        let (entries, bytes) = self.options.limits.fraction(percent);
        let by_bytes = usage.bytes.saturating_sub(bytes).saturating_mul(usage.entries.max(1));
        let by_bytes = by_bytes.div_ceil(usage.bytes.max(1));
        usage.entries.saturating_sub(entries).max(by_bytes)
    }
}
