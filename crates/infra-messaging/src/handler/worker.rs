//! The worker: takes deliveries from a queue, runs a handler on each, and says how it ended.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock, ErrorKind, Result, SystemClock,
    lifecycle::Stop,
    queue::{Delivery, Queue},
    random::Random,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{AbortHandle, JoinError, JoinSet},
};
use tower::{Service, ServiceExt as _};

use super::{Failure, Job, Schedule, Step};
use crate::telemetry::HANDLED;

/// How long is waited before a queue that failed is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a worker did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Messages that are done.
    pub done: u64,
    /// Failures that are tried again.
    pub retried: u64,
    /// Failures for good, and those whose retries are used up.
    pub dead: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Verdicts that came after the lease's end, or that the queue could not take.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
    panicked: AtomicU64,
    lost: AtomicU64,
}

/// Runs a handler on the messages of a queue, so many at a time.
///
/// - Ok acknowledges. A retryable failure is tried again after the schedule's pause, in the queue,
///   so a restart forgets no retry; when the pauses are used up, or after a permanent failure, it is
///   a dead letter. A panic counts as a crash, of which the queue allows a few.
/// - The handler runs in the [`Context`](infra_core::context::Context) of the message: what it stores,
///   logs and publishes has the message's correlation and trace.
/// - The lease is extended while the handler runs, so it may be shorter than the work.
/// - On [`Stop`] nothing more is taken; what runs has `grace` to end, then it is aborted and its
///   messages are released, which counts as no attempt.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use infra_core::{SystemClock, codec::Payload, durability::Durability, id::QueueName};
/// # use infra_core::{lifecycle::Shutdown, queue::Queue, random::Random};
/// use infra_messaging::{MemoryQueue, Mint, Options, handler::{Failure, Job, Worker}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let name = QueueName::new("mail")?;
/// # let queue = MemoryQueue::new(name, Options::new(100), SystemClock::shared());
/// # let mint = Mint::new(SystemClock::shared(), Random::seeded(1));
/// queue.publish(vec![mint.message(Payload::json(1, "hello")?)], Durability::Applied).await?;
/// queue.drain(); // This example ends once the queue is empty.
/// let send = tower::service_fn(|job: Job| async move {
///     let text: String = job.message.payload.decode()?;
///     assert_eq!(text, "hello");
///     Ok::<(), Failure>(())
/// });
/// let shutdown = Shutdown::new();
/// let tally = Worker::new(Arc::new(queue), send).concurrency(2).run(shutdown.stop()).await?;
/// assert_eq!(tally.done, 1);
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
pub struct Worker<S> {
    queue: Arc<dyn Queue>,
    service: S,
    schedule: Schedule,
    random: Arc<Random>,
    concurrency: usize,
    lease: Duration,
    grace: Duration,
}

impl<S> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("queue", &self.queue.name()).finish_non_exhaustive()
    }
}

