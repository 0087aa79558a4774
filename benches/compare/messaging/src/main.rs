//! The queue: publish, receive, acknowledge. The peer is a bounded tokio channel, which gives none of
//! what makes a queue; the figure is the price of leases, priorities and bounds.

use std::{process::ExitCode, sync::Arc, time::Duration};

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
use measure::{Workload, run};

const MESSAGES: u64 = 100_000;
const CAPACITY: usize = 1_024;

fn main() -> ExitCode {
    measure::main(vec![Workload::rate("queue-roundtrip", queue).against("tokio mpsc", channel)])
}

fn message(random: &Random) -> Message {
    let id = MessageId::generate(Timestamp::EPOCH, random);
    Message::new(id, Payload::raw(vec![7; 128]))
}

fn queue() -> u64 {
    run(async {
        let options = Options::new(CAPACITY).overflow(Overflow::Wait);
        let queue =
            MemoryQueue::new(QueueName::new("work").unwrap(), options, SystemClock::shared());
        let queue = Arc::new(queue);
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
