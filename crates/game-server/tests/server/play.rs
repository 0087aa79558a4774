//! Whole games by clients that know the protocol alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    player::{Player, text},
    raw::{Heard, RawSocket},
    support::{act, ask, start, start_in, until},
};

/// Plays until the game is over; every message is taken into account.
pub(crate) async fn play_on(player: &mut Player, mut number: u64) -> u64 {
    while !player.known.table.is_over {
        if let Some(mut choice) = player.known.table.choose() {
            number += 1;
            choice["action"] = json!(number);
            while let Some(pause) = act(player, &choice).await["retry_after_ms"].as_u64() {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            continue;
        }
        let message = player.next().await.unwrap().expect("closed");
        player.take(&message).unwrap();
    }
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_and_three_bots_play_a_game_to_its_end() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    let mut spectator = host.player().await;
    spectator.say(&json!({"type": "spectate", "room": mei.known.room})).await.unwrap();
    until(&mut spectator, "joined").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    let watch = async {
        while !spectator.known.table.is_over {
            let message = spectator.next().await.unwrap().expect("closed");
            spectator.take(&message).unwrap();
            let shown = message["event"].to_string();
            assert!(!shown.contains("\"hand\":["), "a spectator sees no hand: {shown}");
        }
    };
    tokio::join!(play_on(&mut mei, 1), watch);
    let state = host.state_of(&mei.known.room).await;
    assert_eq!(state["status"], "completed");
    assert_eq!(state["offset"], mei.known.table.offset);
    assert_eq!(host.events_of(&mei.known.room).await, mei.known.table.offset);
    assert!(state["result"]["winners"].as_array().is_some_and(|winners| !winners.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_game_goes_on_after_a_restart_and_a_repeated_action_gets_its_first_answer() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    let started = act(&mut mei, &json!({"type": "start", "action": 1})).await;
    let refused = act(&mut mei, &json!({"type": "start", "action": 2})).await;
    assert_eq!(refused["code"], "wrong_phase", "{refused}");
    let folder = host.stop().await;
    let host = start_in(folder, crate::support::options(), infra_core::SystemClock::shared()).await;
    let mut mei = Player::come_back(host.server.addr(), mei.known).await.unwrap();
    until(&mut mei, "resumed").await;
    let again = act(&mut mei, &json!({"type": "start", "action": 2})).await;
    assert_eq!((&again["code"], &again["offset"]), (&refused["code"], &refused["offset"]));
    let stale = act(&mut mei, &json!({"type": "start", "action": 1})).await;
    assert_eq!(stale["code"], "stale_action", "{stale}, first answered by {started}");
    play_on(&mut mei, 2).await;
    assert_eq!(host.state_of(&mei.known.room).await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_tells_clients_to_come_back_and_takes_no_new_ones() {
    let host = start().await;
    let addr = host.server.addr();
    let mut socket = RawSocket::greeted(addr).await;
    socket.say(r#"{"type":"create_room","name":"Mei"}"#).await;
    // Answered after the room was entered: it has its token then.
    socket.say(r#"{"type":"ping","nonce":1}"#).await;
    let heard = socket.hear_past(&["joined", "presence", "event"]).await;
    assert!(matches!(heard, Heard::Message(message) if message["type"] == "pong"));
    let stopped = tokio::spawn(async move { host.stop().await });
    let heard = socket.hear_past(&["joined", "presence", "event"]).await;
    let Heard::Message(draining) = heard else { panic!("{heard:?}") };
    assert_eq!(draining["type"], "draining");
    // What the end and the next start take, and a second in which players are scattered.
    let pause = draining["come_back_in_ms"].as_u64().unwrap();
    assert!((500..11_000).contains(&pause), "{pause}");
    assert!(draining["token"]["token"].is_string(), "{draining}");
    assert_eq!(socket.hear_past(&["presence"]).await, Heard::Closed(1012));
    stopped.await.unwrap();
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lobby_lists_rooms_until_they_are_full_or_gone() {
    let host = start().await;
    let mut watcher = host.player().await;
    watcher.say(&json!({"type": "list_rooms"})).await.unwrap();
    assert_eq!(until(&mut watcher, "rooms").await["total"], 0);
    let mut mei = host.host("Mei").await;
    while until(&mut watcher, "rooms").await["rooms"][0]["host"] != "Mei" {}
    act(&mut mei, &json!({"type": "add_bot", "action": 1, "style": "bold"})).await;
    while until(&mut watcher, "rooms").await["rooms"][0]["bots"] != 1 {}
    act(&mut mei, &json!({"type": "remove_bot", "action": 2, "seat": 1})).await;
    let left = ask(&mut mei, &json!({"type": "leave_room", "action": 3}), &["left"]).await;
    assert_eq!(left["reason"], "room_gone", "its last person has left it");
    while until(&mut watcher, "rooms").await["total"] != 0 {}
    let mut visitor = host.player().await;
    let gone = json!({"type": "join_room", "room": mei.known.room, "name": "Li"});
    let refused = ask(&mut visitor, &gone, &["refused", "joined"]).await;
    assert_eq!(refused["code"], "room_abandoned", "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_chat_and_make_gestures_and_a_newer_connection_takes_the_seat() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    let mut li = host.guest(&mei.known.room, "Li").await;
    let said = "<img src=x onerror=alert(1)> 你好";
    act(&mut mei, &json!({"type": "chat", "action": 1, "text": said})).await;
    loop {
        let event = until(&mut li, "event").await;
        if event["event"]["type"] == "chatted" || event["event"]["text"].is_string() {
            assert_eq!(event["event"]["text"], said, "a text is passed on as it is");
            break;
        }
    }
    li.say(&json!({"type": "emoji", "emoji": "clap"})).await.unwrap();
    let gesture = until(&mut mei, "emoji").await;
    assert_eq!((&gesture["seat"], &gesture["emoji"]), (&json!(1), &json!("clap")));
    let newer = Player::come_back(host.server.addr(), li.known.clone()).await.unwrap();
    while let Some(message) = li.next().await.unwrap() {
        assert_ne!(text(&message, "type"), "error", "{message}");
    }
    drop(newer);
    while until(&mut mei, "presence").await["connected"] != json!([true, false, false, false]) {}
    let leave = act(&mut mei, &json!({"type": "leave_room", "action": 2})).await;
    assert_eq!(leave["type"], "ack", "{leave}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spectator_comes_back_to_what_it_missed_and_leaves() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    let mut spectator = host.player().await;
    let watch = json!({"type": "spectate", "room": mei.known.room});
    spectator.say(&watch).await.unwrap();
    until(&mut spectator, "joined").await;
    let from =
        json!({"epoch": spectator.known.table.epoch, "offset": spectator.known.table.offset});
    let table = spectator.known.table.clone();
    let leave = json!({"type": "leave_room", "action": 1});
    let gone = ask(&mut spectator, &leave, &["left"]).await;
    assert_eq!(gone["reason"], "asked");
    for action in 1..=5 {
        act(&mut mei, &json!({"type": "chat", "action": action, "text": "word"})).await;
    }
    spectator.known.table = table;
    spectator
        .say(&json!({"type": "spectate", "room": mei.known.room, "from": from}))
        .await
        .unwrap();
    let resumed = until(&mut spectator, "resumed").await;
    assert_eq!((&resumed["missed"], &resumed["token"]), (&json!(5), &Value::Null), "{resumed}");
    for _ in 0..5 {
        until(&mut spectator, "event").await;
    }
    for (why, from) in [
        ("epoch_changed", json!({"epoch": "another", "offset": 1})),
        ("offset_ahead", json!({"epoch": spectator.known.table.epoch, "offset": 1_000})),
    ] {
        ask(&mut spectator, &json!({"type": "leave_room", "action": 1}), &["left"]).await;
        let again = json!({"type": "spectate", "room": mei.known.room, "from": from});
        let joined = ask(&mut spectator, &again, &["joined", "resumed"]).await;
        assert_eq!(joined["why"], why, "{joined}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_while_it_comes_in_leaves_no_ghost() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    let join = json!({"type": "join_room", "room": mei.known.room, "name": "Ghost"});
    for _ in 0..20 {
        let mut ghost = RawSocket::greeted(host.server.addr()).await;
        ghost.say(&json!({"type": "spectate", "room": mei.known.room}).to_string()).await;
        drop(ghost);
    }
    let mut ghost = RawSocket::greeted(host.server.addr()).await;
    ghost.say(&join.to_string()).await;
    drop(ghost);
    // Everybody who came has gone once a later visitor is alone with the host.
    let alone = json!([true, false, false, false]);
    let mut spectator = host.player().await;
    spectator.say(&json!({"type": "spectate", "room": mei.known.room})).await.unwrap();
    loop {
        let presence = until(&mut spectator, "presence").await;
        if presence["connected"] == alone && presence["spectators"] == 1 {
            break;
        }
    }
    act(&mut mei, &json!({"type": "chat", "action": 1, "text": "still here"})).await;
}
