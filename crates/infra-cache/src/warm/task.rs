//! A task of warming: what it loads, before and after which others, and how often.

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use infra_core::{Error, ErrorKind, Result};
use tokio::task::JoinSet;

use super::graph::Node;
use crate::{read::Loaded, source::Source};

/// How many batches of keys a task loads at the same time.
const BATCHES: usize = 4;

type Entries<V> = Result<HashMap<String, Loaded<V>>>;
type Load<V> = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Entries<V>> + Send>> + Send + Sync>;

/// Something to load before anybody asks for it.
///
/// ```
/// use std::{collections::HashMap, time::Duration};
/// use infra_cache::{Loaded, WarmTask};
///
/// let _config = WarmTask::new("config", || async {
///     Ok(HashMap::from([("config:app".to_owned(), Loaded::new("debug"))]))
/// })
/// .priority(10)
/// .timeout(Duration::from_secs(5))
/// .every(Duration::from_secs(300));
/// ```
pub struct WarmTask<V> {
    pub(super) node: Node,
    pub(super) timeout: Duration,
    pub(super) every: Option<Duration>,
    load: Load<V>,
}

impl<V> Debug for WarmTask<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmTask").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<V: Clone + Send + Sync + 'static> WarmTask<V> {
    /// Creates a task of a name that returns what is to be kept; whatever it says, what the cache then holds is counted.
    pub fn new<F, L>(name: impl Into<String>, load: F) -> Self
    where
        F: Fn() -> L + Send + Sync + 'static,
        L: Future<Output = Result<HashMap<String, Loaded<V>>>> + Send + 'static,
    {
        let node = Node { name: name.into(), priority: 0, after: Vec::new() };
        let load: Load<V> = Arc::new(move || Box::pin(load()));
        Self { node, timeout: Duration::from_secs(30), every: None, load }
    }

    /// Creates a task that loads keys from a source, in batches of up to `batch` keys of which up to four are loaded
    /// at the same time. Which keys is asked each time: the most read ones for example
    /// ([`LocalCache::frequent`](crate::LocalCache::frequent)).
    pub fn keys(
        name: impl Into<String>,
        keys: impl Fn() -> Vec<String> + Send + Sync + 'static,
        source: Arc<dyn Source<V>>,
        batch: usize,
    ) -> Self {
        let batch = batch.max(1);
        Self::new(name, move || load_in_batches(keys(), Arc::clone(&source), batch))
    }

    /// Sets its priority among the tasks that are ready; zero by default, the highest goes first.
    #[must_use]
    pub const fn priority(mut self, priority: i32) -> Self {
        self.node.priority = priority;
        self
    }

    /// Runs it after another one has succeeded.
    #[must_use]
    pub fn after(mut self, name: impl Into<String>) -> Self {
        self.node.after.push(name.into());
        self
    }

    /// Sets how long it may take; 30 seconds by default.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Runs it again each time so long after its last beginning, at least a millisecond.
    #[must_use]
    pub fn every(mut self, period: Duration) -> Self {
        self.every = Some(period.max(Duration::from_millis(1)));
        self
    }

    pub(super) async fn load(&self) -> Entries<V> {
        let late = |_| Error::new(ErrorKind::Timeout, "warm cache").detail("the task's limit");
        tokio::time::timeout(self.timeout, (self.load)()).await.map_err(late)?
    }
}

async fn load_in_batches<V: Send + 'static>(
    keys: Vec<String>,
    source: Arc<dyn Source<V>>,
    batch: usize,
) -> Entries<V> {
    let mut batches = keys.chunks(batch).map(<[String]>::to_vec);
    let (mut all, mut loads) = (HashMap::new(), JoinSet::new());
    loop {
        while loads.len() < BATCHES
            && let Some(keys) = batches.next()
        {
            let source = Arc::clone(&source);
            loads.spawn(async move { source.load(keys).await });
        }
        let Some(loaded) = loads.join_next().await else { return Ok(all) };
        let panicked = |cause| Error::new(ErrorKind::Internal, "warm cache").because(cause);
        all.extend(loaded.map_err(panicked)??);
    }
}
