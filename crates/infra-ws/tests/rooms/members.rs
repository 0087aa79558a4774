//! Connections, who they are, and the rooms they are in.

use std::time::Duration;

use infra_ws::{Close, State, room::Life};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, TICK, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lives_through_its_states_and_no_step_can_be_left_out() {
    let server = Server::start().await;
    let mut ann = server.raw().await;
    let early = ann.join("room-456", Value::Null).await;
    assert_eq!((&early["type"], &early["code"]), (&json!("error"), &json!("unauthenticated")));
    ann.say(json!({"type": "connect", "token": "player-123"})).await;
    let connected = ann.expect("connected").await;
    let connection = server.hub.of_user("player-123").remove(0);
    assert_eq!(connected["connection"], connection.id().number());
    assert_eq!(connection.state(), State::Identified);
    let unsaid = ann.publish("room-456", json!(1)).await;
    assert_eq!(unsaid["code"], "not_in_room");
    assert_eq!(ann.join("room-456", Value::Null).await["type"], "joined");
    assert_eq!(server.rooms.members("room-456"), [connection.id()]);
    ann.say(json!({"type": "connect", "token": "bob"})).await;
    assert_eq!(ann.closed().await.unwrap().0, 4010, "a connection never changes hands");
    server.settled().await;

    let (mut bob, _) = server.in_room("bob", "room-456").await;
    let connection = server.hub.of_user("bob").remove(0);
    let before = server.hub.count();
    // Two ends that race count once.
    let ends: Vec<_> = (0..2)
        .map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { connection.close(Close::new(1000, "Normal closure")) })
        })
        .collect();
    for end in ends {
        end.await.unwrap();
    }
    assert_eq!(bob.closed().await, Some((1000, "Normal closure".to_owned())));
    server.settled().await;
    assert_eq!((before, server.hub.count()), (1, 0));
    assert_eq!(connection.state(), State::Ended);
    assert!(server.rooms.members("room-456").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_all_members_but_those_left_out_in_order() {
    let server = Server::start().await;
    let mut players = Vec::new();
    for user in ["ann", "bob", "eve"] {
        players.push(server.in_room(user, "room-1").await.0);
    }
    let bob = server.hub.of_user("bob")[0].id();
    for number in 0..200 {
        let everybody = server.rooms.broadcast().room("room-1");
        let everybody = if number % 2 == 1 { everybody.except(bob) } else { everybody };
        let sent = everybody.send(json!({"type": "test", "data": number}));
        assert_eq!((sent.queued, sent.refused), (3 - usize::from(number % 2 == 1), 0));
    }
    for (index, player) in players.iter_mut().enumerate() {
        let step = if index == 1 { 2 } else { 1 };
        for number in (0..200).step_by(step) {
            let message = player.expect("message").await;
            assert_eq!(message["room"], "room-1");
            assert_eq!(message["data"], json!({"type": "test", "data": number}));
        }
    }
    let sent = server.rooms.broadcast().user("ann").user("eve").except_user("eve").send(json!(1));
    assert_eq!(sent.queued, 1);
    let sent = server.rooms.broadcast().everybody().connection(bob).send(json!(2));
    assert_eq!(sent.queued, 3, "who is named twice hears it once");
    drop(players);
    server.settled().await;
    let ledger = server.rooms.ledger("room-1");
    assert!(ledger.is_balanced() && ledger.waiting == 0, "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_both_members_as_one_frame_and_queued_is_not_delivered() {
    let server = Server::start().await;
    let (mut ann, _) = server.in_room("ann", "room-1").await;
    let (mut bob, _) = server.in_room("bob", "room-1").await;
    let before = server.rooms.ledger("room-1");
    let event = json!({"type": "game_started", "game_id": "game-1"});
    server.rooms.publish("room-1", &event).await.unwrap();
    assert_eq!(server.rooms.ledger("room-1").enqueued, before.enqueued + 2);
    for player in [&mut ann, &mut bob] {
        let frame = player.expect("events").await;
        assert_eq!(frame["room"], "room-1");
        assert_eq!(frame["events"], json!([{"offset": 1, "data": event}]));
    }
    until(|| server.rooms.ledger("room-1").delivered == before.enqueued + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_locks_and_limits_hold() {
    let server = Server::with(
        |setup| {
            setup.rooms = setup.rooms.clone().seats(2).per_connection(2);
        },
        |app| app,
    )
    .await;
    let hold = Duration::from_secs(10);
    assert_eq!(server.rooms.reserve("game", "eve", hold).await.unwrap(), Ok(0));
    let (_ann, joined) = server.in_room("ann", "game").await;
    assert_eq!(joined["seat"], 1);
    let (mut bob, refused) = server.in_room("bob", "game").await;
    assert_eq!(refused["code"], "no_seat");
    let (_eve, joined) = server.in_room("eve", "game").await;
    assert_eq!(joined["seat"], 0);
    assert_eq!(bob.join("secret", Value::Null).await["code"], "denied");
    assert_eq!(bob.join("no such/room", Value::Null).await["code"], "not_found");
    assert!(server.rooms.lock("game") && !server.rooms.lock("nowhere"));
    assert_eq!(bob.join("game", Value::Null).await["code"], "locked");
    assert!(server.rooms.unlock("game"));
    assert_eq!(bob.join("game", Value::Null).await["code"], "no_seat");
    assert_eq!(bob.join("a", Value::Null).await["type"], "joined");
    assert_eq!(bob.join("b", Value::Null).await["type"], "joined");
    assert_eq!(bob.join("c", Value::Null).await["code"], "too_many");
    assert_eq!(bob.ask(json!({"type": "leave", "room": "a"})).await["type"], "ack");
    assert_eq!(bob.join("c", Value::Null).await["type"], "joined");
    assert_eq!(bob.publish("c", json!({"rude": 1})).await["code"], "denied");
    let answer = bob.ask(json!({"type": "request", "method": "echo", "data": [1]})).await;
    assert_eq!(answer["data"], json!({"user": "bob", "room": null, "data": [1]}));
    assert_eq!(bob.ask(json!({"type": "request", "method": "what"})).await["code"], "not_found");
    bob.say(json!({"type": "ping"})).await;
    bob.expect("pong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_ignores_flaps_and_second_devices_and_tells_of_departures() {
    let server = Server::with(
        |setup| {
            let (user, room) = (Duration::from_millis(400), Duration::from_millis(400));
            setup.rooms = setup.rooms.clone().grace(user, room);
        },
        |app| app,
    )
    .await;
    let (mut ann, joined) = server.in_room("ann", "room").await;
    assert_eq!(joined["present"], json!([{"user": "ann", "connections": 1}]));
    let (bob, _) = server.in_room("bob", "room").await;
    assert_eq!(ann.expect("presence").await["joined"][0]["user"], "bob");
    let (phone, _) = server.in_room("bob/phone", "room").await;
    until(|| server.rooms.present("room").iter().any(|one| one.connections == 2)).await;
    drop((bob, phone));
    until(|| server.rooms.present("room").iter().any(|one| one.connections == 0)).await;
    // Back before it is given up: nobody hears of it.
    let (bob, _) = server.in_room("bob", "room").await;
    drop(bob);
    until(|| server.rooms.present("room").iter().any(|one| one.connections == 0)).await;
    server.clock.advance(Duration::from_millis(400));
    let presence = ann.expect("presence").await;
    assert_eq!((&presence["joined"], &presence["left"]), (&json!([]), &json!(["bob"])));
    assert_eq!(ann.ask(json!({"type": "leave", "room": "room"})).await["type"], "ack");
    until(|| server.rooms.present("room").is_empty()).await;
    until(|| {
        server.clock.advance(Duration::from_millis(100));
        server.rooms.rooms().is_empty()
    })
    .await;
    let lives = server.rooms.handler().lives.lock().clone();
    let lives: Vec<Life> = lives.into_iter().map(|(_, life)| life).collect();
    let bob = || "bob".to_owned();
    let wanted = [
        Life::Created,
        Life::Joined("ann".to_owned()),
        Life::Joined(bob()),
        Life::Dropped(bob()),
        Life::Returned(bob()),
        Life::Dropped(bob()),
        Life::Left(bob()),
        Life::Left("ann".to_owned()),
        Life::Disposed,
    ];
    assert_eq!(lives, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_admitted_is_closed_and_a_token_can_be_refreshed_and_revoked() {
    let server = Server::with(
        |setup| {
            setup.rooms = setup.rooms.clone().handler(TICK);
        },
        |app| app,
    )
    .await;
    for token in ["forged", "never"] {
        let mut stranger = server.raw().await;
        stranger.say(json!({"type": "connect", "token": token})).await;
        let code = if token == "forged" { "unauthenticated" } else { "unavailable" };
        assert_eq!(stranger.expect("error").await["code"], code);
        assert_eq!(stranger.closed().await.unwrap().0, 4010);
    }
    let protocols = format!("{}, bearer.ann", infra_ws::wire::JSON);
    let mut ann = server.with_headers(&[("sec-websocket-protocol", &protocols)]).await;
    ann.say(json!({"type": "connect"})).await;
    assert_eq!(ann.expect("connected").await["user"], "ann");
    let soon = server.now() + 60_000;
    let fresh = ann.ask(json!({"type": "refresh", "token": format!("ann/a/{soon}")})).await;
    assert_eq!(fresh["expires_ms"], soon);
    assert_eq!(ann.ask(json!({"type": "refresh", "token": "bob"})).await["code"], "denied");
    ann.say(json!({"type": "refresh", "id": 9, "token": "ann/a/1"})).await;
    assert_eq!(ann.closed().await.unwrap().0, 4009, "it has expired");

    let mut phone = server.player("bob/phone").await;
    let mut laptop = server.player("bob/laptop").await;
    assert_eq!(server.rooms.revoke("bob", Some("phone"), &Close::REVOKED).await, 1);
    assert_eq!(phone.closed().await.unwrap().0, 4012);
    until(|| server.hub.of_user("bob").len() == 1).await;
    assert_eq!(server.rooms.revoke("bob", None, &Close::REVOKED).await, 1);
    assert_eq!(laptop.closed().await.unwrap().0, 4012);
    server.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_hands_out_tokens_and_a_time_before_it_closes() {
    let server = Server::start().await;
    let mut players = Vec::new();
    for user in 0..10 {
        players.push(server.in_room(&format!("user{user}"), "room").await.0);
    }
    let drain = server.rooms.drain(TICK, PATIENCE, Duration::from_secs(3));
    let readers = async {
        for player in &mut players {
            let token = player.expect("token").await;
            assert_eq!(token["room"], "room");
            assert_eq!(player.expect("goodbye").await["retry_after_ms"], 3_000);
            assert_eq!(player.closed().await.unwrap().0, 1012);
        }
    };
    let (drained, ()) = tokio::join!(drain, readers);
    assert_eq!((drained.asked, drained.left), (10, 0));
}
