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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use infra_core::random::Random;
    use proptest::prelude::*;

    use super::*;

    /// The shares of a water-filling: each client gets what it asks for, up to one level for all.
    fn max_min(demands: &[usize], capacity: usize) -> Vec<usize> {
        let mut shares = vec![0; demands.len()];
        for _ in 0..capacity.min(demands.iter().sum()) {
            let hungry = (0..demands.len()).filter(|client| shares[*client] < demands[*client]);
            let poorest = hungry.min_by_key(|client| shares[*client]).unwrap();
            shares[poorest] += 1;
        }
        shares
    }

    fn shuffled(mut arrivals: Vec<usize>, seed: u64) -> Vec<usize> {
        let random = Random::seeded(seed);
        for index in (1..arrivals.len()).rev() {
            let other = usize::try_from(random.below(index as u64 + 1)).unwrap();
            arrivals.swap(index, other);
        }
        arrivals
    }

    fn held(line: &mut Line<usize, usize>, clients: usize) -> Vec<usize> {
        let mut held = vec![0; clients];
        while let Some(client) = line.pop() {
            held[client] += 1;
        }
        held
    }

    proptest! {
        /// In whatever order they come, what the line holds is max-min fair to one waiter.
        #[test]
        fn a_full_line_is_max_min_fair_in_any_order_of_arrival(
            demands in proptest::collection::vec(0_usize..40, 1..8),
            capacity in 1_usize..60,
            seed in any::<u64>(),
        ) {
            let arrivals = demands.iter().enumerate().flat_map(|(client, n)| vec![client; *n]);
            let mut line = Line::new(capacity);
            for client in shuffled(arrivals.collect(), seed) {
                line.join(Priority::Normal, &client, client);
            }
            let shares = max_min(&demands, capacity);
            let held = held(&mut line, demands.len());
            prop_assert_eq!(held.iter().sum::<usize>(), shares.iter().sum::<usize>());
            // Who asks for less than the level gets it all; the others differ by one at most.
            let level = shares.iter().copied().max().unwrap_or(0);
            for (client, demand) in demands.iter().enumerate() {
                if *demand < level {
                    prop_assert_eq!(held[client], *demand, "{:?} {:?}", held, shares);
                }
                prop_assert!(held[client].abs_diff(shares[client]) <= 1, "{held:?} {shares:?}");
            }
        }

        /// The line against a plain list: priorities first, turns among clients, no waiter lost.
        #[test]
        fn it_serves_as_a_plain_list_would(
            steps in proptest::collection::vec((0_u8..4, 0_usize..4, 0_usize..4), 0..120),
        ) {
            let mut line = Line::new(10);
            let mut places: BTreeMap<u64, (Priority, Place)> = BTreeMap::new();
            let mut number = 0_u64;
            for (step, priority, client) in steps {
                let priority = Priority::ALL[priority];
                match step {
                    0 | 1 => {
                        number += 1;
                        match line.join(priority, &client, number) {
                            Joined::Waits { place, displaced } => {
                                places.insert(number, (priority, place));
                                if let Some(displaced) = displaced {
                                    let (weaker, _) = places.remove(&displaced).unwrap();
                                    prop_assert!(weaker <= priority);
                                }
                            }
                            Joined::Full => prop_assert_eq!(places.len(), 10),
                        }
                    }
                    2 => {
                        let highest = places.values().map(|(priority, _)| *priority).max();
                        let popped = line.pop().map(|waiter| places.remove(&waiter).unwrap().0);
                        prop_assert_eq!(popped, highest);
                    }
                    _ => {
                        if let Some((waiter, (priority, place))) = places.pop_first() {
                            prop_assert!(line.leave(priority, place), "{waiter} was there");
                            prop_assert!(!line.leave(priority, place));
                        }
                    }
                }
                prop_assert_eq!(line.len(), places.len());
            }
        }
    }

    #[test]
    fn clients_take_turns_and_each_is_served_in_order() {
        let mut line = Line::new(10);
        for (client, waiter) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)] {
            line.join(Priority::Normal, &client, waiter);
        }
        let served: Vec<_> = std::iter::from_fn(|| line.pop()).collect();
        assert_eq!(served, [1, 4, 5, 2, 6, 3]);
    }

    #[test]
    fn a_higher_priority_takes_the_place_of_the_youngest_of_the_lowest() {
        let mut line = Line::new(2);
        line.join(Priority::Low, &(), 1);
        line.join(Priority::Low, &(), 2);
        assert!(matches!(line.join(Priority::Low, &(), 3), Joined::Full));
        let joined = line.join(Priority::High, &(), 4);
        assert!(matches!(joined, Joined::Waits { displaced: Some(2), .. }), "{joined:?}");
        assert_eq!([line.pop(), line.pop(), line.pop()], [Some(4), Some(1), None]);
    }
}
