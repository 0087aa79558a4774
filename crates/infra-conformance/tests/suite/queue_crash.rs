//! The durable queue over the embedded store, its process killed again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use infra_core::{
    SystemClock, codec::Payload, durability::Durability, queue::Queue as _, random::Random,
};
use infra_messaging::{DurableQueue, Mint, Options};

use crate::{
    killed::{kill_after, number, victim},
    queue,
};

const KEYS: u64 = 4;

/// The test below, which its victim is an instance of.
const OWN: &str =
    "queue_crash::whenever_its_process_is_killed_no_message_is_lost_and_each_key_keeps_its_order";

async fn open(folder: &Path) -> DurableQueue {
    queue::open(folder, Options::new(1_000_000).max_crashes(u32::MAX)).await
}

/// The process that is killed: producers of a key each, and consumers, which say what they did.
async fn work(folder: &Path, first: u64) {
    let queue = open(folder).await;
    let mut tasks = tokio::task::JoinSet::new();
    for key in 0..KEYS {
        let queue = queue.clone();
        tasks.spawn(async move {
            let mint = Mint::new(SystemClock::shared(), Random::from_system());
            for step in 0_u64.. {
                let number = (first + step) * KEYS + key;
                let message = mint.message(Payload::json(1, &number).unwrap());
                let keyed = message.key(format!("key {key}"));
                queue.publish(vec![keyed], Durability::Durable).await.unwrap();
                println!("\np {number}");
            }
        });
    }
    for _ in 0..3 {
        let queue = queue.clone();
        tasks.spawn(async move {
            loop {
                for delivery in queue.receive(2, Duration::from_mins(1)).await.unwrap() {
                    let number: u64 = delivery.message().payload.decode().unwrap();
                    println!("\nd {number}");
                    if number.is_multiple_of(7) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    println!("\nv {number}");
                    delivery.ack().await.unwrap();
                    println!("\na {number}");
                }
            }
        });
    }
    tasks.join_next().await;
}

#[derive(Debug, Default)]
struct Seen {
    published: BTreeSet<u64>,
    /// Those whose verdict was begun, which may have been written or not.
    judged: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    last: BTreeMap<u64, u64>,
    n_repeated: u64,
}

impl Seen {
    fn take(&mut self, line: &str) {
        let Some((what, number)) = line.split_once(' ') else { return };
        let Ok(number) = number.parse::<u64>() else { return };
        match what {
            "p" => _ = self.published.insert(number),
            "v" => _ = self.judged.insert(number),
            "a" => _ = self.acknowledged.insert(number),
            "d" => self.deliver(number),
            _ => {}
        }
    }

    fn deliver(&mut self, number: u64) {
        assert!(!self.acknowledged.contains(&number), "{number} is there after its verdict");
        let last = self.last.insert(number % KEYS, number);
        assert!(last.is_none_or(|last| last <= number), "{number} comes after {last:?}");
        self.n_repeated += u64::from(last == Some(number));
    }
}

/// `INFRA_KILLS` kills, each after at most `INFRA_LINES` lines of what the process says, four for a
/// message; 300 and 80,000 for the full run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_its_process_is_killed_no_message_is_lost_and_each_key_keeps_its_order() {
    if let Some((folder, first)) = victim() {
        return work(&folder, first).await;
    }
    let n_kills = number("INFRA_KILLS").unwrap_or(6);
    let most = number("INFRA_LINES").unwrap_or(800);
    let folder = tempfile::tempdir().unwrap();
    let random = Random::seeded(n_kills);
    let mut seen = Seen::default();
    for kill in 0..n_kills {
        // It is killed in the middle of its work.
        let n_lines = 40 + random.below(most);
        kill_after(n_lines, OWN, folder.path(), kill * 1_000_000, |line| seen.take(line));
    }
    let queue = open(folder.path()).await;
    while 0 < queue.stats().await.unwrap().ready {
        for delivery in queue.receive(100, Duration::from_mins(1)).await.unwrap() {
            let number: u64 = delivery.message().payload.decode().unwrap();
            seen.deliver(number);
            delivery.ack().await.unwrap();
            seen.judged.insert(number);
        }
    }
    println!("{} published, {} repeated", seen.published.len(), seen.n_repeated);
    assert!(n_kills < seen.published.len() as u64, "too little was published to show anything");
    let lost: Vec<_> = seen.published.difference(&seen.judged).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    // At most what was in a hand when its process was killed comes again.
    assert!(seen.n_repeated <= n_kills * KEYS, "{} repeated", seen.n_repeated);
}
