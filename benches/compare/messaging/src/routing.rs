//! How long a topic takes to find its subscriptions among 100,000.

use std::{hint::black_box, time::Instant};

use infra_core::random::Random;
use infra_messaging::route::{Dialect, Trie};

const SUBSCRIPTIONS: u64 = 100_000;
const ROOMS: u64 = 20_000;
const TOPICS: u64 = 20_000;

/// Returns the mean time of a match in microseconds.
pub fn matching() -> f64 {
    let mut trie = Trie::new(Dialect::Nats);
    let random = Random::seeded(5);
    for number in 0..SUBSCRIPTIONS {
        let room = random.below(ROOMS);
        let filter = match number % 4 {
            0 => format!("room.{room}.events"),
            1 => format!("room.{room}.*"),
            2 => format!("room.{room}.>"),
            _ => format!("player.{room}.*.joined"),
        };
        trie.insert(&filter, number).unwrap();
    }
    let topics: Vec<String> =
        (0..TOPICS).map(|_| format!("room.{}.events", random.below(ROOMS))).collect();
    let begun = Instant::now();
    for topic in &topics {
        black_box(trie.matches(black_box(topic)).unwrap());
    }
    begun.elapsed().as_secs_f64() * 1e6 / TOPICS as f64
}
