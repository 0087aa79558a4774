//! The queue over a log in NATS `JetStream`.

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
    time::Duration,
};

use infra_core::{Clock, ErrorKind, SystemClock, durability::Durability, queue::Queue};
use infra_messaging::{JetStream, JetStreamQueue, Options, Overflow};
use infra_testkit::{
    contract::queue::{CAPACITY, LIMIT, LIVE_WINDOW},
    server::{Kind, Server, shared},
};

use crate::{
    LEASE, message, name,
    servers::{any_program, nothing_is_lost, own_name},
};

/// A server whose logs are cut every few entries.
fn server() -> JetStream {
    JetStream::at(shared(Kind::Nats).unwrap()).cut_log_every(NonZeroU64::new(100).unwrap())
}

async fn open(options: Options, clock: Arc<dyn Clock>) -> Arc<dyn Queue> {
    Arc::new(JetStreamQueue::connect(server(), own_name(), options, clock).await.unwrap())
}

async fn live() -> Arc<dyn Queue> {
    let options = Options::new(CAPACITY).max_failures(LIMIT).max_crashes(LIMIT);
    open(options.dedup_window(LIVE_WINDOW), SystemClock::shared()).await
}

mod keeps {
    infra_testkit::queue_contract!(live super::live());
}

#[test]
fn any_program_is_answered_as_the_model_answers_it() {
    any_program(open);
}

#[tokio::test]
async fn what_is_not_kept_or_not_known_of_the_server_is_refused() {
    let clock = SystemClock::shared();
    let refused = async |options: Options| {
        let said = JetStreamQueue::connect(server(), name(), options, Arc::clone(&clock)).await;
        said.unwrap_err().kind().clone()
    };
    let wait = refused(Options::new(1).overflow(Overflow::Wait)).await;
    let fair = refused(Options::new(1).fair(|_| NonZeroU32::MIN)).await;
    assert_eq!((wait, fair), (ErrorKind::Unsupported, ErrorKind::Unsupported));
    let own = own_name();
    let open = async |server: JetStream, capacity: usize| {
        let options = Options::new(capacity);
        JetStreamQueue::connect(server, own.clone(), options, Arc::clone(&clock)).await
    };
    let lazy = open(server(), 9).await.unwrap();
    assert_eq!(lazy.features().durability, Durability::Buffered);
    let said = lazy.publish(vec![message(1)], Durability::Durable).await.unwrap_err();
    assert_eq!(*said.kind(), ErrorKind::Unsupported);
    let synced = open(server().syncs_always(), 9).await.unwrap();
    assert_eq!(synced.publish(vec![message(1)], Durability::Durable).await.unwrap(), [true]);
    assert!(synced.server().syncs_always && !lazy.server().syncs_always);
    assert!(!synced.server().version.is_empty());
    let other = open(server(), 10).await.unwrap_err();
    assert_eq!(*other.kind(), ErrorKind::Invalid, "options that others do not have");
    let large = infra_core::codec::Payload::raw(vec![7; synced.server().max_batch_bytes]);
    let large = infra_core::queue::Message { payload: large, ..message(2) };
    let said = synced.publish(vec![large], Durability::Applied).await.unwrap_err();
    assert_eq!(*said.kind(), ErrorKind::Invalid, "more than the server takes");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_unavailable() {
    let said = JetStreamQueue::connect(
        JetStream::at("nats://127.0.0.1:1"),
        name(),
        Options::new(1),
        SystemClock::shared(),
    );
    assert_eq!(*said.await.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// Two processes and their logs, cut again and again: whoever opens the queue anew finds it as it
/// is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_share_a_queue_and_one_that_comes_later_finds_it_as_it_is() {
    const PROCESSES: u64 = 3;
    const EACH: u64 = 40;
    let (own, clock) = (own_name(), SystemClock::shared());
    let open = || async {
        let options = Options::new(1_000);
        let opened = JetStreamQueue::connect(server(), own.clone(), options, Arc::clone(&clock));
        opened.await.unwrap()
    };
    let mut tasks = tokio::task::JoinSet::new();
    for process in 0..PROCESSES {
        let queue = open().await;
        tasks.spawn(async move {
            let mut done = Vec::new();
            for step in 0..EACH {
                let number = process * EACH + step;
                let keyed = message(number).key(format!("key {process}"));
                queue.publish(vec![keyed], Durability::Buffered).await.unwrap();
                let taken = queue.receive(1, LEASE * 9).await.unwrap().pop().unwrap();
                done.push(taken.message().payload.decode::<u64>().unwrap());
                taken.ack().await.unwrap();
            }
            let more = message(1_000 + process).delay(Duration::from_mins(5));
            queue.publish(vec![more], Durability::Buffered).await.unwrap();
            done
        });
    }
    let mut done: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    done.sort_unstable();
    assert_eq!(done, (0..PROCESSES * EACH).collect::<Vec<_>>(), "each once");
    // Whoever comes later begins with an image, and finds the rest in the log.
    let late = open().await;
    let stats = late.stats().await.unwrap();
    assert_eq!((stats.ready, stats.leased, stats.dead), (0, 0, 0));
    assert_eq!(stats.delayed, PROCESSES);
    assert_eq!(late.peek(9).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_nothing_that_was_acknowledged() {
    let server = Server::start(Kind::Nats).await.unwrap();
    let (url, clock) = (server.url(), SystemClock::shared());
    nothing_is_lost(server, Durability::Buffered, || async {
        let options = Options::new(10_000).max_crashes(99);
        let at = JetStream::at(url.as_str()).cut_log_every(NonZeroU64::new(50).unwrap());
        let opened = JetStreamQueue::connect(at, name(), options, Arc::clone(&clock)).await;
        opened.map(|queue| Arc::new(queue) as Arc<dyn Queue>)
    })
    .await;
}

/// A process that had the queue open all the while goes on when its server is there again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_waits_through_the_loss_of_its_server() {
    let mut server = Server::start(Kind::Nats).await.unwrap();
    let at = JetStream::at(server.url());
    let queue = JetStreamQueue::connect(at, name(), Options::new(99), SystemClock::shared());
    let queue = queue.await.unwrap();
    let waiting = queue.clone();
    let waiter = tokio::spawn(async move { waiting.receive(1, LEASE).await });
    server.kill().unwrap();
    let lost = queue.publish(vec![message(1)], Durability::Buffered).await.unwrap_err();
    let is_told = matches!(lost.kind(), ErrorKind::Unavailable | ErrorKind::Indeterminate);
    assert!(is_told, "{lost}");
    server.restart().await.unwrap();
    while queue.publish(vec![message(2)], Durability::Buffered).await.is_err() {}
    let taken = waiter.await.unwrap().unwrap().pop().unwrap();
    taken.ack().await.unwrap();
}
