//! Coming back: everything that was missed, once, in order; or the reason why not.

use std::time::Duration;

use infra_ws::history::Bounds;
use serde_json::{Value, json};

use crate::support::{Player, Server, until};

/// Comes back on a new socket with a token.
async fn resume(server: &Server, token: &Value, from: Value) -> (Player, Value) {
    let mut player = server.raw().await;
    let message = json!({"type": "resume", "token": token, "from": from});
    let answer = player.ask(message).await;
    (player, answer)
}

async fn publish(server: &Server, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        server.rooms.publish("room-1", &json!({"n": number})).await.unwrap();
    }
}

fn place(joined: &Value, offset: u64) -> Value {
    json!({"epoch": joined["from"]["epoch"], "offset": offset})
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_every_missed_event_once_in_order_and_is_found_by_name() {
    let server = Server::start().await;
    publish(&server, 1..=1).await;
    let (mut ann, joined) = server.in_room("ann", "room-1").await;
    publish(&server, 2..=3).await;
    assert_eq!(ann.events(2).await[1].0, 3);
    drop(ann);
    server.settled().await;
    publish(&server, 4..=200).await;

    let (mut ann, resumed) = resume(&server, &joined["token"], place(&joined, 3)).await;
    assert_eq!(resumed["user"], "ann");
    assert_eq!(resumed["recovered"], json!({"outcome": "recovered", "count": 197}));
    publish(&server, 201..=210).await;
    let events = ann.events(207).await;
    let wanted: Vec<_> = (4..=210).map(|n| (n, json!({"n": n}))).collect();
    assert_eq!(events, wanted);
    assert_eq!(server.hub.of_user("ann").len(), 1);
    assert_eq!(server.rooms.members("room-1").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_signed_bound_expiring_and_superseded_once_a_newer_one_was_used() {
    let server = Server::start().await;
    let (first, joined) = server.in_room("ann", "room-1").await;
    let old = joined["token"].clone();
    drop(first);
    let (second, resumed) = resume(&server, &old, Value::Null).await;
    assert_eq!(resumed["type"], "joined", "{resumed}");
    drop(second);
    let (third, _) = resume(&server, &resumed["token"], Value::Null).await;
    let (mut thief, refused) = resume(&server, &old, Value::Null).await;
    assert_eq!(refused["code"], "bad_token", "a second use after the newer one");
    let (head, tail) = old.as_str().unwrap().split_once('.').unwrap();
    let forged = format!("{head}A.{tail}");
    for token in [forged.as_str(), "nonsense"] {
        let message = json!({"type": "resume", "token": token, "id": 7});
        thief.say(message).await;
        assert_eq!(thief.expect("error").await["code"], "bad_token");
    }
    assert_eq!(thief.closed().await.unwrap().0, 4010, "three attempts");
    drop(third);
    server.settled().await;

    server.clock.advance(Duration::from_mins(4));
    let (mut eve, joined) = server.in_room("eve", "room-1").await;
    // Half of its time later a connection gets a fresh one, so long sessions stay resumable.
    server.clock.advance(Duration::from_secs(150));
    let fresh = eve.expect("token").await["token"].clone();
    drop(eve);
    server.clock.advance(Duration::from_secs(151));
    let (_late, refused) = resume(&server, &joined["token"], Value::Null).await;
    assert_eq!(refused["code"], "bad_token", "five minutes are over");
    let (_eve, resumed) = resume(&server, &fresh, Value::Null).await;
    assert_eq!(resumed["type"], "joined");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_no_other_room_and_nobody_elses_connection() {
    let server = Server::start().await;
    let (ann, joined) = server.in_room("ann", "secret").await;
    drop(ann);
    let mut bob = server.player("bob").await;
    let hop = json!({"type": "resume", "token": joined["token"]});
    assert_eq!(bob.ask(hop).await["code"], "bad_token");
    assert_eq!(bob.join("secret", Value::Null).await["code"], "denied");
    // Whoever resumes may do what the bearer may, and nothing is open that was not joined.
    let (mut ann, resumed) = resume(&server, &joined["token"], Value::Null).await;
    assert_eq!((&resumed["user"], &resumed["room"]), (&json!("ann"), &json!("secret")));
    assert_eq!(ann.publish("room-1", json!(1)).await["code"], "not_in_room");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_replay_begins_exactly_behind_what_was_seen() {
    let server = Server::start().await;
    let (ann, joined) = server.in_room("ann", "room-1").await;
    drop(ann);
    publish(&server, 1..=999).await;
    let from = json!({"epoch": joined["from"]["epoch"], "offset": 0});
    let (mut ann, joined) = {
        let mut ann = server.player("ann").await;
        let joined = ann.join("room-1", from).await;
        (ann, joined)
    };
    assert_eq!(joined["recovered"]["count"], 999, "the stream had not begun, so nothing was seen");
    assert_eq!(ann.events(999).await[998].0, 999);
    drop(ann);
    publish(&server, 1_000..=1_005).await;
    let mut ann = server.player("ann").await;
    let joined = ann.join("room-1", place(&joined, 1_002)).await;
    assert_eq!(joined["recovered"], json!({"outcome": "recovered", "count": 3}));
    let offsets: Vec<u64> = ann.events(3).await.into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, [1_003, 1_004, 1_005]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_given_all_is_told_why_and_gets_the_whole_state() {
    let server = Server::with(|setup| setup.bounds = Bounds::new().count(5), |app| app).await;
    for n in 1..=10 {
        server.rooms.publish("state", &json!(n)).await.unwrap();
    }
    *server.rooms.handler().state.lock() = (9, json!({"sum": 45}));
    let mut ann = server.player("ann").await;
    let joined = ann.join("state", Value::Null).await;
    assert_eq!(joined["recovered"]["outcome"], "fresh");
    assert_eq!((&joined["state"], &joined["from"]["offset"]), (&json!({"sum": 45}), &json!(9)));
    assert_eq!(ann.events(1).await, [(10, json!(10))], "what came behind the state follows");
    let epoch = &joined["from"]["epoch"];
    for (from, reason) in [
        (json!({"epoch": epoch, "offset": 2}), "too_old"),
        (json!({"epoch": epoch, "offset": 11}), "ahead"),
        (json!({"epoch": "another", "offset": 9}), "epoch_changed"),
    ] {
        let mut back = server.player("ann").await;
        let joined = back.join("state", from).await;
        let wanted = json!({"outcome": "not_recovered", "reason": reason});
        assert_eq!(joined["recovered"], wanted);
        assert_eq!(joined["state"], json!({"sum": 45}));
        assert_eq!(back.events(1).await, [(10, json!(10))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_socket_of_a_session_replaces_the_stale_one() {
    let server = Server::start().await;
    let (mut stale, joined) = server.in_room("ann/phone", "room-1").await;
    let (_laptop, _) = server.in_room("ann/laptop", "room-1").await;
    let (_fresh, resumed) = resume(&server, &joined["token"], place(&joined, 0)).await;
    assert_eq!(resumed["type"], "joined");
    assert_eq!(stale.closed().await.unwrap().0, 4011);
    until(|| server.rooms.members("room-1").len() == 2).await;
    assert_eq!(server.rooms.present("room-1")[0].connections, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_what_is_anothers_live_or_later_and_nobody_sees_a_hole() {
    let server = Server::start().await;
    let (mut ann, joined) = server.in_room("ann", "room-1").await;
    let hands = json!({"hands": {"ann": [1], "bob": [2]}});
    server.rooms.publish("room-1", &hands).await.unwrap();
    server.rooms.publish("room-1", &json!({"for": "bob", "secret": 7})).await.unwrap();
    server.rooms.publish("room-1", &json!("open")).await.unwrap();
    let live = ann.events(3).await;
    let wanted = [(1, json!({"hand": [1]})), (2, Value::Null), (3, json!("open"))];
    assert_eq!(live, wanted);
    drop(ann);
    let (mut again, _) = resume(&server, &joined["token"], json!({"epoch": "", "offset": 0})).await;
    assert_eq!(again.events(3).await, wanted);
    let mut bob = server.player("bob").await;
    bob.join("room-1", json!({"epoch": "", "offset": 0})).await;
    assert_eq!(bob.events(3).await[1], (2, json!({"for": "bob", "secret": 7})));
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_loss_is_found_by_the_position() {
    let server = Server::with(
        |setup| setup.rooms = setup.rooms.clone().check(Duration::from_millis(20)),
        |app| app,
    )
    .await;
    let (mut ann, joined) = server.in_room("ann", "room-1").await;
    publish(&server, 1..=2).await;
    ann.events(2).await;
    let position = loop {
        let position = ann.expect("position").await;
        if position["place"]["offset"] == 2 {
            break position;
        }
    };
    let epoch = &position["place"]["epoch"];
    assert!(epoch.as_str().is_some_and(|epoch| !epoch.is_empty()));
    assert_eq!(joined["from"]["epoch"], "");
}
