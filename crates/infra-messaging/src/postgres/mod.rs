//! A queue of many processes in PostgreSQL.

mod line;
mod options;
mod row;
mod store;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

pub use self::options::PostgresOptions;
use self::store::Store;
use crate::{
    queue::{Options, Overflow},
    telemetry::{HANDED_OUT, Outcome, QUEUED, REFUSED, SETTLED, Urgency},
};
use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    clock::Timestamp,
    durability::Durability,
    id::{MessageId, QueueName},
    queue::{Cause, DeadLetter, Delivery, Features, Lease, Message, Queue, Settlement, Stats},
};

/// How often an empty queue is asked again at first, and at most.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// Hands out the messages of all processes that use one table: each takes rows that no other has
/// locked (`FOR UPDATE SKIP LOCKED`). Clones are the same queue.
///
/// A commit is durable when it returns, unless the server was told otherwise. Everything of the
/// port's contract is kept; all processes need clocks that agree, since leases, delays and times to
/// live are judged by the wall clock of whoever asks. A queue that is full refuses; the other
/// policies, fairness to keys and their parking are those of the queues within a process, and are refused here.
/// Starvation is bounded for each process that receives: each so manieth of its receives takes the
/// oldest ready message. A receive polls, and asks less often the longer the queue is empty.
#[derive(Debug, Clone)]
pub struct PostgresQueue(Arc<Shared>);

struct Shared {
    name: QueueName,
    options: Options,
    clock: Arc<dyn Clock>,
    store: Store,
    patience: Duration,
    n_received: AtomicU32,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PostgresQueue {
    /// Opens the queue on the server at a URL, which is reached as [`PostgresOptions`] are by default.
    ///
    /// # Errors
    ///
    /// As for [`PostgresQueue::open`].
    ///
    /// # Cancel safety
    ///
    /// As for [`PostgresQueue::open`].
    pub async fn connect(
        url: &str,
        name: QueueName,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Self::open(PostgresOptions::new(url), name, options, clock).await
    }

    /// Connects to a server and creates the tables in the schema `infra_messaging` if they are not
    /// there.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) or [`Timeout`](ErrorKind::Timeout) if the server cannot be
    /// reached, [`Unsupported`](ErrorKind::Unsupported) for options that this engine does not keep.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the tables there or not.
    pub async fn open(
        server: PostgresOptions,
        name: QueueName,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let is_kept = options.weigh.is_none() && !options.parks_keys;
        if !is_kept || options.overflow != Overflow::Refuse {
            let detail =
                "fairness to keys, their parking, or an overflow policy other than to refuse";
            return Err(Error::new(ErrorKind::Unsupported, "open queue").detail(detail));
        }
        let PostgresOptions { url, connections, patience } = server;
        let opening = async {
            let pool = line::pool(connections, patience).connect(&url).await;
            let pool = pool.map_err(|cause| store::failed("connect to queue", cause))?;
            Store::open(pool, &name, options).await
        };
        let store = within(patience, ErrorKind::Timeout, "open queue", opening).await?;
        let n_received = AtomicU32::new(0);
        Ok(Self(Arc::new(Shared { name, options, clock, store, patience, n_received })))
    }

    /// Waits for a step that can be asked for again whatever became of it.
    async fn ask<T>(
        &self,
        operation: &'static str,
        step: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        within(self.0.patience, ErrorKind::Timeout, operation, step).await
    }

    /// Waits for a step that may have been done when its answer does not come.
    async fn change<T>(
        &self,
        operation: &'static str,
        step: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        within(self.0.patience, ErrorKind::Indeterminate, operation, step).await
    }

    fn now(&self) -> Timestamp {
        self.0.clock.wall()
    }

    /// Returns whether this receive takes the oldest ready message.
    fn is_aged(&self) -> bool {
        let number = self.0.n_received.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        self.0.options.ageing.is_some_and(|every| number.is_multiple_of(every.get()))
    }
}

/// Gives a step up after a time: a line that is dead says nothing, ever.
async fn within<T>(
    patience: Duration,
    late: ErrorKind,
    operation: &'static str,
    step: impl Future<Output = Result<T>>,
) -> Result<T> {
    let late = |_| Err(Error::new(late, operation).detail("the server does not answer"));
    tokio::time::timeout(patience, step).await.unwrap_or_else(late)
}

#[async_trait]
impl Queue for PostgresQueue {
    fn name(&self) -> &QueueName {
        &self.0.name
    }

