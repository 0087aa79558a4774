//! The outbox of documents over the embedded store, its process killed between commit and relay.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use infra_core::{
    SystemClock,
    codec::Payload,
    id::{Collection, QueueName},
    lifecycle::Shutdown,
    queue::Queue as _,
    random::Random,
    store::{Batch, DocumentStore},
    version::Expected,
};
use infra_messaging::{DurableQueue, Mint, Options, outbox::DocumentRelay};

use crate::killed::{kill_after, number, victim};

/// The test below, which its victim is an instance of.
const OWN: &str = "outbox_crash::whenever_its_process_is_killed_each_committed_message_comes_once";

/// Opens a store, the queue in it, and the relay between them.
async fn open(folder: &Path) -> (Arc<dyn DocumentStore>, DurableQueue, DocumentRelay) {
    let stored = infra_persistence::Options::new(folder);
    let (documents, _report) = infra_persistence::embedded(stored).await.unwrap();
    let documents: Arc<dyn DocumentStore> = Arc::new(documents);
    let name = QueueName::new("mail").unwrap();
    let options = Options::new(1_000_000).max_crashes(u32::MAX);
    let queue = DurableQueue::open(Arc::clone(&documents), name, options, SystemClock::shared());
    let queue = queue.await.unwrap();
    let out = Arc::new(queue.clone());
    let relay = DocumentRelay::new("mail", Arc::clone(&documents), out).unwrap();
    (documents, queue, relay)
}

/// The process that is killed: it commits documents with their messages, and relays.
async fn work(folder: &Path, first: u64) {
    let (documents, _queue, relay) = open(folder).await;
    let shutdown = Shutdown::new();
    let (relaying, stop) = (relay.clone(), shutdown.stop());
    tokio::spawn(async move { relaying.run(stop).await });
    let mint = Mint::new(SystemClock::shared(), Random::from_system());
    for number in first.. {
        let message = mint.message(Payload::json(1, &number).unwrap());
        let body = Payload::json(1, &number).unwrap();
        let key = number.to_be_bytes().to_vec();
        let batch = Batch::new()
            .put(Collection::new("players").unwrap(), key, Expected::Absent, body)
            .write(relay.row(&message).unwrap());
        println!("\nb {number}");
        documents.commit(batch).await.unwrap();
        println!("\nc {number}");
        relay.nudge();
    }
}

/// `INFRA_KILLS` kills, each after at most `INFRA_LINES` lines, two for a commit; 300 for the full
/// run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_its_process_is_killed_each_committed_message_comes_once() {
    if let Some((folder, first)) = victim() {
        return work(&folder, first).await;
    }
    let n_kills = number("INFRA_KILLS").unwrap_or(6);
    let most = number("INFRA_LINES").unwrap_or(400);
    let folder = tempfile::tempdir().unwrap();
    let random = Random::seeded(n_kills);
    let (mut begun, mut committed) = (BTreeSet::new(), BTreeSet::new());
    for kill in 0..n_kills {
        let n_lines = 10 + random.below(most);
        kill_after(n_lines, OWN, folder.path(), kill * 1_000_000, |line| {
            let Some((what, number)) = line.split_once(' ') else { return };
            let Ok(number) = number.parse::<u64>() else { return };
            match what {
                "b" => _ = begun.insert(number),
                "c" => _ = committed.insert(number),
                _ => {}
            }
        });
    }
    let (_documents, queue, relay) = open(folder.path()).await;
    while 0 < relay.step().await.unwrap() {}
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    while 0 < queue.stats().await.unwrap().ready {
        for delivery in queue.receive(100, Duration::from_mins(1)).await.unwrap() {
            *seen.entry(delivery.message().payload.decode().unwrap()).or_default() += 1;
            delivery.ack().await.unwrap();
        }
    }
    println!("{} committed, {} came", committed.len(), seen.len());
    assert!(n_kills < committed.len() as u64, "too little was committed to show anything");
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "more than once: {twice:?}");
    let lost: Vec<_> = committed.iter().filter(|number| !seen.contains_key(number)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(seen.keys().all(|number| begun.contains(number)), "what nobody committed");
}
