//! Loads that are on their way: one per key, shared by all who wait for it.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use infra_core::Result;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// One load and its result. Who comes first runs it; if that one is dropped, the next one does.
pub(crate) type Flight<V> = Arc<OnceCell<Result<V>>>;

/// The loads that are on their way. Their lock also orders fills and invalidations.
#[derive(Debug)]
pub(crate) struct Flights<K, V>(pub(crate) Mutex<HashMap<K, Flight<V>>>);

impl<K: Hash + Eq + Clone, V> Flights<K, V> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Returns the load of a key; one begins if there is none.
    pub(crate) fn join(&self, key: &K) -> Seat<'_, K, V> {
        let flight = Arc::clone(self.0.lock().entry(key.clone()).or_default());
        Seat { flights: self, key: key.clone(), flight }
    }
}

/// A caller's part in a load; the last one to leave an unfinished load takes it away.
#[derive(Debug)]
pub(crate) struct Seat<'a, K: Hash + Eq, V> {
    flights: &'a Flights<K, V>,
    key: K,
    pub(crate) flight: Flight<V>,
}

impl<K: Hash + Eq, V> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        let is_mine =
            flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // The map's and this one: clones are made under the lock, so no other can appear.
        if is_mine && Arc::strong_count(&self.flight) <= 2 {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_kept_as_long_as_somebody_waits_for_it() {
        let flights: Flights<u32, u32> = Flights::new();
        let (one, two) = (flights.join(&1), flights.join(&1));
        assert!(Arc::ptr_eq(&one.flight, &two.flight));
        drop(one);
        assert_eq!(flights.0.lock().len(), 1);
        drop(two);
        assert_eq!(flights.0.lock().len(), 0);
        (0..1_000).for_each(|key| drop(flights.join(&key)));
        assert_eq!(flights.0.lock().len(), 0, "abandoned loads leave nothing");
    }

    #[test]
    fn who_leaves_a_superseded_load_leaves_the_later_one_alone() {
        let flights: Flights<u32, u32> = Flights::new();
        let superseded = flights.join(&1);
        flights.0.lock().remove(&1);
        let later = flights.join(&1);
        drop(superseded);
        assert_eq!(flights.0.lock().len(), 1);
        drop(later);
    }
}
