//! Who waits: a pure, bounded, fair queue.
//!
//! Higher priorities are served first. Within a priority the clients take turns, and each
//! client's own waiters are served in the order in which they came (Nagle, RFC 970, 1985). A full
//! line makes room for a newcomer of a higher priority at the cost of the lowest, and among equals
//! at the cost of the client that holds most of the line (`McKenney`, "Stochastic Fairness Queueing",
//! 1990): so what the line holds is max-min fair, and it tells no more clients apart than it has
//! places.

use std::{collections::VecDeque, hash::Hash};

use infra_core::budget::Priority;

/// Which waiter; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// The line. `K` tells clients apart, `T` is what wakes a waiter.
#[derive(Debug)]
pub(crate) struct Line<K, T> {
    lanes: [Lane<K, T>; 4],
    waiting: usize,
    capacity: usize,
    next: u64,
}

/// The waiters of one priority, by client, the client whose turn it is first.
#[derive(Debug)]
struct Lane<K, T>(VecDeque<Client<K, T>>);

#[derive(Debug)]
struct Client<K, T> {
    key: K,
    waiters: VecDeque<(Place, T)>,
}

/// What became of a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Joined<T> {
    /// It waits; somebody may have lost its place for it.
    Waits { place: Place, displaced: Option<T> },
    /// The line is full, and nobody in it has a weaker claim.
    Full,
}

impl<K: Eq + Hash + Clone, T> Line<K, T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let lanes = std::array::from_fn(|_| Lane(VecDeque::new()));
        Self { lanes, waiting: 0, capacity, next: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.waiting
    }

    /// Lets somebody join the end of its client's line.
    pub(crate) fn join(&mut self, priority: Priority, key: &K, waiter: T) -> Joined<T> {
        let displaced = if self.waiting < self.capacity {
            None
        } else {
            match self.displace(priority, key) {
                Some(displaced) => Some(displaced),
                None => return Joined::Full,
            }
        };
        let place = Place(self.next);
        self.next += 1;
        self.waiting += 1;
        if let Some(lane) = self.lanes.get_mut(index(priority)) {
            lane.push(key, place, waiter);
        }
        Joined::Waits { place, displaced }
    }

    /// Takes out whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let waiter = self.lanes.iter_mut().rev().find_map(Lane::pop)?;
        self.waiting -= 1;
        Some(waiter)
    }

    /// Takes out somebody who waits no more; false if it was out already.
    pub(crate) fn leave(&mut self, priority: Priority, place: Place) -> bool {
        let left = self.lanes.get_mut(index(priority)).is_some_and(|lane| lane.remove(place));
        self.waiting -= usize::from(left);
        left
    }

    /// Takes out the weakest claim, if it is weaker than that of a newcomer.
    fn displace(&mut self, priority: Priority, key: &K) -> Option<T> {
        let weakest = self.lanes.iter().position(|lane| !lane.0.is_empty())?;
        let lane = self.lanes.get_mut(weakest)?;
        let longest = lane.longest()?;
        let is_weaker = weakest < index(priority)
            // Among equals: only who holds at least one more than the newcomer then would.
            || weakest == index(priority) && lane.held(key) + 1 < lane.0.get(longest)?.waiters.len();
        if !is_weaker {
            return None;
        }
        let displaced = lane.pop_youngest(longest)?;
        self.waiting -= 1;
        Some(displaced)
    }
}

impl<K: Eq + Clone, T> Lane<K, T> {
    fn push(&mut self, key: &K, place: Place, waiter: T) {
        if let Some(client) = self.0.iter_mut().find(|client| client.key == *key) {
            return client.waiters.push_back((place, waiter));
        }
        let waiters = VecDeque::from([(place, waiter)]);
        self.0.push_back(Client { key: key.clone(), waiters });
    }

    fn pop(&mut self) -> Option<T> {
        let mut client = self.0.pop_front()?;
        let (_, waiter) = client.waiters.pop_front()?;
        if !client.waiters.is_empty() {
            self.0.push_back(client);
        }
        Some(waiter)
    }

    fn remove(&mut self, place: Place) -> bool {
        for index in 0..self.0.len() {
            let Some(client) = self.0.get_mut(index) else { return false };
            // Places grow along a client's line.
            if let Ok(at) = client.waiters.binary_search_by_key(&place, |(place, _)| *place) {
                client.waiters.remove(at);
                if client.waiters.is_empty() {
                    self.0.remove(index);
                }
                return true;
            }
        }
        false
    }

    fn held(&self, key: &K) -> usize {
        self.0.iter().find(|client| client.key == *key).map_or(0, |client| client.waiters.len())
    }

    fn longest(&self) -> Option<usize> {
        let by_length = |(_, client): &(usize, &Client<K, T>)| client.waiters.len();
        self.0.iter().enumerate().max_by_key(by_length).map(|(index, _)| index)
    }

    fn pop_youngest(&mut self, index: usize) -> Option<T> {
        let client = self.0.get_mut(index)?;
        let (_, waiter) = client.waiters.pop_back()?;
        if client.waiters.is_empty() {
            self.0.remove(index);
        }
        Some(waiter)
    }
}

const fn index(priority: Priority) -> usize {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
        Priority::Critical => 3,
    }
}
