//! One policy per key, for a bounded number of keys.

use std::{borrow::Borrow, collections::HashMap, fmt, hash::Hash, sync::Arc};

use infra_core::Result;
use parking_lot::Mutex;

use crate::{
    breaker::{Breaker, State},
    bulkhead::Bulkhead,
    refused::{Reason, Refused},
};

/// How many entries are looked at for one that may go, each time room is needed: a new key costs no more in
/// a registry of a million that are all in use than in one of a hundred.
const LOOKS: usize = 64;

/// A policy that says when dropping it would lose nothing.
pub trait Droppable {
    /// Returns whether nobody uses it and it remembers nothing that matters.
    fn is_droppable(&self) -> bool;
}

impl Droppable for Breaker {
    /// Returns whether it is closed by itself, without failures, and nobody else holds it.
    fn is_droppable(&self) -> bool {
        self.is_idle()
    }
}

impl Droppable for Bulkhead {
    /// Returns whether nobody runs, waits, or holds it.
    fn is_droppable(&self) -> bool {
        self.is_idle()
    }
}

/// One policy per key (host, shard, room), made when it is first asked for.
///
/// When it is full an entry goes that nobody uses and that remembers nothing: a breaker that is
/// open, or has seen a failure, never does. At most 64 entries are looked at for it, under the lock, and the
/// next key goes on behind them; if none of those may go the new key is refused. So the work for a key
/// is bounded, and of `n` entries one that may go is found by the `n / 64`-th new key at the latest.
/// Clones share the entries.
///
/// ```
/// use infra_core::SystemClock;
/// use infra_resilience::{Breaker, Keyed};
///
/// let clock = SystemClock::shared();
/// let breakers = Keyed::new(1_000, move |_host: &String| {
///     Breaker::new(Default::default(), clock.clone())
/// });
/// let breaker = breakers.of("shard-7")?;
/// assert_eq!(breakers.len(), 1);
/// # Ok::<(), infra_core::Error>(())
/// ```
pub struct Keyed<K, P> {
    entries: Arc<Mutex<Entries<K, P>>>,
    make: Arc<dyn Fn(&K) -> P + Send + Sync>,
    capacity: usize,
}

struct Entries<K, P> {
    places: HashMap<K, usize>,
    slots: Vec<(K, P)>,
    /// Where the next look for an entry that may go begins.
    hand: usize,
}

impl<K, P> Keyed<K, P>
where
    K: Eq + Hash + Clone,
    P: Droppable + Clone,
{
    /// Creates an empty registry of at most `capacity` keys, at least one. `make` is called under the lock: it
    /// must not ask this registry.
    pub fn new(capacity: usize, make: impl Fn(&K) -> P + Send + Sync + 'static) -> Self {
        let entries = Entries { places: HashMap::new(), slots: Vec::new(), hand: 0 };
        let entries = Arc::new(Mutex::new(entries));
        Self { entries, make: Arc::new(make), capacity: capacity.max(1) }
    }

    /// Returns the policy of a key.
    ///
    /// # Errors
    ///
    /// [`Overloaded`](infra_core::ErrorKind::Overloaded) if there is no room for the key.
    pub fn of<Q>(&self, key: &Q) -> Result<P>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let mut entries = self.entries.lock();
        if let Some((_, policy)) =
            entries.places.get(key).and_then(|place| entries.slots.get(*place))
        {
            return Ok(policy.clone());
        }
        let key = key.to_owned();
        let policy = (self.make)(&key);
        if entries.insert(key, policy.clone(), self.capacity) {
            return Ok(policy);
        }
        drop(entries);
        Err(Refused::error(Reason::KeysFull, None, "find policy of key"))
    }

    /// Returns how many keys there are.
    pub fn len(&self) -> usize {
        self.entries.lock().slots.len()
    }

    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows each entry to `look`, under the lock: it must not ask this registry.
    pub fn each(&self, mut look: impl FnMut(&K, &P)) {
        self.entries.lock().slots.iter().for_each(|(key, policy)| look(key, policy));
    }
}

impl<K: Eq + Hash + Clone, P: Droppable> Entries<K, P> {
    fn insert(&mut self, key: K, policy: P, capacity: usize) -> bool {
        let place = if self.slots.len() < capacity {
            self.slots.len()
        } else {
            match self.droppable() {
                Some(place) => place,
                None => return false,
            }
        };
        self.places.insert(key.clone(), place);
        match self.slots.get_mut(place) {
            Some(slot) => {
                let (old, _) = std::mem::replace(slot, (key, policy));
                self.places.remove(&old);
            }
            None => self.slots.push((key, policy)),
        }
        true
    }

    /// Looks on, from where it stopped the last time, for an entry that may go.
    fn droppable(&mut self) -> Option<usize> {
        for _ in 0..LOOKS.min(self.slots.len()) {
            let place = self.hand;
            self.hand = (place + 1) % self.slots.len();
            if self.slots.get(place).is_some_and(|(_, policy)| policy.is_droppable()) {
                return Some(place);
            }
        }
        None
    }
}

