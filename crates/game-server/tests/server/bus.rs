//! What the bus tells other programs.

use std::time::Duration;

use futures_util::StreamExt as _;
use game_server::config::Options;
use infra_core::{
    SystemClock,
    pubsub::{Item, Pattern, PubSub as _},
};
use infra_messaging::NatsPubSub;
use infra_testkit::server::{Kind, Server};
use serde_json::{Value, json};

use crate::support::{act, options, start_with};

/// A program beside the server hears over NATS which room changes, and how it stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_rooms_are_told_over_nats() {
    let nats = Server::start(Kind::Nats).await.unwrap();
    let listener = NatsPubSub::connect(&nats.url(), 99).await.unwrap();
    let mut told = listener.subscribe(&Pattern::new("room.*.changed").unwrap()).await.unwrap();
    let host =
        start_with(Options { bus: Some(nats.url()), ..options() }, SystemClock::shared()).await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "add_bot", "action": 1})).await;
    let heard = async {
        loop {
            let Some(Item::Message { subject, payload }) = told.next().await else { continue };
            let line: Value = serde_json::from_slice(&payload).unwrap_or_default();
            if line["bots"] == 1 {
                return (subject.as_str().to_owned(), line);
            }
        }
    };
    let (subject, line) = tokio::time::timeout(Duration::from_secs(20), heard).await.unwrap();
    let room = &mei.known.room;
    assert_eq!(subject, format!("room.{}.changed", line["room"].as_str().unwrap()));
    assert_eq!((&line["room"], &line["host"]), (&json!(room), &json!("Mei")));
}
