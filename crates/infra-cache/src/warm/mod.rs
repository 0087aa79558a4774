//! Warming: loading before anybody asks.

mod graph;
mod task;

use std::{collections::HashMap, sync::Arc, time::Duration};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    backoff::Backoff,
    clock::Instant,
    codec::{Codec, Json},
    lifecycle::Stop,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::{Id, JoinError, JoinSet};

pub use task::WarmTask;

use self::graph::Graph;
use crate::{
    telemetry::{WARMED, Warmed},
    tiered::Tiered,
};

/// How a task ended.
#[derive(Debug, Clone)]
pub enum WarmOutcome {
    /// The cache holds so many of its entries. What was removed while it loaded is not kept.
    Done {
        /// How many.
        entries: u64,
    },
    /// It failed, took too long or panicked.
    Failed(Error),
    /// It did not run because a task failed that it is after.
    Skipped {
        /// Which one failed.
        because_of: String,
    },
}

/// What a run through all tasks came to.
#[derive(Debug, Clone, Default)]
pub struct WarmReport {
    /// Each task with how it ended, in the order in which they ended.
    pub tasks: Vec<(String, WarmOutcome)>,
}

impl WarmReport {
    /// Returns how many tasks ran, also those that failed.
    pub fn executed(&self) -> usize {
        let ran = |(_, outcome): &&(String, WarmOutcome)| match outcome {
            WarmOutcome::Done { .. } | WarmOutcome::Failed(_) => true,
            WarmOutcome::Skipped { .. } => false,
        };
        self.tasks.iter().filter(ran).count()
    }

    /// Returns how many entries the cache holds because of them.
    pub fn entries(&self) -> u64 {
        let entries = |(_, outcome): &(String, WarmOutcome)| match outcome {
            WarmOutcome::Done { entries } => *entries,
            WarmOutcome::Failed(_) | WarmOutcome::Skipped { .. } => 0,
        };
        self.tasks.iter().map(entries).sum()
    }

    /// Returns how a task ended.
    pub fn of(&self, name: &str) -> Option<&WarmOutcome> {
        self.tasks.iter().find(|(own, _)| own == name).map(|(_, outcome)| outcome)
    }
}

/// Runs tasks that fill a cache: after those that they need, the highest priority first, a bounded number at a time.
///
/// ```
/// use std::collections::HashMap;
/// use infra_cache::{Loaded, Options, Tiered, TieredBuilder, WarmTask, Warmer};
/// use infra_core::SystemClock;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let clock = SystemClock::shared();
/// let cache: Tiered<String> = TieredBuilder::new(Options::new(1_000), clock.clone()).build();
/// let config = WarmTask::new("config", || async {
///     Ok(HashMap::from([("config:app".to_owned(), Loaded::new("debug".to_owned()))]))
/// });
/// let report = Warmer::new(cache.clone(), [config], clock)?.warm().await;
/// assert_eq!((report.executed(), report.entries()), (1, 1));
/// assert_eq!(cache.get("config:app").await?.as_deref(), Some("debug"));
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Warmer<V, C = Json> {
    cache: Tiered<V, C>,
    tasks: Arc<[WarmTask<V>]>,
    graph: Graph,
    clock: Arc<dyn Clock>,
    concurrency: usize,
    pause: Backoff,
}

/// What runs now, by the id of its task.
#[derive(Debug, Default)]
struct Running {
    set: JoinSet<Result<u64>>,
    numbers: HashMap<Id, usize>,
}

impl Running {
    /// Waits until one ends; a panic is an error.
    async fn next(&mut self) -> Option<(usize, Result<u64>)> {
        let ended = self.set.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let panicked = |cause| Error::new(ErrorKind::Internal, "warm cache").because(cause);
        let result = ended.map_err(panicked).and_then(|(_, result)| result);
        let label = if result.is_ok() { Warmed::Done } else { Warmed::Failed };
        WARMED.add_for(label, 1);
        Some((self.numbers.remove(&id)?, result))
    }
}

