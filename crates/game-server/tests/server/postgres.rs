//! Games that are kept in PostgreSQL, which goes away while they are played.

use infra_core::{SystemClock, id::QueueName, queue::Queue as _};
use infra_messaging::PostgresQueue;
use infra_testkit::server::{Kind, Server};
use serde_json::json;

use crate::{
    play::play_on,
    player::Player,
    support::{Host, act, ask, eventually, options, start_in, until},
};

/// Starts a server of a fast game whose events and documents are in the database at `url`.
pub(crate) async fn start(folder: tempfile::TempDir, url: &str) -> Host {
    let there = Some(url.to_owned());
    let (events, documents, queues) = (there.clone(), there.clone(), there);
    let options = game_server::config::Options { events, documents, queues, ..options() };
    start_in(folder, options, SystemClock::shared()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_game_in_postgresql_outlives_the_database_and_the_server() {
    let mut postgres = Server::start(Kind::Postgres).await.unwrap();
    let url = postgres.url();
    let host = start(tempfile::tempdir().unwrap(), &url).await;
    let mut mei = host.host("Mei").await;
    let started = act(&mut mei, &json!({"type": "start", "action": 1})).await;
    assert_eq!(started["type"], "ack", "{started}");

    postgres.kill().unwrap();
    let chat = json!({"type": "chat", "text": "Anybody?", "action": 2});
    let refused = ask(&mut mei, &chat, &["ack", "refused"]).await;
    assert_eq!(refused["code"], "storage_unavailable", "{refused}");
    assert!(refused["retry_after_ms"].is_u64(), "it can be tried again: {refused}");
    postgres.restart().await.unwrap();
    let mut answer = refused;
    while let Some(pause) = answer["retry_after_ms"].as_u64() {
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        answer = act(&mut mei, &chat).await;
    }
    assert_eq!(answer["type"], "ack", "{answer}");

    let host = start(host.stop().await, &url).await;
    let mut mei = Player::come_back(host.server.addr(), mei.known).await.unwrap();
    until(&mut mei, "resumed").await;
    let again = act(&mut mei, &chat).await;
    assert_eq!(again["offset"], answer["offset"], "it was said once");
    play_on(&mut mei, 2).await;
    let state = host.state_of(&mei.known.room).await;
    assert_eq!(state["status"], "completed");
    assert_eq!(host.events_of(&mei.known.room).await, mei.known.table.offset);
    eventually("the room waits in PostgreSQL to be cleaned up", || async {
        let name = QueueName::new("clean-up").unwrap();
        let options = infra_messaging::Options::new(9);
        let clock = SystemClock::shared();
        let queue = PostgresQueue::connect(&url, name, options, clock).await.unwrap();
        queue.stats().await.unwrap().delayed == 1
    })
    .await;
    host.stop().await;
}

/// Another process on the database of a game waits, and takes over once the first has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_server_on_a_database_waits_for_the_one_before_and_its_players_go_on() {
    let postgres = Server::start(Kind::Postgres).await.unwrap();
    let url = postgres.url();
    let first = start(tempfile::tempdir().unwrap(), &url).await;
    let mut mei = first.host("Mei").await;
    let said = act(&mut mei, &json!({"type": "start", "action": 1})).await;
    assert_eq!(said["type"], "ack", "{said}");
    // Tokens are signed by the keys in the folder, which the next process has too.
    let folder = tempfile::tempdir().unwrap();
    let keys = |folder: &tempfile::TempDir| folder.path().join("keys.json");
    std::fs::copy(keys(&first.folder), keys(&folder)).unwrap();
    let there = url.clone();
    let next = tokio::spawn(async move { start(folder, &there).await });
    let chat = json!({"type": "chat", "text": "Still here", "action": 2});
    assert_eq!(act(&mut mei, &chat).await["type"], "ack");
    assert!(!next.is_finished(), "two processes would play the same rooms");
    first.stop().await;
    let next = next.await.unwrap();
    let mut mei = Player::come_back(next.server.addr(), mei.known).await.unwrap();
    until(&mut mei, "resumed").await;
    play_on(&mut mei, 3).await;
    next.stop().await;
}
