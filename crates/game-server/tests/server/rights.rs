//! docs/rights.md, tried: each route and message without the right to it.

use std::collections::{BTreeMap, BTreeSet};

use infra_core::SystemClock;
use serde_json::{Value, json};

use crate::{
    player::Player,
    raw,
    support::{ask, options, start, start_with, until},
};

const PAGE: &str = include_str!("../../../../docs/rights.md");
const ADMIN: &str = include_str!("../../src/server/admin.rs");
const PUBLIC: &str = include_str!("../../src/server/public.rs");

/// The cells of each row of the table below a heading.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, part) = PAGE.split_once(&format!("\n## {heading}\n")).unwrap();
    let part = part.split("\n## ").next().unwrap();
    let rows = part.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The routes that a listener's source declares.
fn declared(source: &'static str) -> BTreeSet<&'static str> {
    source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// The routes of a listener that the page names, and who may use them.
fn named(listener: &str) -> BTreeMap<&'static str, &'static str> {
    let rows = table("HTTP").into_iter().filter(|row| row[0] == listener);
    rows.map(|row| (row[1].split('`').nth(1).unwrap(), row[2])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_has_its_row_and_an_operators_is_refused_to_everybody_else() {
    for (listener, source) in [("public", PUBLIC), ("admin", ADMIN)] {
        let mut routes = declared(source);
        routes.insert("/");
        let named: BTreeSet<_> = named(listener).into_keys().collect();
        assert_eq!(named, routes, "of the {listener} listener");
    }
    let secret = "sixteen characters or more";
    let guarded =
        game_server::config::Options { admin_token: Some(secret.to_owned()), ..options() };
    let host = start_with(guarded, SystemClock::shared()).await;
    let (public, admin) = (host.server.addr(), host.server.admin_addr());
    let mut tried = 0;
    for (route, who) in named("admin") {
        if !who.starts_with("operator") {
            continue;
        }
        let path = route.replace("{code}", "000000").replace("{offset}", "1");
        for method in ["GET", "POST"] {
            for token in ["", "authorization: Bearer sixteen characters or less\r\n"] {
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nhost: x\r\n{token}content-length: 0\r\n\
                     connection: close\r\n\r\n"
                );
                let answer = raw::exchange(admin, request.as_bytes()).await;
                assert!(answer.starts_with("HTTP/1.1 401 "), "{method} {path} {token}: {answer}");
                assert!(answer.contains("content-type: application/problem+json"), "{answer}");
                tried += 1;
            }
        }
        if !named("public").contains_key(route) {
            let (status, kind, _) = raw::get(public, &path, &[]).await;
            assert_eq!((status, &*kind), (404, "application/problem+json"), "{path} in public");
        }
    }
    assert_eq!(tried, 13 * 4);
    let foreign = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   origin: https://elsewhere.example\r\n\r\n";
    let answer = raw::head(public, foreign.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

/// A message of each type, as it is said in a room.
fn sample(kind: &str, room: &str) -> Value {
    let rest = match kind {
        "create_room" => json!({"name": "Wu"}),
        "join_room" => json!({"room": room, "name": "Wu"}),
        "spectate" => json!({"room": room}),
        "leave_room" | "start" | "come_back" => json!({"action": 1}),
        "add_bot" => json!({"action": 1, "style": "steady"}),
        "remove_bot" => json!({"action": 1, "seat": 2}),
        "redeal" => json!({"action": 1, "accept": true}),
        "declare" => json!({"action": 1, "piles": 1}),
        "play" => json!({"action": 1, "pieces": [0]}),
        "chat" => json!({"action": 1, "text": "hello"}),
        "emoji" => json!({"emoji": "wave"}),
        "ping" => json!({"nonce": 1}),
        _ => json!({}),
    };
    let mut message = json!({"type": kind});
    for (name, value) in rest.as_object().unwrap() {
        message[name] = value.clone();
    }
    message
}

/// Says a message and returns the code that it is refused with, or `yes`.
async fn said(player: &mut Player, message: &Value) -> String {
    let answers =
        ["refused", "error", "ack", "joined", "rooms", "pong", "left", "emoji", "resumed"];
    let answer = ask(player, message, &answers).await;
    answer["code"].as_str().map_or_else(|| "yes".to_owned(), |code| format!("`{code}`"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_refused_to_who_may_not_say_it_with_the_code_of_its_row() {
    let host = start().await;
    let keeper = host.host("Mei").await;
    let room = keeper.known.room.clone();
    let rows = table("Messages of the game");
    for row in &rows {
        let message = sample(row[0].trim_matches('`'), &room);
        for (place, wanted) in row[2..].iter().enumerate() {
            let mut player = match place {
                2 => host.guest(&room, "Li").await,
                _ => host.player().await,
            };
            if place == 1 {
                player.say(&json!({"type": "spectate", "room": room})).await.unwrap();
                until(&mut player, "joined").await;
            }
            let found = said(&mut player, &message).await;
            assert_eq!(
                &found,
                wanted,
                "{message} of {}",
                ["a stranger", "a spectator", "a guest"][place]
            );
            if place == 2 && row[0] != "`leave_room`" {
                // The seat is free for the next one.
                player.say(&json!({"type": "leave_room", "action": 2})).await.unwrap();
                until(&mut player, "left").await;
            }
        }
    }
}
