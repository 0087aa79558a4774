//! How a cache is made.

use std::{
    fmt::{self, Debug},
    hash::Hash,
    sync::{Arc, atomic::AtomicUsize},
};

use foldhash::quality::RandomState;
use infra_core::{Clock, random::Random};
use parking_lot::Mutex;

use super::{Cause, Inner, LocalCache, SHARDS, Weigher, shard::Shard};
use crate::{books::Books, options::Options, sketch::HeavyHitters, store};

/// Makes a cache with a weigher or a listener.
pub struct Builder<K, V> {
    options: Options,
    clock: Arc<dyn Clock>,
    weigher: Option<Weigher<K, V>>,
    listener: Option<crate::books::Listener<K, V>>,
    remembers: usize,
}

impl<K, V> Debug for Builder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<K, V> Builder<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        Self { options, clock, weigher: None, listener: None, remembers: 0 }
    }

    /// Sets what an entry weighs; the capacity is then a sum of weights. Without it each weighs one.
    #[must_use]
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// Sets who is told of each value that left, and why. It is called by whoever changes the cache,
    /// after the change and without a lock, so it may use the cache; two callers may tell at the same time.
    #[must_use]
    pub fn listener(mut self, listener: impl Fn(&K, &V, Cause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Remembers the changes of up to so many keys, for fills that come from outside.
    pub(crate) fn remembering(mut self, changes: usize) -> Self {
        self.remembers = changes;
        self
    }

    /// Creates the empty cache.
    pub fn build(self) -> LocalCache<K, V> {
        let Self { options, clock, weigher, listener, remembers } = self;
        let books = Arc::new(Books::new(clock, options, listener));
        let booked = Arc::clone(&books);
        let store =
            store::open(options, Box::new(move |key, entry, why| booked.left(key, entry, why)));
        let shard = || Mutex::new(Shard::new(remembers.div_ceil(SHARDS)));
        let inner = Inner {
            books,
            store,
            shards: Box::new(std::array::from_fn(|_| shard())),
            hasher: RandomState::default(),
            random: options.seed.map_or_else(Random::from_system, Random::seeded),
            loading: AtomicUsize::new(0),
            weigher,
            frequent: (0 < options.frequent)
                .then(|| Mutex::new(HeavyHitters::new(options.frequent.saturating_mul(4)))),
        };
        LocalCache(Arc::new(inner))
    }
}
