//! The queue in PostgreSQL.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use infra_core::{Clock, ErrorKind, SystemClock, durability::Durability, queue::Queue};
use infra_messaging::{Options, Overflow, PostgresOptions, PostgresQueue};
use infra_testkit::{
    contract::queue::{CAPACITY, LIMIT, LIVE_WINDOW},
    proxy::{FaultProxy, Weather},
    server::{Kind, Server, shared},
};

use crate::{
    LEASE, message, name,
    servers::{any_program, nothing_is_lost, own_name},
};

async fn open(options: Options, clock: Arc<dyn Clock>) -> Arc<dyn Queue> {
    let url = shared(Kind::Postgres).unwrap();
    Arc::new(PostgresQueue::connect(&url, own_name(), options, clock).await.unwrap())
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
async fn what_the_engine_does_not_keep_is_refused() {
    let url = shared(Kind::Postgres).unwrap();
    for options in [
        Options::new(1).overflow(Overflow::Wait),
        Options::new(1).fair(|_| NonZeroU32::MIN),
        Options::new(1).park_keys(),
    ] {
        let said = PostgresQueue::connect(&url, name(), options, SystemClock::shared()).await;
        assert_eq!(*said.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_nothing_that_was_acknowledged() {
    let server = Server::start(Kind::Postgres).await.unwrap();
    let (url, clock) = (server.url(), SystemClock::shared());
    nothing_is_lost(server, Durability::Durable, || async {
        let options = Options::new(10_000).max_crashes(99);
        let opened = PostgresQueue::connect(&url, name(), options, Arc::clone(&clock)).await;
        opened.map(|queue| Arc::new(queue) as Arc<dyn Queue>)
    })
    .await;
}

/// Opens a queue whose line to a server of its own can be spoilt.
async fn spoilt(server: &Server, patience: Duration) -> (FaultProxy, PostgresQueue) {
    let addr: SocketAddr = server.addr();
    let line = FaultProxy::start(addr).await.unwrap();
    let through = server.url().replace(&addr.to_string(), &line.addr().to_string());
    let options = PostgresOptions::new(through).connections(2).patience(patience);
    let queue = loop {
        let opened = PostgresQueue::open(
            options.clone(),
            own_name(),
            Options::new(99),
            SystemClock::shared(),
        );
        match opened.await {
            Ok(queue) => break queue,
            Err(error) => assert!(error.is_transient(), "a slow machine: {error}"),
        }
    };
    assert!(!format!("{options:?}").contains("postgres:"), "{options:?}");
    (line, queue)
}

/// A line that is dead for a while leaves connections behind that nobody will ever answer; they are not cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_die_without_a_word_give_their_places_back() {
    let server = Server::start(Kind::Postgres).await.unwrap();
    let (line, queue) = spoilt(&server, Duration::from_millis(700)).await;
    line.weather(Weather::Outage);
    for number in 0..3 {
        let (taken, counted, said) = tokio::join!(
            queue.receive(1, LEASE),
            queue.stats(),
            queue.publish(vec![message(number)], Durability::Durable),
        );
        assert!(taken.unwrap_err().is_transient(), "to ask again does no harm");
        assert!(counted.unwrap_err().is_transient());
        let said = said.unwrap_err();
        let is_honest = said.is_transient() || *said.kind() == ErrorKind::Indeterminate;
        assert!(is_honest, "{said}");
    }
    line.weather(Weather::Calm);
    let goes_on = async {
        while queue.publish(vec![message(9)], Durability::Durable).await.is_err() {}
        loop {
            let Ok(mut taken) = queue.receive(1, LEASE * 9).await else { continue };
            if let Some(delivery) = taken.pop() {
                while delivery.extend(LEASE * 9).await.is_err() {}
                return delivery.ack().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), goes_on).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_handed_a_connection_that_died_while_it_was_idle_has_time_to_open_another() {
    let server = Server::start(Kind::Postgres).await.unwrap();
    let (line, queue) = spoilt(&server, Duration::from_secs(6)).await;
    queue.stats().await.unwrap();
    // They are back in the pool; the next word over one of them is lost, and it is dead from then on.
    tokio::time::sleep(Duration::from_millis(300)).await;
    line.weather(Weather::Outage);
    let struck = line.struck();
    let counting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.stats().await }
    });
    while line.struck() == struck {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    line.weather(Weather::Calm);
    assert_eq!(counting.await.unwrap().unwrap().ready, 0);
}
