//! One read path from memory over a second tier to the source.

mod backplane;
mod fill;
mod frame;
mod health;
mod path;

use std::{
    fmt::{self, Debug},
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock, Result,
    cache::Cache,
    codec::{Codec, Json},
    lease::Leases,
    pubsub::PubSub,
};

pub use backplane::Backplane;
pub use fill::Moment;

use crate::{
    bytes::REMEMBERED, entry::at, local::LocalCache, options::Options, task,
    tiered::backplane::Channel,
};

const CHANGE: &str = "change cache";

/// What is done while the second tier does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outage {
    /// The source is asked; one load per key and process.
    #[default]
    Load,
    /// The error is told, unless an older value may be served instead
    /// ([`Options::stale_on_error`](crate::Options::stale_on_error)).
    Fail,
}

/// Values in memory in front of a second tier that processes share, in front of their source.
///
/// A removal is done when this returns: in the second tier first, then in this process; other processes hear
/// of it over the [backplane](Tiered::backplane). A value that is loaded meanwhile, by whichever process,
/// is kept in neither tier.
pub struct Tiered<V, C = Json> {
    pub(crate) shared: Arc<Shared<V>>,
    codec: PhantomData<fn() -> C>,
}

pub(crate) struct Shared<V> {
    pub(crate) local: LocalCache<String, V>,
    pub(crate) remote: Option<Arc<dyn Cache>>,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    channel: Option<Channel>,
    /// Until when the local tier may be read, if a backplane says so.
    trusted: AtomicU64,
}

/// What is set once.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) schema: u32,
    pub(crate) outage: Outage,
    pub(crate) remote_ttl: Option<Duration>,
    exclusive: Option<Exclusive>,
}

/// Loads of one process at a time.
#[derive(Debug, Clone)]
struct Exclusive {
    leases: Arc<dyn Leases>,
    name: Arc<str>,
    wait: Duration,
}

impl<V, C> Clone for Tiered<V, C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), codec: PhantomData }
    }
}

impl<V, C> Debug for Tiered<V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

/// Makes a [`Tiered`] cache.
#[derive(Debug)]
pub struct TieredBuilder {
    options: Options,
    clock: Arc<dyn Clock>,
    remote: Option<Arc<dyn Cache>>,
    channel: Option<Channel>,
    settings: Settings,
}

impl TieredBuilder {
    /// Creates a cache in memory alone, with the options of that.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        let settings =
            Settings { schema: 1, outage: Outage::Load, remote_ttl: options.ttl, exclusive: None };
        Self { options, clock, remote: None, channel: None, settings }
    }

    /// Sets the second tier.
    #[must_use]
    pub fn remote(mut self, remote: Arc<dyn Cache>) -> Self {
        self.remote = Some(remote);
        self
    }

    /// Sets how long a value lives in the second tier; by default as long as in memory. In memory it
    /// never lives longer than there.
    #[must_use]
    pub const fn remote_ttl(mut self, ttl: Duration) -> Self {
        self.settings.remote_ttl = Some(ttl);
        self
    }

    /// Sets what is done while the second tier does not answer; the source is asked by default.
    #[must_use]
    pub const fn outage(mut self, outage: Outage) -> Self {
        self.settings.outage = outage;
        self
    }

    /// Sets the version of the values' schema; one by default. What another version or codec wrote is a miss.
    #[must_use]
    pub const fn schema(mut self, version: u32) -> Self {
        self.settings.schema = version;
        self
    }

    /// Lets one process at a time load a key; others wait up to `wait` for its value to appear in the
    /// second tier, and then load after all: it saves loads, nothing hangs on it.
    #[must_use]
    pub fn exclusive(
        mut self,
        leases: Arc<dyn Leases>,
        name: impl Into<Arc<str>>,
        wait: Duration,
    ) -> Self {
        self.settings.exclusive = Some(Exclusive { leases, name: name.into(), wait });
        self
    }

    /// Tells other processes of removals under a name, and hears of theirs: run what
    /// [`Tiered::backplane`] returns. Until it runs, and whenever nothing is heard over the bus for longer
    /// than `silence`, the local tier is not read.
    #[must_use]
    pub fn backplane(
        mut self,
        bus: Arc<dyn PubSub>,
        name: impl Into<Arc<str>>,
        silence: Duration,
    ) -> Self {
        self.channel = Some(Channel::new(bus, name.into(), silence));
        self
    }

    /// Creates the cache, its values encoded with the codec `C` in the second tier.
    pub fn build<V, C: Codec>(self) -> Tiered<V, C>
    where
        V: Clone + Send + Sync + 'static,
    {
        let Self { options, clock, remote, channel, settings } = self;
        let trusted = AtomicU64::new(if channel.is_some() { 0 } else { u64::MAX });
        let local =
            LocalCache::builder(options, Arc::clone(&clock)).remembering(REMEMBERED).build();
        let shared = Shared { local, remote, settings, clock, channel, trusted };
        Tiered { shared: Arc::new(shared), codec: PhantomData }
    }
}

