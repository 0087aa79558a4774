//! The queue: publish, receive, acknowledge. The peers of the queue in memory are bounded channels,
//! which give none of what makes a queue; the figure is the price of leases, priorities and bounds.
//! Those of the durable queue are in `durable`. Routing is measured alone.

#[cfg(feature = "servers")]
mod durable;
mod routing;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use infra_core::{
    SystemClock,
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    id::{MessageId, QueueName},
    queue::{Message, Queue},
    random::Random,
};
use infra_messaging::{MemoryQueue, Options, Overflow};
use measure::{Better, Workload, run};

const MESSAGES: u64 = 100_000;
const CAPACITY: usize = 1_024;

fn main() -> ExitCode {
    let own = vec![
        Workload::rate("queue-roundtrip", queue)
            .against("tokio mpsc", channel)
            .against("flume", flume_channel)
            .against("async-channel", async_channel),
        Workload::rate("queue-batches", batched)
            .against("tokio mpsc", channel)
            .against("flume", flume_channel)
            .against("async-channel", async_channel),
        Workload::figure("queue-dispatch-p99", "us", Better::Lower, dispatch),
        Workload::figure("topic-match-100k", "us", Better::Lower, routing::matching),
    ];
    measure::main(own.into_iter().chain(beside_servers()).collect())
}

#[cfg(feature = "servers")]
fn beside_servers() -> Vec<Workload> {
    durable::workloads()
}

#[cfg(not(feature = "servers"))]
const fn beside_servers() -> Vec<Workload> {
    Vec::new()
}

fn message(random: &Random) -> Message {
    let id = MessageId::generate(Timestamp::EPOCH, random);
    Message::new(id, Payload::raw(vec![7; 128]))
}

fn queue_of(capacity: usize) -> Arc<MemoryQueue> {
    let options = Options::new(capacity).overflow(Overflow::Wait);
    let name = QueueName::new("work").unwrap();
    Arc::new(MemoryQueue::new(name, options, SystemClock::shared()))
}

/// Publishes 64 messages at a time; each is acknowledged for itself.
fn batched() -> u64 {
    const BATCH: u64 = 64;
    let batches = MESSAGES / BATCH;
    run(async {
        let queue = queue_of(CAPACITY);
        let producing = Arc::clone(&queue);
        let producer = tokio::spawn(async move {
            let random = Random::from_system();
            for _ in 0..batches {
                let batch = (0..BATCH).map(|_| message(&random)).collect();
                producing.publish(batch, Durability::Applied).await.unwrap();
            }
        });
        let mut done = 0;
        while done < batches * BATCH {
            for delivery in queue.receive(64, Duration::from_secs(30)).await.unwrap() {
                delivery.ack().await.unwrap();
                done += 1;
            }
        }
        producer.await.unwrap();
    });
    batches * BATCH
}

fn queue() -> u64 {
    run(async {
        let queue = queue_of(CAPACITY);
        let producing = Arc::clone(&queue);
        let producer = tokio::spawn(async move {
            let random = Random::from_system();
            for _ in 0..MESSAGES {
                producing.publish(vec![message(&random)], Durability::Applied).await.unwrap();
            }
        });
        let mut done = 0;
        while done < MESSAGES {
            for delivery in queue.receive(64, Duration::from_secs(30)).await.unwrap() {
                delivery.ack().await.unwrap();
                done += 1;
            }
        }
        producer.await.unwrap();
    });
    MESSAGES
}

fn channel() -> u64 {
    run(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(CAPACITY);
        let producer = tokio::spawn(async move {
            let random = Random::from_system();
            for _ in 0..MESSAGES {
                sender.send(message(&random)).await.unwrap();
            }
        });
        let mut done = 0;
        while receiver.recv().await.is_some() {
            done += 1;
        }
        assert_eq!(done, MESSAGES);
        producer.await.unwrap();
    });
    MESSAGES
}

fn flume_channel() -> u64 {
    run(async {
        let (sender, receiver) = flume::bounded(CAPACITY);
        let producer = tokio::spawn(async move {
            let random = Random::from_system();
            for _ in 0..MESSAGES {
                sender.send_async(message(&random)).await.unwrap();
            }
        });
        let mut done = 0;
        while receiver.recv_async().await.is_ok() {
            done += 1;
        }
        assert_eq!(done, MESSAGES);
        producer.await.unwrap();
    });
    MESSAGES
}

fn async_channel() -> u64 {
    run(async {
        let (sender, receiver) = async_channel::bounded(CAPACITY);
        let producer = tokio::spawn(async move {
            let random = Random::from_system();
            for _ in 0..MESSAGES {
                sender.send(message(&random)).await.unwrap();
            }
        });
        let mut done = 0;
        while receiver.recv().await.is_ok() {
            done += 1;
        }
        assert_eq!(done, MESSAGES);
        producer.await.unwrap();
    });
    MESSAGES
}

/// The 99th percentile of how long a message takes from its publish into a waiting consumer's hand.
fn dispatch() -> f64 {
    const SAMPLES: usize = 10_000;
    run(async {
        let options = Options::new(CAPACITY);
        let name = QueueName::new("work").unwrap();
        let queue = Arc::new(MemoryQueue::new(name, options, SystemClock::shared()));
        let consuming = Arc::clone(&queue);
        let (told, mut heard) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                for delivery in consuming.receive(1, Duration::from_secs(30)).await.unwrap() {
                    told.send(Instant::now()).await.unwrap();
                    delivery.ack().await.unwrap();
                }
            }
        });
        let random = Random::from_system();
        let mut micros = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let message = message(&random);
            let begun = Instant::now();
            queue.publish(vec![message], Durability::Applied).await.unwrap();
            let taken: Instant = heard.recv().await.unwrap();
            micros.push(taken.saturating_duration_since(begun).as_secs_f64() * 1e6);
        }
        micros.sort_by(f64::total_cmp);
        micros[SAMPLES * 99 / 100]
    })
}
