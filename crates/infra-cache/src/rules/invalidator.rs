//! Applying rules to a cache.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{Clock, Result, backoff::Backoff, clock::Instant, codec::Codec, lifecycle::Stop};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    rule::{Doomed, Plan, Rules},
    signal::Signal,
};
use crate::{
    Glob, LocalCache, Tiered,
    telemetry::{RULES, Ruled},
};

/// What rules remove from; each returns how many values were there.
#[async_trait]
pub trait Purge: Send + Sync + Debug {
    /// Removes the value under a key.
    ///
    /// # Errors
    ///
    /// What the cache fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave it there.
    async fn purge_key(&self, key: &str) -> Result<u64>;

    /// Removes the values whose keys match a pattern.
    ///
    /// # Errors
    ///
    /// What the cache fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some of them there.
    async fn purge_matching(&self, pattern: &Glob) -> Result<u64>;

    /// Removes the values that carry a tag.
    ///
    /// # Errors
    ///
    /// What the cache fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some of them there.
    async fn purge_tag(&self, tag: &str) -> Result<u64>;

    /// Removes everything.
    ///
    /// # Errors
    ///
    /// What the cache fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some of it there.
    async fn purge_everything(&self) -> Result<()>;
}

#[async_trait]
impl<V, C> Purge for Tiered<V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec + 'static,
{
    async fn purge_key(&self, key: &str) -> Result<u64> {
        self.invalidate(key).await.map(u64::from)
    }

    async fn purge_matching(&self, pattern: &Glob) -> Result<u64> {
        self.invalidate_matching(pattern).await
    }

    async fn purge_tag(&self, tag: &str) -> Result<u64> {
        self.invalidate_tag(tag).await
    }

    async fn purge_everything(&self) -> Result<()> {
        self.clear().await
    }
}

#[async_trait]
impl<V: Clone + Send + Sync + 'static> Purge for LocalCache<String, V> {
    async fn purge_key(&self, key: &str) -> Result<u64> {
        Ok(u64::from(self.invalidate(&key.to_owned())))
    }

    async fn purge_matching(&self, pattern: &Glob) -> Result<u64> {
        Ok(self.invalidate_if(|key, _| pattern.matches(key)))
    }

    async fn purge_tag(&self, tag: &str) -> Result<u64> {
        Ok(self.remove_tag(tag))
    }

    async fn purge_everything(&self) -> Result<()> {
        self.clear();
        Ok(())
    }
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handled {
    /// How many values were removed at once.
    pub removed: u64,
    /// How many rules held.
    pub triggered: u64,
    /// How many removals are to come later.
    pub delayed: u64,
}

/// How many delayed removals wait at most; more are done at once, since too early is never wrong.
const DELAYED: usize = 10_000;

/// Removes from a cache what its rules say, at once, later and from time to time.
///
/// ```
/// use infra_cache::{Invalidator, LocalCache, Options, Rule, Rules, Signal};
/// use infra_core::SystemClock;
/// use serde_json::json;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let names = LocalCache::new(Options::new(100), SystemClock::shared());
/// names.put("user:7".to_owned(), "Ann");
/// let rules = Rules::new([Rule::on("user_updated").key("user:{user_id}")?])?;
/// let (invalidator, _scheduler) = Invalidator::new(names, rules, SystemClock::shared());
/// let handled = invalidator.handle(&Signal::new("user_updated", json!({"user_id": 7}))).await?;
/// assert_eq!(handled.removed, 1);
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Invalidator {
    pub(super) cache: Arc<dyn Purge>,
    pub(super) rules: Arc<Rules>,
    later: Arc<Later>,
}

/// What is to be removed later, by when.
#[derive(Debug)]
struct Later {
    clock: Arc<dyn Clock>,
    queue: Mutex<BTreeMap<(Instant, u64), Doomed>>,
    stirred: Notify,
}

impl Invalidator {
    /// Creates what removes from a cache by rules, and the scheduler that must [run](Scheduler::run) if any of them
    /// is delayed or of the passing of time.
    pub fn new(
        cache: impl Purge + 'static,
        rules: Rules,
        clock: Arc<dyn Clock>,
    ) -> (Self, Scheduler) {
        let later = Later { clock, queue: Mutex::default(), stirred: Notify::new() };
        let (rules, later) = (Arc::new(rules), Arc::new(later));
        let invalidator = Self { cache: Arc::new(cache), rules, later };
        (invalidator.clone(), Scheduler(invalidator))
    }

    /// Removes what a signal removes.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if a field is missing that a rule names; then nothing was removed.
    /// What the cache fails with; then the call may be repeated.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a part removed; the call may be repeated.
    pub async fn handle(&self, signal: &Signal) -> Result<Handled> {
        self.apply(self.rules.plan(signal)?).await
    }