impl<K> Keyed<K, Breaker>
where
    K: Eq + Hash + Clone,
{
    /// Returns the keys whose breakers are not closed.
    pub fn not_closed(&self) -> Vec<(K, State)> {
        let mut found = Vec::new();
        self.each(|key, breaker| match breaker.state() {
            State::Closed => {}
            state @ (State::Open | State::HalfOpen) => found.push((key.clone(), state)),
        });
        found
    }
}

impl<K, P> Clone for Keyed<K, P> {
    fn clone(&self) -> Self {
        let (entries, make) = (Arc::clone(&self.entries), Arc::clone(&self.make));
        Self { entries, make, capacity: self.capacity }
    }
}

impl<K, P> fmt::Debug for Keyed<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.entries.lock().slots.len();
        f.debug_struct("Keyed")
            .field("keys", &length)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use infra_testkit::clock::ManualClock;

    use super::*;
    use crate::{breaker, bulkhead};

    fn breakers(capacity: usize) -> Keyed<u32, Breaker> {
        let clock: Arc<dyn infra_core::Clock> = Arc::new(ManualClock::new());
        Keyed::new(capacity, move |_| {
            Breaker::new(breaker::Options::default().least(2), Arc::clone(&clock))
        })
    }

    #[test]
    fn a_key_keeps_its_breaker_and_clones_share_it() {
        let breakers = breakers(4);
        assert!(breakers.is_empty());
        (0..2).for_each(|_| breakers.of(&7).unwrap().admit("ask").unwrap().failure());
        assert_eq!(breakers.clone().of(&7).unwrap().state(), State::Open);
        assert_eq!(breakers.not_closed(), [(7, State::Open)]);
        assert_eq!(format!("{breakers:?}"), "Keyed { keys: 1, capacity: 4, .. }");
    }

    #[test]
    fn only_closed_idle_and_clean_entries_make_room() {
        let breakers = breakers(3);
        (0..2).for_each(|_| breakers.of(&1).unwrap().admit("ask").unwrap().failure());
        breakers.of(&2).unwrap().admit("ask").unwrap().failure();
        let held = breakers.of(&3).unwrap();
        let refused = breakers.of(&4).unwrap_err();
        assert_eq!(Refused::of(&refused).map(Refused::reason), Some(Reason::KeysFull));
        drop(held);
        for key in 4..2_000 {
            assert_eq!(breakers.of(&key).unwrap().state(), State::Closed);
            assert_eq!(breakers.len(), 3, "the bound holds");
        }
        assert_eq!(breakers.of(&1).unwrap().state(), State::Open, "what is open stays");
        assert_eq!(breakers.of(&2).unwrap().tally().failures, 1, "and what has failed");
    }

    /// Counts how often it is asked whether it may go.
    #[derive(Clone)]
    struct Asked(Arc<AtomicUsize>, bool);

    impl Droppable for Asked {
        fn is_droppable(&self) -> bool {
            self.0.fetch_add(1, SeqCst);
            self.1
        }
    }

    #[test]
    fn a_new_key_looks_at_a_bounded_number_of_entries_and_the_next_one_goes_on_behind_them() {
        let looks = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&looks);
        // Of a thousand that are in use one is not, the farthest from where the first look begins.
        let keyed = Keyed::new(1_000, move |key: &u32| Asked(Arc::clone(&shared), *key == 999));
        (0..1_000).for_each(|key| assert!(keyed.of(&key).is_ok()));
        assert_eq!(looks.load(SeqCst), 0, "while there is room nothing is looked at");
        for asked in 1..=15 {
            let refused = keyed.of(&5_000).err().unwrap();
            assert_eq!(Refused::of(&refused).map(Refused::reason), Some(Reason::KeysFull));
            assert_eq!(looks.load(SeqCst), asked * LOOKS);
        }
        assert!(keyed.of(&5_000).is_ok(), "within a round of all entries");
        assert_eq!((looks.load(SeqCst), keyed.len()), (1_000, 1_000));
        assert!(keyed.of(&0).is_ok() && keyed.of(&5_000).is_ok());
        assert_eq!(looks.load(SeqCst), 1_000, "keys that are there cost no look");
    }

    #[test]
    fn a_bulkhead_in_use_stays() {
        let clock: Arc<dyn infra_core::Clock> = Arc::new(ManualClock::new());
        let keyed = Keyed::new(1, move |_: &u32| {
            Bulkhead::new(bulkhead::Options::new(1), Arc::clone(&clock))
        });
        let bulkhead = keyed.of(&1).unwrap();
        assert!(keyed.of(&2).is_err());
        drop(bulkhead);
        keyed.of(&2).unwrap();
        assert!(keyed.of(&1).is_ok(), "nobody used the second");
    }
}