impl<V, C> Warmer<V, C>
where
    V: Clone + Send + Sync + Serialize + DeserializeOwned + 'static,
    C: Codec + 'static,
{
    /// Creates a warmer of tasks, of which four run at a time.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if two tasks have one name, one is after another that is not there, or some wait
    /// for each other.
    pub fn new(
        cache: Tiered<V, C>,
        tasks: impl IntoIterator<Item = WarmTask<V>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let tasks: Arc<[WarmTask<V>]> = tasks.into_iter().collect();
        let nodes: Vec<_> = tasks.iter().map(|task| task.node.clone()).collect();
        let graph = Graph::new(&nodes)?;
        let pause = Backoff::exponential(Duration::from_secs(1));
        Ok(Self { cache, tasks, graph, clock, concurrency: 4, pause })
    }

    /// Sets how many tasks run at a time, at least one.
    #[must_use]
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.concurrency = tasks.max(1);
        self
    }

    /// Sets how long after a failure a scheduled task is tried again, if its next time is not sooner; a second by
    /// default, doubled up to a minute.
    #[must_use]
    pub const fn pause(mut self, pause: Backoff) -> Self {
        self.pause = pause;
        self
    }

    /// Runs all tasks once. One that fails does not keep those from running that do not stand on it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what runs; what is kept already stays.
    pub async fn warm(&self) -> WarmReport {
        let (mut turn, mut running) = (self.graph.begin(), Running::default());
        let mut report = WarmReport::default();
        loop {
            while running.set.len() < self.concurrency
                && let Some(number) = turn.next()
            {
                self.start(&mut running, number);
            }
            let Some((number, result)) = running.next().await else { return report };
            let skipped = turn.finish(&self.graph, number, result.is_ok());
            WARMED.add_for(Warmed::Skipped, skipped.len() as u64);
            let because_of = self.name(number);
            let outcome =
                result.map_or_else(WarmOutcome::Failed, |entries| WarmOutcome::Done { entries });
            report.tasks.push((because_of.clone(), outcome));
            report.tasks.extend(skipped.into_iter().map(|skipped| {
                (self.name(skipped), WarmOutcome::Skipped { because_of: because_of.clone() })
            }));
        }
    }

    /// Runs all tasks once, and then those that [have a period](WarmTask::every) again and again until it is told to
    /// stop. A task never overtakes itself; one that fails keeps its period, and is tried again in between.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what runs.
    pub async fn run(self, stop: Stop) {
        let begun = self.clock.now();
        let report = tokio::select! {
            () = stop.requested() => return,
            report = self.warm() => report,
        };
        let mut schedule = Schedule::new(&self.tasks, begun);
        let now = self.clock.now();
        for number in self.failed(&report) {
            schedule.finish(number, false, now, &self.pause);
        }
        let mut running = Running::default();
        loop {
            while running.set.len() < self.concurrency
                && let Some(number) = schedule.take(&self.tasks, self.clock.now())
            {
                self.start(&mut running, number);
            }
            let is_full = self.concurrency <= running.set.len();
            let pause = schedule.pause(self.clock.now());
            tokio::select! {
                () = stop.requested() => return,
                Some((number, result)) = running.next() => {
                    schedule.finish(number, result.is_ok(), self.clock.now(), &self.pause);
                }
                () = tokio::time::sleep(pause), if !is_full => {}
            }
        }
    }

    fn start(&self, running: &mut Running, number: usize) {
        let (tasks, cache) = (Arc::clone(&self.tasks), self.cache.clone());
        let handle = running.set.spawn(infra_core::context::Context::carry(async move {
            let Some(task) = tasks.get(number) else { return Ok(0) };
            // Whatever is removed from here on is not brought back.
            let moment = cache.moment().await?;
            cache.fill(moment, task.load().await?).await
        }));
        running.numbers.insert(handle.id(), number);
    }

    /// Returns which tasks failed.
    fn failed(&self, report: &WarmReport) -> Vec<usize> {
        let has_failed = |task: &WarmTask<V>| match report.of(&task.node.name) {
            Some(WarmOutcome::Failed(_)) => true,
            Some(WarmOutcome::Done { .. } | WarmOutcome::Skipped { .. }) | None => false,
        };
        let tasks = self.tasks.iter().enumerate();
        tasks.filter(|(_, task)| has_failed(task)).map(|(number, _)| number).collect()
    }

    fn name(&self, number: usize) -> String {
        self.tasks.get(number).map(|task| task.node.name.clone()).unwrap_or_default()
    }
}

/// When each task with a period is due: pure.
#[derive(Debug)]
struct Schedule(Vec<Slot>);

#[derive(Debug)]
struct Slot {
    number: usize,
    period: Duration,
    /// Its next time by the period.
    next: Instant,
    /// When it is run; `None` while it runs.
    due: Option<Instant>,
    failures: u32,
}

impl Schedule {
    fn new<V>(tasks: &[WarmTask<V>], begun: Instant) -> Self {
        let timed = tasks.iter().enumerate().filter_map(|(number, task)| {
            let period = task.every?;
            let next = begun + period;
            Some(Slot { number, period, next, due: Some(next), failures: 0 })
        });
        Self(timed.collect())
    }

    /// Takes the task of the highest priority that is due.
    fn take<V>(&mut self, tasks: &[WarmTask<V>], now: Instant) -> Option<usize> {
        let priority = |slot: &&mut Slot| tasks.get(slot.number).map(|task| task.node.priority);
        let due = self.0.iter_mut().filter(|slot| slot.due.is_some_and(|due| due <= now));
        let slot = due.max_by_key(priority)?;
        slot.due = None;
        // Times that were missed are not made up for.
        while slot.next <= now {
            let missed = now.since(slot.next).as_nanos() / slot.period.as_nanos().max(1);
            slot.next = slot.next
                + slot
                    .period
                    .saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1));
        }
        Some(slot.number)
    }

    fn finish(&mut self, number: usize, is_done: bool, now: Instant, pause: &Backoff) {
        for slot in self.0.iter_mut().filter(|slot| slot.number == number) {
            slot.failures = if is_done { 0 } else { slot.failures.saturating_add(1) };
            let again = now + pause.pause_before(slot.failures.max(1));
            slot.due = Some(if is_done { slot.next } else { again.min(slot.next) });
        }
    }

    fn pause(&self, now: Instant) -> Duration {
        let due = self.0.iter().filter_map(|slot| slot.due);
        due.map(|due| due.since(now)).min().unwrap_or(Duration::MAX)
    }
}
