//! Where entries are kept, and which of them goes when room is needed.

mod engine;
mod exact;

use std::{fmt::Debug, hash::Hash, sync::Arc};

use crate::{
    entry::{Entry, Nanos},
    options::{Options, Policy},
};

/// Why an entry left a store, as far as the store knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Room was needed.
    Size,
    /// Another entry was put under its key.
    Replaced,
    /// It was removed by its key, or with all others.
    Removed,
}

/// Is told of each entry that leaves; it is called with the store's own locks held, and must take no
/// lock under which the store is used.
pub(crate) type Left<K, V> = Box<dyn Fn(&K, &Arc<Entry<V>>, Why) + Send + Sync>;

/// Keeps entries up to a capacity. It knows nothing of fences.
pub(crate) trait Store<K, V>: Send + Sync {
    /// Returns an entry and notes its use.
    fn get(&self, key: &K) -> Option<Arc<Entry<V>>>;

    /// Returns an entry; it is no use of it, as far as the store can help it.
    fn peek(&self, key: &K) -> Option<Arc<Entry<V>>>;

    /// Keeps an entry; what is over by `now` goes first if room is needed and the store can tell.
    fn insert(&self, key: K, entry: Arc<Entry<V>>, now: Nanos);

    fn remove(&self, key: &K) -> Option<Arc<Entry<V>>>;

    fn clear(&self);

    /// Returns what is kept now, in any order.
    fn all(&self) -> Vec<(K, Arc<Entry<V>>)>;

    /// Evicts what is due, and returns how many entries are left and what they weigh.
    fn settle(&self) -> (u64, u64);
}

/// Opens the store of a policy.
pub(crate) fn open<K, V>(options: Options, left: Left<K, V>) -> Box<dyn Store<K, V>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let order = match options.policy {
        Policy::TinyLfu => {
            let policy = moka::policy::EvictionPolicy::tiny_lfu();
            return Box::new(engine::Moka::new(options.capacity, policy, left));
        }
        Policy::Lru => {
            let policy = moka::policy::EvictionPolicy::lru();
            return Box::new(engine::Moka::new(options.capacity, policy, left));
        }
        Policy::ExactLru => exact::Order::Recency,
        Policy::ExactLfu => exact::Order::Frequency,
        Policy::ExactFifo => exact::Order::Insertion,
    };
    Box::new(exact::Exact::new(options, order, left))
}
