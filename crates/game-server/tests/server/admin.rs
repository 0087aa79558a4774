//! What operators see, and who may see it.

use std::sync::Arc;

use game_server::domain::{Event, Room, Viewer};
use infra_core::{SystemClock, machine::StateMachine};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    play::play_on,
    raw,
    support::{act, eventually, options, start, start_in, start_with},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_shown_without_anybodys_hand() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    let (status, kind, body) = host.get("/api/rooms").await;
    assert_eq!((status, kind.as_str()), (200, "application/json"));
    let rooms: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&rooms["total"], &rooms["rooms"][0]["room"]), (&json!(1), &json!(mei.known.room)));
    let (status, _, body) = host.get(&format!("/api/rooms/{}", mei.known.room)).await;
    assert_eq!(status, 200, "{body}");
    let room: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(room["state"]["game"]["hand"], Value::Null);
    assert!(!room["recent"].as_array().unwrap().is_empty());
    assert!(!body.contains("\"hand\":["), "{body}");
    assert_eq!(host.get("/api/rooms/000000").await.0, 404);
    let (status, _, body) = host.get("/api/rooms/not-a-code").await;
    assert_eq!(status, 400);
    assert!(body.contains("bad_room_code"), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview_counts_rooms_players_and_latencies() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    let overview =
        async || -> Value { serde_json::from_str(&host.get("/api/overview").await.2).unwrap() };
    let shown = overview().await;
    assert_eq!(shown["rooms"]["in_game"], 1, "{shown}");
    assert_eq!((&shown["players"]["people"], &shown["players"]["bots"]), (&json!(1), &json!(3)));
    assert_eq!(shown["connections"]["open"], 1);
    let append = &shown["histograms"][0];
    assert!(append["count"].as_u64().is_some_and(|count| 2 <= count), "{append}");
    assert!(append["quantiles"]["p99_ms"].as_f64().is_some_and(|ms| 0.0 < ms));
    eventually("a second was sampled", || async {
        overview().await["rates"][0]["per_second"].as_array().is_some_and(|rate| !rate.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_and_health_are_served_and_pages_carry_their_policy() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "add_bot", "action": 1})).await;
    let (status, kind, metrics) = host.get("/metrics").await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "infra_game_actions_total{outcome=\"done\"} 1",
        "# TYPE infra_game_append_seconds histogram",
    ] {
        assert!(metrics.contains(line), "`{line}` is missing in {metrics}");
    }
    assert!(!metrics.contains(&mei.known.room), "a room is no label");
    let (status, _, health) = host.get("/health").await;
    assert_eq!(status, 200, "{health}");
    let public = host.server.addr();
    assert_eq!(raw::get(public, "/health/live", &[]).await.0, 200);
    assert_eq!(raw::get(public, "/health/ready", &[]).await.2, r#"{"status":"ready"}"#);
    let (status, kind, page) = raw::get(public, "/", &[]).await;
    assert_eq!((status, kind.as_str()), (200, "text/html; charset=utf-8"));
    assert!(page.contains("Liap Tui"));
    assert_eq!(raw::get(public, "/metrics", &[]).await.0, 404);
    assert_eq!(raw::get(public, "/api/rooms", &[]).await.0, 404);
    let (status, kind, _) = host.get("/dashboard").await;
    assert_eq!((status, kind.as_str()), (200, "text/html; charset=utf-8"));
    assert_eq!(host.get("/").await.0, 303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_token_nothing_of_the_admin_listener_is_told_without_it() {
    let secret = "sixteen characters or more";
    let guarded =
        game_server::config::Options { admin_token: Some(secret.to_owned()), ..options() };
    let host = start_with(guarded, SystemClock::shared()).await;
    let addr = host.server.admin_addr();
    let right = format!("Bearer {secret}");
    let wrong = format!("Bearer {secret}!");
    for path in [
        "/metrics",
        "/health",
        "/api/overview",
        "/api/rooms",
        "/api/rooms/000000",
        "/api/rooms/000000/at/1",
        "/api/events",
    ] {
        assert_eq!(raw::get(addr, path, &[]).await.0, 401, "{path} without");
        assert_eq!(raw::get(addr, path, &[("authorization", &wrong)]).await.0, 401, "{path} wrong");
        if path != "/api/events" {
            let (status, _, _) = raw::get(addr, path, &[("authorization", &right)]).await;
            assert_ne!(status, 401, "{path} with");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_live_stream_tells_events_as_a_spectator_sees_them() {
    let host = start().await;
    let addr = host.server.admin_addr();
    let mut live = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("GET /api/events HTTP/1.1\r\nhost: {addr}\r\n\r\n");
    live.write_all(request.as_bytes()).await.unwrap();
    let mut told = String::new();
    let mut hear_until = async |wanted: &str| {
        while !told.contains(wanted) {
            let mut bytes = [0; 4_096];
            let read = live.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "the stream ended: {told}");
            told.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        told.clone()
    };
    hear_until("text/event-stream").await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    let told = hear_until("\"type\":\"dealt\"").await;
    assert!(told.contains(&mei.known.room));
    assert!(!told.contains("\"hand\":["), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_game_counts_once_and_is_archived_once_also_after_restarts() {
    let mut host = start().await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_on(&mut mei, 1).await;
    let state = host.state_of(&mei.known.room).await;
    let people = state["seats"].as_array().unwrap();
    let seat = people.iter().position(|seat| seat["name"] == "Mei").unwrap();
    let won = state["result"]["winners"].as_array().unwrap().contains(&json!(seat));
    let score = state["result"]["scores"][seat].clone();
    for _ in 0..2 {
        eventually("the game is counted", || async {
            let (status, _, body) = host.get("/api/leaderboard?by=score").await;
            let board: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(status, 200);
            board["rows"][0]["played"] == 1
        })
        .await;
        let (_, _, body) = host.get("/api/leaderboard").await;
        let board: Value = serde_json::from_str(&body).unwrap();
        let row = &board["rows"][0];
        assert_eq!((&board["by"], &board["total"]), (&json!("wins"), &json!(1)), "{body}");
        assert_eq!((&row["name"], &row["played"]), (&json!("Mei"), &json!(1)), "bots are left out");
        assert_eq!((&row["won"], &row["total_score"]), (&json!(u8::from(won)), &score));
        assert!(!body.contains("player"), "nobody's id is shown: {body}");
        let archive = Arc::clone(&host.backends.archive);
        eventually("the game is archived", || async {
            !archive.list("games", "", 9).await.unwrap().is_empty()
        })
        .await;
        let archived = archive.list("games", "", 9).await.unwrap();
        assert_eq!(archived.len(), 1);
        assert!(archived[0].name.starts_with(&format!("games/{}-", mei.known.room)));
        let body = archive.get(&archived[0].name).await.unwrap().unwrap();
        let game: Value = serde_json::from_slice(&body).unwrap();
        let events = game["events"].as_array().unwrap();
        let offsets: Vec<_> = events.iter().map(|line| line["offset"].as_u64().unwrap()).collect();
        assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
        assert_eq!(events.last().unwrap()["event"]["type"], "game_ended");
        let folder = host.stop().await;
        host = start_in(folder, options(), SystemClock::shared()).await;
    }
    // Players see the same, of each time.
    let public = host.server.addr();
    for over in ["day", "week", "month", "all"] {
        let path = format!("/api/leaderboard?over={over}");
        let (status, _, body) = raw::get(public, &path, &[]).await;
        let board: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &board["over"]), (200, &json!(over)), "{body}");
        assert_eq!(board["rows"][0]["name"], "Mei", "{body}");
    }
    for path in ["/api/leaderboard?by=luck", "/api/leaderboard?over=a+year"] {
        for addr in [public, host.server.admin_addr()] {
            let (status, kind, _) = raw::get(addr, path, &[]).await;
            assert_eq!((status, &*kind), (400, "application/problem+json"), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_shown_as_it_was_after_any_of_its_events_also_after_a_restart() {
    let mut host = start().await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_on(&mut mei, 1).await;
    let room = mei.known.room.clone();
    let recorded = host.log_of(&room).await;
    let events: Vec<Event> =
        recorded.iter().map(|recorded| recorded.event.payload.decode().unwrap()).collect();
    for is_restarted in [false, true] {
        if is_restarted {
            let folder = host.stop().await;
            host = start_in(folder, options(), SystemClock::shared()).await;
        }
        let (mut model, mut by_snapshot) = (Room::default(), 0);
        for (event, offset) in events.iter().zip(1..) {
            model.evolve(event);
            if offset % 9 != 1 && offset != events.len() {
                continue;
            }
            let (status, _, body) = host.get(&format!("/api/rooms/{room}/at/{offset}")).await;
            assert_eq!(status, 200, "{body}");
            assert!(!body.contains("\"hand\":["), "{body}");
            let moment: Value = serde_json::from_str(&body).unwrap();
            let view = model.view(Viewer::Spectator).unwrap();
            assert_eq!(moment["state"], serde_json::to_value(view).unwrap(), "event {offset}");
            assert_eq!(moment["event"]["offset"], offset);
            assert_eq!(moment["event"]["event"]["type"], event.name());
            assert_eq!(moment["last"], events.len());
            let begun = moment["snapshot"].as_u64().unwrap_or(0);
            assert_eq!(Some(offset as u64 - begun), moment["replayed"].as_u64());
            by_snapshot += u32::from(0 < begun);
        }
        assert!(0 < by_snapshot, "a whole game has snapshots on its way");
    }
    for (path, expected) in [
        (format!("/api/rooms/{room}/at/0"), 404),
        (format!("/api/rooms/{room}/at/{}", events.len() + 1), 404),
        ("/api/rooms/000000/at/1".to_owned(), 404),
        (format!("/api/rooms/{room}/at/then"), 400),
        ("/api/rooms/not-a-code/at/1".to_owned(), 400),
    ] {
        assert_eq!(host.get(&path).await.0, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_unfinished_rooms_are_back_before_the_first_client_asks() {
    let host = start().await;
    let mut rooms = Vec::new();
    for number in 0..12 {
        let mut mei = host.host(&format!("Mei {number}")).await;
        if number % 2 == 0 {
            act(&mut mei, &json!({"type": "start", "action": 1})).await;
        }
        rooms.push(mei);
    }
    let folder = host.stop().await;
    let host = start_in(folder, options(), SystemClock::shared()).await;
    let shown: Value = serde_json::from_str(&host.get("/api/rooms").await.2).unwrap();
    assert_eq!(shown["total"], 12, "{shown}");
    for mei in rooms {
        let offset = host.events_of(&mei.known.room).await;
        assert!(mei.known.table.offset <= offset, "what was told is there");
    }
}
