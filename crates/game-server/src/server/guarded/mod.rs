//! Policies around the stores and the bus: no call waits for ever, one that fails is left alone for a
//! moment, and only what may be repeated is tried again.
//!
//! A player's action comes with a deadline and a budget of extra attempts in its context, which the
//! policies keep to.
//!
//! A call is a span of the trace that it is made for, whatever the policies do with it.
//!
//! An append may: the store knows the ids of events that it has. A commit of documents may not,
//! since what it expects is no longer so once it was done.

mod archive;
mod bus;
mod documents;
mod events;
#[cfg(test)]
mod tests;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use infra_core::{
    Clock, Result,
    archive::ArchiveStore,
    backoff::{Backoff, Jitter},
    context::Context,
    event::EventStore,
    health::HealthCheck,
    metric::Label as _,
    pubsub::PubSub,
    store::DocumentStore,
};
use infra_observability::trace::traced_result;
use infra_resilience::{
    Advice, Around, Breaker, BreakerHealth, Bulkhead, Call, Direct, Idempotent, Pipeline,
    Policy as _, Refused, Retry, RetryBudget, Timeout, breaker, bulkhead,
};

use crate::telemetry::{STORE_BREAKER, Store};

use self::{
    archive::GuardedArchive, bus::GuardedBus, documents::GuardedDocuments, events::GuardedEvents,
};

/// The longest pause of a store that fails, so that the game goes on soon after it is back: what hangs just
/// then, this pause and the client's are less than five seconds together.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How many calls may run and wait at one store: every room that plays has one at most.
const RUNNING: usize = 1_024;
const WAITING: usize = 8_192;

/// Breaker, bulkhead and timeout, from the outside in.
type Once = Pipeline<Around<Around<Around<Direct, Breaker>, Bulkhead>, Timeout>>;

/// The same with a retry around them.
type Again = Pipeline<Around<Around<Around<Around<Direct, Retry>, Breaker>, Bulkhead>, Timeout>>;

/// The policies around one store, or the bus; they share its breaker and its places.
#[derive(Debug, Clone)]
struct Guard {
    store: Store,
    breaker: Breaker,
    /// For calls that must not be made twice.
    once: Once,
    /// For reads.
    read: Again,
    /// For writes that may be repeated.
    write: Again,
}

impl Guard {
    fn new(store: Store, patience: Duration, budget: &RetryBudget, clock: &Arc<dyn Clock>) -> Self {
        let open = Backoff::exponential(Duration::from_millis(250))
            .capped_at(LONGEST_PAUSE)
            .jitter(Jitter::Within(10));
        let options = breaker::Options::default()
            .consecutive(const { NonZeroU32::new(5).unwrap() })
            .probes(1)
            .probe_patience(patience)
            .open_for(open)
            .gauge(move |state| STORE_BREAKER.set_for(store, state.level()));
        let breaker = Breaker::new(options, Arc::clone(clock));
        let places = bulkhead::Options::new(RUNNING).queue(WAITING).wait(patience);
        let places = Bulkhead::new(places, Arc::clone(clock));
        let timeout = Timeout::new(patience, Arc::clone(clock));
        let again = |timeout: Timeout| {
            Pipeline::new()
                .then(retry(budget, clock))
                .then(breaker.clone())
                .then(places.clone())
                .then(timeout)
        };
        Self {
            store,
            once: Pipeline::new().then(breaker.clone()).then(places.clone()).then(timeout.clone()),
            read: again(timeout.clone()),
            write: again(timeout.of_writes()),
            breaker,
        }
    }

    /// Makes a call that must not be made twice.
    async fn once<C: Call>(&self, operation: &'static str, call: C) -> Result<C::Output> {
        self.traced(operation, self.once.run(operation, call)).await
    }

    /// Makes a call that reads.
    async fn read<C: Call<Safety = Idempotent>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> Result<C::Output> {
        self.traced(operation, self.read.run(operation, call)).await
    }

    /// Makes a call that writes what may be written again.
    async fn write<C: Call<Safety = Idempotent>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> Result<C::Output> {
        self.traced(operation, self.write.run(operation, call)).await
    }

    /// Makes a call a span of the trace that it is made for. One that belongs to none, as those of
    /// projections and health checks, begins none.
    async fn traced<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if Context::current_trace().is_none() {
            return call.await;
        }
        let store = self.store.value();
        let span = tracing::info_span!("store.call", otel.name = operation, store);
        traced_result(span, call).await
    }
}

/// Three attempts within a fraction of a second; a store that is left alone is not asked again.
fn retry(budget: &RetryBudget, clock: &Arc<dyn Clock>) -> Retry {
    Retry::new(3, Backoff::exponential(Duration::from_millis(20)), Arc::clone(clock))
        .advise(|error| match Refused::of(error) {
            Some(_) => Advice::GiveUp,
            None => Advice::of(error),
        })
        .budget(budget.clone())
}

/// The stores and the bus of a server behind their policies.
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) events: Arc<dyn EventStore>,
    pub(super) documents: Arc<dyn DocumentStore>,
    pub(super) archive: Arc<dyn ArchiveStore>,
    pub(super) bus: Arc<dyn PubSub>,
    /// Which of them are left alone at present.
    pub(super) health: Arc<dyn HealthCheck>,
}

impl Guarded {
    /// Puts policies around each store, and around the bus: one call takes no longer than `patience`.
    pub(super) fn new(
        (events, documents, archive): (
            Arc<dyn EventStore>,
            Arc<dyn DocumentStore>,
            Arc<dyn ArchiveStore>,
        ),
        bus: Arc<dyn PubSub>,
        patience: Duration,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let budget = RetryBudget::new(Arc::clone(clock));
        let guard = |store| (store, Guard::new(store, patience, &budget, clock));
        let guards = [Store::Events, Store::Documents, Store::Archive, Store::Bus].map(guard);
        let health = guards.iter().fold(BreakerHealth::new("stores"), |health, (store, guard)| {
            health.breaker(store.value(), guard.breaker.clone())
        });
        let [of_events, of_documents, of_archive, of_bus] = guards.map(|(_, guard)| guard);
        Self {
            events: Arc::new(GuardedEvents::new(events, of_events)),
            documents: Arc::new(GuardedDocuments::new(documents, of_documents)),
            archive: Arc::new(GuardedArchive::new(archive, of_archive)),
            bus: Arc::new(GuardedBus::new(bus, of_bus)),
            health: Arc::new(health),
        }
    }
}
