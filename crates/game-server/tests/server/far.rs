//! A start whose stores are far away.

use std::{sync::Arc, time::Duration};

use game_server::{
    config::{Options, Settings},
    server::Backends,
};
use infra_core::SystemClock;
use infra_testkit::{
    proxy::{self, FaultProxy},
    server::{Kind, Server},
};
use serde_json::json;

use crate::{
    faulty::{Faults, FaultyEvents, Weather},
    support::{options, start, start_on, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_come_back_many_at_a_time_and_no_more_than_that() {
    let host = start().await;
    let mut hosts = Vec::new();
    for number in 0..40 {
        hosts.push(host.host(&format!("p{number}")).await);
    }
    let (folder, faults) = (host.stop().await, Faults::new(1));
    faults.set(Weather::Far);
    let host = start_on(folder, options(), SystemClock::shared(), |mut backends| {
        backends.events = Arc::new(FaultyEvents { store: backends.events, faults: faults.clone() });
        backends
    })
    .await;
    let at_once = faults.most_asked();
    assert!((9..=32).contains(&at_once), "{at_once} at a time");
    faults.set(Weather::Calm);
    let mut watcher = host.player().await;
    watcher.say(&json!({"type": "list_rooms"})).await.unwrap();
    assert_eq!(until(&mut watcher, "rooms").await["total"], 40);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_are_as_they_should_be_are_opened_with_few_questions() {
    let postgres = Server::start(Kind::Postgres).await.unwrap();
    let proxy = FaultProxy::start(postgres.addr()).await.unwrap();
    let there = Some(format!("postgres://postgres@{}/postgres", proxy.addr()));
    let folder = tempfile::tempdir().unwrap();
    let data = Some(folder.path().to_owned());
    let options = Options { events: there.clone(), documents: there, data, ..options() };
    let (settings, clock) = (Settings::resolve(options).unwrap(), SystemClock::shared());
    Backends::open(&settings, &clock).await.unwrap().close().await;
    // So slow that what the stores' tasks ask, once they are open, is not counted with them.
    proxy.set(proxy::Faults { delay: Duration::from_millis(20), ..proxy::Faults::default() });
    let before = proxy.questions();
    let backends = Backends::open(&settings, &clock).await.unwrap();
    let asked = proxy.questions() - before;
    // The lease, documents and events: two connections each, and a question.
    assert!(asked <= 32, "{asked} questions, connections included");
    backends.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_were_opened_beside_one_that_cannot_be_are_closed_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |documents: &str| {
        let (data, documents) = (Some(folder.path().to_owned()), Some(documents.to_owned()));
        let settings = Settings::resolve(Options { documents, data, ..options() }).unwrap();
        Backends::open(&settings, &SystemClock::shared()).await
    };
    let refused = open("postgres://postgres@127.0.0.1:1/postgres").await.unwrap_err();
    assert!(refused.to_string().contains("open PostgreSQL"), "{refused}");
    open("memory:").await.unwrap().close().await;
}