    async fn apply(&self, plan: Plan) -> Result<Handled> {
        let Plan { at_once, later, triggered, cascaded } = plan;
        let mut handled = Handled { triggered, ..Handled::default() };
        for doomed in &at_once {
            handled.removed += self.remove(doomed).await?;
        }
        for (delay, doomed) in later {
            match self.later.note(delay, doomed) {
                None => handled.delayed += 1,
                Some(doomed) => handled.removed += self.remove(&doomed).await?,
            }
        }
        RULES.add_for(Ruled::Direct, triggered - cascaded);
        RULES.add_for(Ruled::Cascaded, cascaded);
        Ok(handled)
    }

    async fn remove(&self, doomed: &Doomed) -> Result<u64> {
        match doomed {
            Doomed::Key(key) => self.cache.purge_key(key).await,
            Doomed::Matching(pattern) => self.cache.purge_matching(pattern).await,
            Doomed::Tag(tag) => self.cache.purge_tag(tag).await,
        }
    }
}

impl Later {
    /// Takes a removal in, or gives it back if too many wait.
    fn note(&self, delay: Duration, doomed: Doomed) -> Option<Doomed> {
        let mut queue = self.queue.lock();
        if DELAYED <= queue.len() {
            RULES.add_for(Ruled::Hurried, 1);
            return Some(doomed);
        }
        let due = self.clock.now() + delay;
        let number =
            queue.range((due, 0)..=(due, u64::MAX)).next_back().map_or(0, |((_, n), _)| n + 1);
        queue.insert((due, number), doomed);
        drop(queue);
        self.stirred.notify_one();
        None
    }

    /// Returns what is due, which stays until it is done, or how long until something is.
    fn due(&self) -> Result<((Instant, u64), Doomed), Duration> {
        let now = self.clock.now();
        let queue = self.queue.lock();
        match queue.first_key_value() {
            Some((at, doomed)) if at.0 <= now => Ok((*at, doomed.clone())),
            Some(((due, _), _)) => Err(due.since(now)),
            None => Err(Duration::MAX),
        }
    }
}

/// Removes what is delayed, and what goes from time to time.
#[derive(Debug)]
#[must_use = "nothing is removed later unless it runs"]
pub struct Scheduler(Invalidator);

/// How often a removal is tried again that the cache fails.
const PAUSE: Backoff =
    Backoff::exponential(Duration::from_millis(100)).capped_at(Duration::from_secs(5));

impl Scheduler {
    /// Removes until it is told to stop. What the cache fails is tried again, and nothing overtakes it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it; what was delayed is not removed.
    pub async fn run(self, stop: Stop) {
        let Self(invalidator) = self;
        let mut timed = Timed::new(&invalidator);
        let mut failures = 0_u32;
        loop {
            let result = match invalidator.later.due() {
                Ok((at, doomed)) => invalidator.remove(&doomed).await.map(|_| {
                    invalidator.later.queue.lock().remove(&at);
                }),
                Err(_) => timed.step(&invalidator).await,
            };
            let now = invalidator.later.clock.now();
            let next = invalidator.later.due().err().unwrap_or_default().min(timed.next(now));
            failures = if result.is_ok() { 0 } else { failures + 1 };
            let pause = if failures == 0 { next } else { PAUSE.pause_before(failures) };
            RULES.add_for(Ruled::Failed, u64::from(0 < failures));
            tokio::select! {
                () = stop.requested() => return,
                () = invalidator.later.stirred.notified(), if failures == 0 => {}
                // A sleep takes a millisecond at least, and many may be due at the same time.
                () = tokio::task::yield_now(), if pause.is_zero() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// The rules of time, with when each is due.
#[derive(Debug)]
struct Timed(Vec<(Instant, usize)>);

impl Timed {
    fn new(invalidator: &Invalidator) -> Self {
        let now = invalidator.later.clock.now();
        let timed = invalidator.rules.timed().enumerate();
        Self(timed.map(|(number, (period, _))| (now + period, number)).collect())
    }

    fn next(&self, now: Instant) -> Duration {
        self.0.iter().map(|(due, _)| due.since(now)).min().unwrap_or(Duration::MAX)
    }

    /// Applies the rules that are due; one that fails is due still. Periods that were missed are not made up for.
    async fn step(&mut self, invalidator: &Invalidator) -> Result<()> {
        let now = invalidator.later.clock.now();
        for (due, number) in &mut self.0 {
            if now < *due {
                continue;
            }
            if let Some((period, rule)) = invalidator.rules.timed().nth(*number) {
                invalidator.apply(invalidator.rules.plan_timed(rule)?).await?;
                *due = *due + period;
                if *due <= now {
                    *due = now + period;
                }
            }
        }
        Ok(())
    }
}