    fn features(&self) -> Features {
        Features::all(Durability::Durable)
    }

    async fn publish(&self, messages: Vec<Message>, _durability: Durability) -> Result<Vec<bool>> {
        let publishing = self.0.store.publish(&messages, self.now());
        let said = self.change("publish message", publishing).await;
        let is_full = said.as_ref().is_err_and(|error| *error.kind() == ErrorKind::Overloaded);
        REFUSED.add(u64::from(is_full));
        let new = said?;
        for (message, _) in messages.iter().zip(&new).filter(|(_, is_new)| **is_new) {
            QUEUED.add_for(Urgency(message.priority), 1);
        }
        Ok(new)
    }

    async fn receive(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>> {
        if limit == 0 || lease.is_zero() {
            let detail = format!("limit {limit}, lease {lease:?}");
            return Err(Error::invalid("receive message", detail));
        }
        let (mut pause, most) = POLL;
        loop {
            // What was taken is in hands before this future can be dropped: a task finishes the
            // step, and gives back what nobody waits for any more.
            let queue = self.clone();
            let taking = tokio::spawn(async move { queue.take(limit, lease).await });
            let taken = taking.await.map_err(|cause| {
                Error::new(ErrorKind::Internal, "receive message").because(cause)
            })??;
            if !taken.is_empty() {
                HANDED_OUT.add(taken.len() as u64);
                return Ok(taken);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    async fn stats(&self) -> Result<Stats> {
        self.ask("count messages", self.0.store.stats(self.now())).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        self.ask("look at queue", self.0.store.dead_letters(self.now(), limit)).await
    }

    async fn peek(&self, limit: usize) -> Result<Vec<Message>> {
        self.ask("look at queue", self.0.store.peek(self.now(), limit)).await
    }

    async fn replay(&self, id: MessageId) -> Result<bool> {
        self.change("replay dead letter", self.0.store.replay(id, self.now())).await
    }

    async fn purge_dead(&self, before: Timestamp, cause: Option<Cause>) -> Result<u64> {
        self.change("purge dead letters", self.0.store.purge_dead(before, cause)).await
    }

    async fn clear(&self) -> Result<u64> {
        self.change("clear queue", self.0.store.clear(self.now())).await
    }

    async fn set_paused(&self, paused: bool) -> Result<()> {
        self.ask("pause queue", self.0.store.set_paused(paused)).await
    }
}

impl PostgresQueue {
    async fn take(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>> {
        let taking = self.0.store.take(limit, lease, self.now(), self.is_aged());
        // To ask again does no harm: what was taken and is not known of comes back when its lease ends.
        let taken = self.change("receive message", taking).await.map_err(Error::idempotent)?;
        let hand = |taken: row::Taken| {
            let held = Held { queue: self.clone(), number: taken.number, lease: taken.lease };
            Delivery::new(taken.message, taken.attempts, taken.published, Box::new(held))
        };
        Ok(taken.into_iter().map(hand).collect())
    }
}

/// A lease of this queue.
#[derive(Debug, Clone)]
struct Held {
    queue: PostgresQueue,
    number: i64,
    lease: i64,
}

#[async_trait]
impl Lease for Held {
    async fn settle(&self, settlement: Settlement) -> Result<()> {
        let outcome = Outcome::of(&settlement);
        let Self { queue, number, lease } = self;
        let settling = queue.0.store.settle(*number, *lease, settlement, queue.now());
        queue.change("settle delivery", settling).await?;
        SETTLED.add_for(outcome, 1);
        Ok(())
    }

    async fn extend(&self, lease: Duration) -> Result<()> {
        let queue = &self.queue;
        let extending = queue.0.store.extend(self.number, self.lease, lease, queue.now());
        queue.change("extend lease", extending).await
    }

    fn abandon(&self) {
        let held = self.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // What is lost here ends with its lease.
                let _is_released = held.settle(Settlement::Release).await.is_ok();
            });
        }
    }
}
