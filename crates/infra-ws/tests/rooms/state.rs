//! State sync over real sockets.

use infra_ws::sync::{Replica, Update, hash};
use serde_json::{Value, json};

use crate::support::{Player, Server};

async fn update(player: &mut Player, part: &str) -> Update {
    loop {
        let message = player.expect("state").await;
        if message["part"] == part {
            return serde_json::from_value(message["update"].clone()).unwrap();
        }
    }
}

fn table(n: u64) -> Value {
    json!({"n": n, "text": "x".repeat(300), "list": [1, {"z": 1, "a": 2.5}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_update_is_the_whole_and_its_hash_is_that_of_the_state() {
    let server = Server::start().await;
    let (mut ann, _) = server.in_room("ann", "room-1").await;
    for n in 1..=5 {
        server.rooms.set_state("room-1", table(n)).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    ann.say(json!({"type": "sync", "room": "room-1"})).await;
    let message = ann.expect("state").await;
    assert_eq!((&message["room"], &message["part"]), (&json!("room-1"), &json!("shared")));
    assert_eq!(message["update"]["strategy"], "full");
    assert_eq!(message["update"]["state"], table(5));
    assert_eq!(message["update"]["hash"], hash(&table(5)));
    assert_eq!(message["update"]["hash"].as_str().unwrap().len(), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_get_deltas_that_give_the_servers_state_and_others_nothing() {
    let server = Server::start().await;
    let (mut ann, _) = server.in_room("ann", "room-1").await;
    let (mut bob, _) = server.in_room("bob", "room-1").await;
    server.rooms.set_state("room-1", table(0)).await.unwrap();
    ann.say(json!({"type": "sync", "room": "room-1"})).await;
    let mut replica = Replica::new();
    replica.apply(update(&mut ann, "shared").await).unwrap();
    for n in 1..=20 {
        server.rooms.set_state("room-1", table(n)).await.unwrap();
        let from = replica.version();
        let delta = update(&mut ann, "shared").await;
        assert!(matches!(&delta, Update::Delta { from: base, to, .. }
            if Some(*base) == from && *to == base + 1));
        replica.apply(delta).unwrap();
        assert_eq!(replica.state(), &table(n));
    }
    // Who says which version it has gets the rest; who is too far behind gets the whole.
    let version = replica.version().unwrap();
    for (behind, strategy) in [(3, "delta"), (11, "full")] {
        let sync = json!({"type": "sync", "room": "room-1", "version": version - behind});
        ann.say(sync).await;
        let message = ann.expect("state").await;
        assert_eq!(message["update"]["strategy"], strategy, "{behind} behind");
    }
    bob.say(json!({"type": "ping"})).await;
    bob.expect("pong").await;
    assert!(bob.seen.iter().all(|message| message["type"] != "state"), "{:?}", bob.seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_user_sees_is_sent_to_it_alone() {
    let server = Server::start().await;
    let (mut ann, _) = server.in_room("ann", "room-1").await;
    let (mut bob, _) = server.in_room("bob", "room-1").await;
    server.rooms.set_state("room-1", table(0)).await.unwrap();
    for (user, card) in [("ann", 1), ("bob", 2)] {
        let own = json!({"hand": [card]});
        server.rooms.set_own_state("room-1", user, own).await.unwrap();
    }
    for (player, card) in [(&mut ann, 1), (&mut bob, 2)] {
        player.say(json!({"type": "sync", "room": "room-1"})).await;
        let mut own = Replica::new();
        own.apply(update(player, "own").await).unwrap();
        assert_eq!(own.state(), &json!({"hand": [card]}));
    }
    assert!(ann.seen.iter().all(|message| !message.to_string().contains("[2]")));
}
