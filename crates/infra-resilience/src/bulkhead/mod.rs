//! A bound on calls that run at the same time.

pub(crate) mod gate;
mod keyed;
mod line;
#[cfg(test)]
mod line_tests;

use std::{fmt, sync::Arc, time::Duration};

use infra_core::{
    Clock, Result,
    budget::{CallBudget, Priority},
    context::Context,
};

use self::gate::{ClientKey, Entry, Gate, Held};
pub use self::keyed::PerKey;
use crate::{
    call::{Call, Safety},
    pipeline::Policy,
    refused::{Reason, Refused},
};

/// What the files of the core take their lock and their channel from; the loom test puts its own in this
/// place.
mod sync {
    pub(super) use parking_lot::Mutex;
    pub(super) use tokio::sync::oneshot;
}

/// How many calls may run and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    concurrent: usize,
    queue: usize,
    wait: Duration,
}

impl Options {
    /// Lets so many calls run at the same time; at least one.
    pub fn new(concurrent: usize) -> Self {
        Self { concurrent: concurrent.max(1), queue: 100, wait: Duration::from_secs(30) }
    }

    /// Sets how many may wait; 100 by default. The next is refused at once, or takes the place of
    /// one with a lower priority, or of the client that holds most places.
    #[must_use]
    pub const fn queue(mut self, waiters: usize) -> Self {
        self.queue = waiters;
        self
    }

    /// Sets how long a call waits at most; 30 s by default, never beyond the context's deadline.
    #[must_use]
    pub const fn wait(mut self, limit: Duration) -> Self {
        self.wait = limit;
        self
    }
}

/// Lets a number of calls run at the same time; others wait, in a bounded and fair line.
///
/// The priority is that of the context's [`CallBudget`]. Within a
/// priority clients take turns ([`Bulkhead::client`]), and a client's calls keep their order: a
/// bulkhead of one place is a serial lane. Clones share the places.
///
/// ```
/// use infra_core::SystemClock;
/// use infra_resilience::{Bulkhead, Policy as _, Reason, Refused, bulkhead, idempotent};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let options = bulkhead::Options::new(1).queue(0);
/// let bulkhead = Bulkhead::new(options, SystemClock::shared());
/// let place = bulkhead.enter("load").await?;
/// let refused = bulkhead.run("load", idempotent(|| async { Ok(7) })).await.unwrap_err();
/// assert_eq!(Refused::of(&refused).map(Refused::reason), Some(Reason::QueueFull));
/// drop(place);
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Bulkhead {
    gate: Arc<Gate>,
    wait: Duration,
    clock: Arc<dyn Clock>,
    client: ClientKey,
}

/// A place in a bulkhead; dropped, it goes to the next in line.
#[derive(Debug)]
#[must_use]
pub struct Seat {
    _held: Held,
}

/// What a bulkhead counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Calls that run.
    pub running: usize,
    /// Calls that wait.
    pub waiting: usize,
    /// The most that ever ran at the same time.
    pub peak: usize,
    /// Calls that got a place.
    pub admitted: u64,
    /// Calls that were refused one, at once or after a wait.
    pub refused: u64,
}

impl Bulkhead {
    /// Creates an empty bulkhead.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        let gate = Gate::new(options.concurrent, options.queue);
        Self { gate, wait: options.wait, clock, client: ClientKey::Borrowed("") }
    }

    /// Returns this bulkhead as one client sees it: clients that wait take turns.
    #[must_use]
    pub fn client(&self, client: impl Into<ClientKey>) -> Self {
        Self { client: client.into(), ..self.clone() }
    }

    /// Returns what is counted.
    pub fn stats(&self) -> Stats {
        let counts = self.gate.counts();
        Stats {
            running: counts.running,
            waiting: counts.waiting,
            peak: counts.peak,
            admitted: counts.admitted,
            refused: counts.refused,
        }
    }

    /// Returns whether nobody runs, waits or holds this bulkhead.
    pub(crate) fn is_idle(&self) -> bool {
        let counts = self.gate.counts();
        Arc::strong_count(&self.gate) == 1 && counts.running == 0 && counts.waiting == 0
    }

    /// Takes a place, waiting for it in line.
    ///
    /// # Errors
    ///
    /// [`Overloaded`](infra_core::ErrorKind::Overloaded) with [`Refused`] as its source.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the line; a place that was handed over just then
    /// goes to the next.
    pub async fn enter(&self, operation: &'static str) -> Result<Seat> {
        let held = wait_for_place(&self.gate, &self.client, self.wait, &*self.clock).await;
        let refused = |reason| Refused::error(reason, None, operation);
        held.map(|held| Seat { _held: held }).map_err(refused)
    }
}

/// Takes a place at a gate, waiting no longer than allowed.
pub(crate) async fn wait_for_place(
    gate: &Arc<Gate>,
    client: &ClientKey,
    limit: Duration,
    clock: &dyn Clock,
) -> std::result::Result<Held, Reason> {
    let context = Context::current();
    let priority = context.budget_of().map_or(Priority::Normal, CallBudget::priority_of);
    let waiting = match gate.enter(priority, client)? {
        Entry::Run(held) => return Ok(held),
        Entry::Wait(waiting) => waiting,
    };
    let left = context.deadline_of().map_or(limit, |deadline| deadline.left(clock.now()));
    tokio::time::timeout(limit.min(left), waiting.turn()).await.unwrap_or_else(|_| {
        gate.refuse();
        Err(Reason::WaitedTooLong)
    })
}

impl<S: Safety, T: Send> Policy<S, T> for Bulkhead {
    /// Runs a call once there is a place for it.
    ///
    /// # Errors
    ///
    /// The call's own, or as for [`Bulkhead::enter`], and then the call was not begun.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call and gives its place, also in the line, to the next.
    async fn run<C: Call<Safety = S, Output = T>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> Result<T> {
        if let Some(_place) = self.gate.enter_free() {
            return call.attempt().await;
        }
        let _seat = self.enter(operation).await?;
        call.attempt().await
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
