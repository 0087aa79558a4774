//! How a cache keeps its entries.

use std::time::Duration;

use infra_core::backoff::Backoff;

use crate::entry::nanos;

/// Which entry goes when room is needed.
///
/// There is no random eviction: it is worse than each of these on every trace we measured, it cannot
/// be tested for its victims, and it is no cheaper than FIFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Policy {
    /// The least frequent of the newcomer and the least recently used, by moka (`TinyLFU`: Einziger,
    /// Friedman, Manes, 2017). It may refuse the newcomer, and evicts a moment later than it inserts.
    #[default]
    TinyLfu,
    /// The least recently used, by moka; it evicts a moment later than it inserts.
    Lru,
    /// Exactly the least recently used, at once, under one lock.
    ExactLru,
    /// Exactly the least frequently used, at once, under one lock; of several the least recently used.
    /// An entry begins with a frequency of one; all are halved after each ten uses per entry.
    ExactLfu,
    /// Exactly the one that was put longest ago, at once, under one lock.
    ExactFifo,
}

/// How a cache keeps its entries; only the capacity has no default.
///
/// ```
/// use std::time::Duration;
/// use infra_cache::Options;
///
/// let _options = Options::new(10_000)
///     .ttl(Duration::from_secs(60))
///     .jitter(10)
///     .refresh_ahead(80)
///     .stale_on_error(Duration::from_secs(600));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub(crate) capacity: u64,
    pub(crate) policy: Policy,
    pub(crate) ttl: Option<Duration>,
    pub(crate) jitter: u8,
    pub(crate) idle: Option<u64>,
    pub(crate) revalidate: u64,
    pub(crate) stale: u64,
    pub(crate) refresh_ahead: Option<u8>,
    pub(crate) absent: Option<Duration>,
    pub(crate) errors: Option<Backoff>,
    pub(crate) soft: Option<Duration>,
    pub(crate) hard: Option<Duration>,
    pub(crate) load: Duration,
    pub(crate) loads: usize,
    pub(crate) frequent: usize,
    pub(crate) seed: Option<u64>,
}

impl Options {
    /// Creates the options of a cache of at most `capacity` entries, which live until they are
    /// evicted. A capacity of zero keeps nothing; loads are shared all the same.
    ///
    /// With a [weigher](crate::Builder::weigher) the capacity is a sum of weights, bytes for example.
    pub const fn new(capacity: u64) -> Self {
        Self {
            capacity,
            policy: Policy::TinyLfu,
            ttl: None,
            jitter: 0,
            idle: None,
            revalidate: 0,
            stale: 0,
            refresh_ahead: None,
            absent: None,
            errors: Some(
                Backoff::exponential(Duration::from_millis(100)).capped_at(Duration::from_secs(5)),
            ),
            soft: None,
            hard: None,
            load: Duration::from_secs(30),
            loads: 10_000,
            frequent: 0,
            seed: None,
        }
    }

    /// Sets which entry goes when room is needed; [`Policy::TinyLfu`] by default.
    #[must_use]
    pub const fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how long an entry is fresh; zero keeps nothing.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Shortens each entry's time by up to this many percent, so that what was loaded together is not
    /// loaded together again; not at all by default, never by more than a hundred.
    #[must_use]
    pub fn jitter(mut self, percent: u8) -> Self {
        self.jitter = percent.min(100);
        self
    }

    /// Sets after how long without a read an entry is over; it costs a write to the entry on each hit.
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(nanos(idle));
        self
    }

    /// Sets how long after its time an entry is still served at once while a newer one is loaded
    /// (RFC 5861, stale-while-revalidate); not at all by default.
    #[must_use]
    pub fn stale_while_revalidate(mut self, stale: Duration) -> Self {
        self.revalidate = nanos(stale);
        self
    }

    /// Sets how long after its time an entry may still be served if its load fails or is slow (RFC 5861,
    /// stale-if-error); not at all by default. How often the origin is asked meanwhile is for
    /// [`Options::errors`] to say.
    #[must_use]
    pub fn stale_on_error(mut self, stale: Duration) -> Self {
        self.stale = nanos(stale);
        self
    }

    /// Loads an entry anew, in the background, when it is read after this many percent of its time; never
    /// by default.
    #[must_use]
    pub fn refresh_ahead(mut self, percent: u8) -> Self {
        self.refresh_ahead = Some(percent.min(100));
        self
    }

    /// Sets how long it is remembered that there is no value; not at all by default.
    #[must_use]
    pub const fn absent_for(mut self, ttl: Duration) -> Self {
        self.absent = Some(ttl);
        self
    }

    /// Sets how long a load's error is told again before the origin is asked anew, longer with each
    /// error of the same key; by default a tenth of a second, doubled up to five seconds.
    #[must_use]
    pub const fn errors(mut self, pause: Backoff) -> Self {
        self.errors = Some(pause);
        self
    }

    /// Tells a load's error only to those who waited for it.
    #[must_use]
    pub const fn forget_errors(mut self) -> Self {
        self.errors = None;
        self
    }

    /// Sets how long a caller waits for a load if there is an older value to serve instead; by default
    /// as long as [`Options::hard_timeout`]. The load goes on.
    #[must_use]
    pub const fn soft_timeout(mut self, limit: Duration) -> Self {
        self.soft = Some(limit);
        self
    }

    /// Sets how long a caller waits for a load at most; by default as long as it runs. The load goes on.
    #[must_use]
    pub const fn hard_timeout(mut self, limit: Duration) -> Self {
        self.hard = Some(limit);
        self
    }

    /// Sets how long a load may run; 30 seconds by default.
    #[must_use]
    pub const fn load_timeout(mut self, limit: Duration) -> Self {
        self.load = limit;
        self
    }

    /// Sets how many keys are loaded at the same time; 10,000 by default. More are refused as
    /// [`Overloaded`](infra_core::ErrorKind::Overloaded).
    #[must_use]
    pub const fn loads(mut self, count: usize) -> Self {
        self.loads = count;
        self
    }

    /// Counts the reads of about this many of the most read keys, for
    /// [`LocalCache::frequent`](crate::LocalCache::frequent); none by default. It costs a lock that
    /// is not waited for on each read.
    #[must_use]
    pub const fn frequent(mut self, count: usize) -> Self {
        self.frequent = count;
        self
    }

    /// Sets the seed of the jitter; the operating system's by default.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}
