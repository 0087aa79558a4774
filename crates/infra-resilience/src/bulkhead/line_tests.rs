use std::collections::BTreeMap;

use infra_core::{budget::Priority, random::Random};
use proptest::prelude::*;

use super::line::{Joined, Line, Place};

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
