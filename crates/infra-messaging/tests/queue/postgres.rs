//! The queue in PostgreSQL.

use std::{num::NonZeroU32, sync::Arc};

use infra_core::{Clock, ErrorKind, SystemClock, durability::Durability, queue::Queue};
use infra_messaging::{Options, Overflow, PostgresQueue};
use infra_testkit::{
    contract::queue::{CAPACITY, LIMIT, LIVE_WINDOW},
    server::{Kind, Server, shared},
};

use crate::{
    name,
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
