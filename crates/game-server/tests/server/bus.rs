//! What the bus tells other programs.

use std::{net::SocketAddr, time::Duration};

use futures_util::StreamExt as _;
use game_server::config::Options;
use infra_core::{
    SystemClock,
    pubsub::{Item, Pattern, PubSub as _},
};
use infra_messaging::NatsPubSub;
use infra_testkit::server::{Kind, Server};
use serde_json::{Value, json};

use crate::{
    raw,
    support::{act, eventually, options, start_with},
};

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

/// Returns what the health says of a check, and how the breaker of the bus stands.
async fn of_the_bus(admin: SocketAddr) -> (String, String) {
    let (_, _, health) = raw::get(admin, "/health", &[]).await;
    let health: Value = serde_json::from_str(&health).unwrap();
    let checks = health["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "stores").unwrap();
    let (_, _, metrics) = raw::get(admin, "/metrics", &[]).await;
    let level = metrics.lines().find_map(|line| {
        line.strip_prefix("infra_game_store_breaker{store=\"bus\"} ").map(ToOwned::to_owned)
    });
    (check["detail"].as_str().unwrap_or_default().to_owned(), level.unwrap())
}

/// Games go on while NATS is gone; the bus is left alone and named, and told again when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_is_killed_is_left_alone_while_games_go_on_and_told_again_when_it_is_back() {
    let mut nats = Server::start(Kind::Nats).await.unwrap();
    let listener = NatsPubSub::connect(&nats.url(), 999).await.unwrap();
    let mut told = listener.subscribe(&Pattern::new("room.*.changed").unwrap()).await.unwrap();
    let host =
        start_with(Options { bus: Some(nats.url()), ..options() }, SystemClock::shared()).await;
    let admin = host.server.admin_addr();
    let mut mei = host.host("Mei").await;
    assert_eq!(of_the_bus(admin).await.1, "0");
    nats.kill().unwrap();
    let mut action = 0;
    // The room tells of each of these, and hears from the bus that it is gone.
    let mut say = async || {
        action += 1;
        let chat = json!({"type": "chat", "text": "Anybody?", "action": action});
        assert_eq!(act(&mut mei, &chat).await["type"], "ack", "games go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    loop {
        say().await;
        let (detail, level) = of_the_bus(admin).await;
        if detail.starts_with("bus: ") && level != "0" {
            break;
        }
    }
    nats.restart().await.unwrap();
    // What the listener missed it is told as a gap; a message behind that is of after the return.
    let (mut is_told_of_the_gap, mut is_back) = (false, false);
    while !is_back {
        say().await;
        match tokio::time::timeout(Duration::from_millis(100), told.next()).await {
            Ok(Some(Item::Gap { .. })) => is_told_of_the_gap = true,
            Ok(Some(Item::Message { .. })) => {
                is_back = is_told_of_the_gap && of_the_bus(admin).await.1 == "0";
            }
            Ok(None) => panic!("the subscription ended"),
            Err(_) => {}
        }
    }
    eventually("the bus is named no more", || async { of_the_bus(admin).await.0.is_empty() }).await;
    host.stop().await;
}

/// A server that starts while NATS is gone plays, and tells of changes once NATS is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_without_its_bus_and_tells_of_changes_once_it_is_there() {
    let mut nats = Server::start(Kind::Nats).await.unwrap();
    nats.kill().unwrap();
    let host =
        start_with(Options { bus: Some(nats.url()), ..options() }, SystemClock::shared()).await;
    let mut mei = host.host("Mei").await;
    let bots = json!({"type": "add_bot", "action": 1});
    assert_eq!(act(&mut mei, &bots).await["type"], "ack", "games go on");
    nats.restart().await.unwrap();
    let listener = NatsPubSub::connect(&nats.url(), 99).await.unwrap();
    let mut told = listener.subscribe(&Pattern::new("room.*.changed").unwrap()).await.unwrap();
    for action in 2.. {
        act(&mut mei, &json!({"type": "chat", "text": "Anybody?", "action": action})).await;
        if tokio::time::timeout(Duration::from_millis(100), told.next()).await.is_ok() {
            break;
        }
    }
    host.stop().await;
}