impl<S> Worker<S>
where
    S: Service<Job, Response = (), Error = Failure> + Clone + Send + 'static,
    S::Future: Send,
{
    /// Creates a worker; ten messages at a time, leases of 30 seconds, a grace of 30 seconds, three
    /// retries after one, two and four seconds, each with full jitter.
    pub fn new(queue: Arc<dyn Queue>, service: S) -> Self {
        Self {
            queue,
            service,
            schedule: Schedule::exponential(Duration::from_secs(1), 2.0, 3).jitter(1.0),
            random: Arc::new(Random::from_system()),
            concurrency: 10,
            lease: Duration::from_secs(30),
            grace: Duration::from_secs(30),
        }
    }

    /// Sets how many messages are worked on at a time; at least one.
    #[must_use]
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.concurrency = jobs.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Sets when failures are tried again; the queue's own limit of failures holds beside it.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule, random: Random) -> Self {
        self.schedule = schedule;
        self.random = Arc::new(random);
        self
    }

    /// Sets how long a message stays in hand without a sign of life.
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long running handlers have to end after the stop.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Works until it is told to stop or the queue is closed, and returns what was done.
    ///
    /// # Errors
    ///
    /// What the queue fails with, if trying again cannot help.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts what runs; its messages are released.
    pub async fn run(self, stop: Stop) -> Result<Tally> {
        let counts = Arc::new(Counts::default());
        let permits = Arc::new(Semaphore::new(self.concurrency));
        let mut running = JoinSet::new();
        let said = loop {
            while running.try_join_next().is_some() {}
            let free = tokio::select! {
                biased;
                () = stop.requested() => break Ok(()),
                free = Arc::clone(&permits).acquire_owned() => free.ok(),
            };
            let count = permits.available_permits() + 1;
            let received = tokio::select! {
                biased;
                () = stop.requested() => break Ok(()),
                received = self.queue.receive(count, self.lease) => received,
            };
            drop(free);
            match received {
                Ok(deliveries) => {
                    for delivery in deliveries {
                        let permit = Arc::clone(&permits).try_acquire_owned().ok();
                        running.spawn(self.work(delivery, permit, &counts));
                    }
                }
                Err(error) if *error.kind() == ErrorKind::Closed => break Ok(()),
                Err(error) if error.is_transient() => tokio::time::sleep(PAUSE).await,
                Err(error) => break Err(error),
            }
        };
        finish(&mut running, self.grace).await;
        said.map(|()| counts.tally())
    }

    /// Returns the future that works on a delivery to its verdict.
    fn work(
        &self,
        delivery: Delivery,
        permit: Option<OwnedSemaphorePermit>,
        counts: &Arc<Counts>,
    ) -> impl Future<Output = ()> + Send + use<S> {
        let (service, counts) = (self.service.clone(), Arc::clone(counts));
        let (schedule, random) = (self.schedule.clone(), Arc::clone(&self.random));
        let lease = self.lease;
        async move {
            let _permit = permit;
            let ended = handled(service, &delivery, lease).await;
            counts.settle(delivery, ended, &schedule, &random).await;
        }
    }
}

/// Waits for what runs, and aborts it after the grace.
async fn finish(running: &mut JoinSet<()>, grace: Duration) {
    let all = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all).await.is_err() {
        running.shutdown().await;
    }
}

/// Aborts a handler whose worker is gone.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a handler ended: with a word of its own, or by a panic.
type Ended = Result<Result<(), Failure>, JoinError>;

/// Runs a handler in a task of its own, so that a panic ends nothing else, and extends the lease
/// meanwhile.
async fn handled<S>(service: S, delivery: &Delivery, lease: Duration) -> Ended
where
    S: Service<Job, Response = (), Error = Failure> + Send + 'static,
    S::Future: Send,
{
    let clock = SystemClock::new();
    let job = Job::of(delivery);
    let context = job.context();
    let task = tokio::spawn(context.scope(service.oneshot(job)));
    let _abort = AbortOnDrop(task.abort_handle());
    tokio::pin!(task);
    loop {
        tokio::select! {
            biased;
            ended = &mut task => {
                HANDLED.record(clock.now().since_start().as_secs_f64());
                return ended;
            }
            () = tokio::time::sleep(lease / 3) => {
                // A lease that cannot be extended shows when the verdict comes.
                let _is_extended = delivery.extend(lease).await.is_ok();
            }
        }
    }
}

impl Counts {
    async fn settle(&self, delivery: Delivery, ended: Ended, schedule: &Schedule, random: &Random) {
        let (count, said) = match ended {
            Ok(Ok(())) => (&self.done, delivery.ack().await),
            Ok(Err(Failure::Permanent(reason))) => (&self.dead, delivery.dead_letter(reason).await),
            Ok(Err(Failure::Retryable(reason))) => {
                let failures = NonZeroU32::MIN.saturating_add(delivery.attempts().failures);
                match schedule.drawn(failures, random) {
                    Step::Again(pause) => (&self.retried, delivery.nack(pause, reason).await),
                    Step::GiveUp => (&self.dead, delivery.dead_letter(reason).await),
                }
            }
            Err(error) if error.is_panic() => {
                (&self.panicked, delivery.crashed(panic_text(error)).await)
            }
            // The worker itself is being ended, so the message is given back.
            Err(_) => return,
        };
        let count = if said.is_ok() { count } else { &self.lost };
        count.fetch_add(1, Ordering::SeqCst);
    }

    fn tally(&self) -> Tally {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Tally {
            done: read(&self.done),
            retried: read(&self.retried),
            dead: read(&self.dead),
            panicked: read(&self.panicked),
            lost: read(&self.lost),
        }
    }
}

fn panic_text(error: JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the handler panicked: {}", text.unwrap_or_default())
}
