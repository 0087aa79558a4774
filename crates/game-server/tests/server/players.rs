//! What players read over HTTP: leaderboards, their own history, finished games.

use std::net::SocketAddr;

use game_server::config::Options;
use infra_core::SystemClock;
use serde_json::{Value, json};

use crate::{
    play::play_on,
    raw::{exchange, get},
    support::{act, eventually, options, start, start_in, start_with, until},
};

async fn json_of(addr: SocketAddr, path: &str) -> (u16, Value) {
    let (status, kind, body) = get(addr, path, &[]).await;
    let expected = if status == 200 { "application/json" } else { "application/problem+json" };
    assert_eq!(kind, expected, "{path}: {body}");
    (status, serde_json::from_str(&body).unwrap())
}

async fn asked_by(addr: SocketAddr, path: &str, token: &str) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let (status, _, body) = get(addr, path, &[("authorization", &bearer)]).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_game_is_replayed_as_it_was_seen_once_it_is_over_also_from_the_archive() {
    let memory = || Some("memory:".to_owned());
    let options = || Options { events: memory(), documents: memory(), ..options() };
    let host = start_with(options(), SystemClock::shared()).await;
    let addr = host.server.addr();
    let mut mei = host.host("Mei").await;
    let path = format!("/api/games/{}-{}", mei.known.room, mei.known.table.epoch);
    let mut spectator = host.player().await;
    spectator.say(&json!({"type": "spectate", "room": mei.known.room})).await.unwrap();
    let start_state = until(&mut spectator, "joined").await["state"].take();
    act(&mut mei, &json!({"type": "chat", "action": 1, "text": "between us"})).await;
    act(&mut mei, &json!({"type": "start", "action": 2})).await;
    // Whoever knows the id of a game that goes on learns nothing by it, hands least of all.
    let (status, running) = json_of(addr, &path).await;
    assert_eq!((status, &running["code"]), (404, &json!("no_such_game")));
    play_on(&mut mei, 2).await;
    let mut seen = Vec::new();
    while !spectator.known.table.is_over {
        let message = spectator.next().await.unwrap().unwrap();
        spectator.take(&message).unwrap();
        if message["type"] == "event" {
            seen.push(message);
        }
    }
    let (status, replay) = json_of(addr, &path).await;
    assert_eq!((status, &replay["room"]), (200, &json!(mei.known.room)));
    assert_eq!(replay["start"]["seats"], start_state["seats"]);
    let steps = replay["steps"].as_array().unwrap();
    assert_eq!(steps.len(), seen.len());
    for (step, live) in steps.iter().zip(&seen) {
        assert_eq!(step["offset"], live["offset"]);
        let is_talk = live["event"]["type"] == "chat";
        let expected = if is_talk { json!({"type": "hidden"}) } else { live["event"].clone() };
        assert_eq!(step["event"], expected);
        let hands = step["hands"].as_array();
        assert_eq!(hands.map(Vec::len), (live["event"]["type"] == "dealt").then_some(4));
        let pieces = hands.into_iter().flatten().flat_map(|hand| hand.as_array().unwrap());
        assert!([0, 32].contains(&pieces.count()), "every hand of a deal");
    }
    let secrets =
        [mei.known.token.as_ref().unwrap().as_str().unwrap(), "between us", "\"host\":\""];
    assert!(!secrets.iter().any(|secret| replay.to_string().contains(secret)));
    let (_, kind, table) = get(addr, &format!("{path}?as=csv"), &[]).await;
    assert_eq!((kind.as_str(), table.lines().count()), ("text/csv; charset=utf-8", seen.len() + 1));
    assert_eq!(json_of(addr, "/api/games/nonsense").await.0, 404);
    let archive = std::sync::Arc::clone(&host.backends.archive);
    eventually("the game is archived", || async {
        !archive.list("games", "", 9).await.unwrap().is_empty()
    })
    .await;
    // The log of the next server is another one; the archive is the same.
    let folder = host.stop().await;
    let host = start_in(folder, options(), SystemClock::shared()).await;
    let (status, archived) = json_of(host.server.addr(), &path).await;
    assert_eq!((status, archived == replay), (200, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_reads_its_own_history_by_its_token_and_nobody_elses_by_a_name() {
    let host = start().await;
    let addr = host.server.addr();
    let mut mei = host.host("=Mei").await;
    let ann = host.host("=Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_on(&mut mei, 1).await;
    let token =
        |known: &crate::player::Known| known.token.as_ref().unwrap().as_str().unwrap().to_owned();
    let (own, other) = (token(&mei.known), token(&ann.known));
    eventually("the game is in the history", || async {
        asked_by(addr, "/api/history", &own).await.1["games"].as_array().unwrap().len() == 1
    })
    .await;
    let (_, history) = asked_by(addr, "/api/history", &own).await;
    let game = history["games"][0]["game"].as_str().unwrap();
    assert_eq!(game, format!("{}-{}", mei.known.room, mei.known.table.epoch));
    assert_eq!(json_of(addr, &format!("/api/games/{game}")).await.0, 200);
    // The same name is another player; no token and a forged one are nobody.
    assert_eq!(asked_by(addr, "/api/history", &other).await, (200, json!({"games": []})));
    let forged = format!("{own}x");
    for refused in
        [json_of(addr, "/api/history").await, asked_by(addr, "/api/history", &forged).await]
    {
        assert_eq!((refused.0, &refused.1["code"]), (401, &json!("unauthorized")));
    }
    let table = get(addr, "/api/leaderboard?over=day&as=csv", &[]).await.2;
    assert!(table.contains("\r\n\"'=Mei\",\"1\","), "a name is no formula: {table}");
    let (status, problem) = json_of(addr, "/api/leaderboard?as=xml").await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("xml"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_everybodys_is_compressed() {
    let host = start().await;
    let (public, admin) = (host.server.addr(), host.server.admin_addr());
    for (addr, path, coding, is_packed) in [
        (public, "/", "gzip", true),
        (public, "/glyphs.js", "br;q=1, *;q=0.1", true),
        (public, "/", "gzip;q=0", false),
        (public, "/health/live", "gzip", false),
        (admin, "/dashboard", "gzip", true),
        (admin, "/api/overview", "gzip", false),
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {addr}\r\naccept-encoding: {coding}\r\nconnection: close\r\n\r\n"
        );
        let answer = exchange(addr, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(answer.contains("content-encoding: gzip"), is_packed, "{path} {coding}");
        let is_file = !path.starts_with("/health") && !path.starts_with("/api");
        let n_vary = answer.matches("vary: accept-encoding\r\n").count();
        assert_eq!(n_vary, usize::from(is_file), "{path} {coding}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_a_browser_has_is_not_sent_again_and_keeps_its_policy() {
    let host = start().await;
    let addr = host.server.addr();
    let get = async |path: &str, more: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {addr}\r\naccept-encoding: gzip\r\nconnection: close\r\n{more}\r\n"
        );
        let answer = exchange(addr, request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    };
    let value = |head: &str, name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(said, _)| *said == name).map(|(_, value)| value.to_owned());
        found.unwrap_or_else(|| panic!("no {name}: {head}"))
    };
    let (whole, _) = get("/table.js", "").await;
    let known = format!("if-none-match: {}\r\n", value(&whole, "etag"));
    let (head, body) = get("/table.js", &known).await;
    assert!(head.starts_with("HTTP/1.1 304 ") && body.is_empty(), "{head}\n{body}");
    // Browsers take what a 304 says of the page for the page's own.
    for name in ["content-security-policy", "etag", "vary", "cache-control", "x-frame-options"] {
        assert_eq!(value(&head, name), value(&whole, name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_are_told_to_come_by_tls_alone_if_a_trusted_proxy_says_that_they_did() {
    for (proxy, is_told) in [(None, false), (Some("127.0.0.9"), false), (Some("127.0.0.1"), true)] {
        let trust_proxy = proxy.map(|proxy| vec![proxy.parse().unwrap()]);
        let host = start_with(Options { trust_proxy, ..options() }, SystemClock::shared()).await;
        for addr in [host.server.addr(), host.server.admin_addr()] {
            let request = format!(
                "GET /icon.svg HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\nx-forwarded-proto: https\r\n\r\n"
            );
            let answer = exchange(addr, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            let told = answer.contains("strict-transport-security: max-age=31536000\r\n");
            assert_eq!(told, is_told, "{proxy:?}: {answer}");
        }
    }
}