impl<V> Shared<V>
where
    V: Clone + Send + Sync + 'static,
{
    /// Returns whether what other processes removed would be known.
    pub(crate) fn is_trusted(&self) -> bool {
        // Acquire pairs with the release in `trust`: who reads on sees what was flushed before.
        at(self.clock.now()) < self.trusted.load(Ordering::Acquire)
    }

    fn trust(&self, until: u64) {
        self.trusted.fetch_max(until, Ordering::Release);
    }

    /// Removes everything that is kept in memory, and does not read it until it is trusted again.
    fn distrust(&self) {
        self.trusted.store(0, Ordering::Release);
        self.local.clear();
    }
}

impl<V, C> Tiered<V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec + 'static,
{
    /// Returns the cache in memory, for its statistics.
    pub fn local(&self) -> &LocalCache<String, V> {
        &self.shared.local
    }

    /// Returns whether no other process shares it.
    pub(crate) fn is_alone(&self) -> bool {
        self.shared.remote.is_none() && self.shared.channel.is_none()
    }

    /// Removes the value under a key everywhere, and returns whether one was there.
    ///
    /// # Errors
    ///
    /// As for [`Cache::remove_many`]; then it is removed in this process, and elsewhere perhaps not.
    ///
    /// # Cancel safety
    ///
    /// The removal goes on if the future is dropped.
    pub async fn invalidate(&self, key: &str) -> Result<bool> {
        Ok(0 < self.invalidate_many(vec![key.to_owned()]).await?)
    }

    /// Removes the values under several keys everywhere, and returns how many were there.
    ///
    /// # Errors
    ///
    /// As for [`Self::invalidate`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::invalidate`].
    pub async fn invalidate_many(&self, keys: Vec<String>) -> Result<u64> {
        let shared = Arc::clone(&self.shared);
        task::detached(CHANGE, async move {
            let refs: Vec<&str> = keys.iter().map(String::as_str).collect();
            let remote = match &shared.remote {
                Some(remote) => remote.remove_many(&refs).await,
                None => Ok(0),
            };
            let local = shared.local.invalidate_many(&keys);
            let told = shared.tell(&backplane::Removal::Keys(keys)).await;
            let removed = remote?.max(local);
            told.map(|()| removed)
        })
        .await
    }

    /// Removes all values that carry a tag everywhere, and returns how many were there.
    ///
    /// # Errors
    ///
    /// As for [`Self::invalidate`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::invalidate`].
    pub async fn invalidate_tag(&self, tag: &str) -> Result<u64> {
        let (shared, tag) = (Arc::clone(&self.shared), tag.to_owned());
        task::detached(CHANGE, async move {
            let remote = match &shared.remote {
                Some(remote) => remote.remove_tag(&tag).await,
                None => Ok(0),
            };
            let local = shared.local.remove_tag(&tag);
            let told = shared.tell(&backplane::Removal::Tag(tag)).await;
            let removed = remote?.max(local);
            told.map(|()| removed)
        })
        .await
    }

    /// Removes everything everywhere.
    ///
    /// # Errors
    ///
    /// As for [`Self::invalidate`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::invalidate`].
    pub async fn clear(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        task::detached(CHANGE, async move {
            let remote = match &shared.remote {
                Some(remote) => remote.clear().await,
                None => Ok(()),
            };
            shared.local.clear();
            let told = shared.tell(&backplane::Removal::Everything).await;
            remote.and(told)
        })
        .await
    }

    /// Returns the keys that match a pattern, in the second tier and in memory, in order.
    ///
    /// # Errors
    ///
    /// As for [`Cache::scan`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn keys(&self, pattern: &crate::Glob) -> Result<Vec<String>> {
        let local = self.shared.local.entries().into_iter().map(|(key, _)| key);
        let mut keys: std::collections::BTreeSet<String> = local.collect();
        if let Some(remote) = &self.shared.remote {
            let mut cursor = 0;
            loop {
                let (page, next) = remote.scan(pattern.literal(), cursor).await?;
                keys.extend(page);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(keys.into_iter().filter(|key| pattern.matches(key)).collect())
    }

    /// Removes all values whose keys match a pattern, and returns how many were there. What is put while it
    /// runs may stay.
    ///
    /// # Errors
    ///
    /// As for [`Self::keys`] and [`Self::invalidate`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the values there or not.
    pub async fn invalidate_matching(&self, pattern: &crate::Glob) -> Result<u64> {
        let keys = self.keys(pattern).await?;
        if keys.is_empty() { Ok(0) } else { self.invalidate_many(keys).await }
    }
}
