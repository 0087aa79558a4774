//! A whole game between two clients, held against a transcript that was looked at by people.

use infra_ws::sync::canonical;
use serde_json::{Value, json};

use crate::support::{Player, Server};

/// The cards of the game, from a shuffle that is always the same.
const DEALS: [[u64; 2]; 3] = [[7, 4], [2, 9], [5, 3]];

/// Takes what is by chance out of a message: tokens, epochs and times.
fn plain(mut message: Value) -> Value {
    for (name, to) in [("token", "TOKEN"), ("epoch", "EPOCH")] {
        if message.get(name).is_some() {
            message[name] = json!(to);
        }
    }
    for place in ["from", "place"] {
        if message[place].get("epoch").is_some_and(|epoch| epoch != "") {
            message[place]["epoch"] = json!("EPOCH");
        }
    }
    message
}

async fn hear(player: &mut Player, name: &str, count: usize, transcript: &mut Vec<String>) {
    for _ in 0..count {
        let message = plain(player.next().await);
        transcript.push(format!("{name} <- {}", canonical(&message)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_game_of_two_clients_is_the_golden_transcript() {
    let server = Server::start().await;
    let mut transcript = Vec::new();
    let mut players = Vec::new();
    for name in ["ann", "bob"] {
        // The first is heard before the second comes: connections are numbered as they are served.
        let mut player = server.raw().await;
        player.say(json!({"type": "connect", "token": name})).await;
        hear(&mut player, name, 1, &mut transcript).await;
        player.say(json!({"type": "join", "id": 1, "room": "game"})).await;
        hear(&mut player, name, 1, &mut transcript).await;
        players.push(player);
    }
    let Ok([mut ann, mut bob]) = <[Player; 2]>::try_from(players) else { panic!("two players") };
    hear(&mut ann, "ann", 1, &mut transcript).await;
    server
        .rooms
        .publish("game", &json!({"type": "game_started", "game_id": "game-1"}))
        .await
        .unwrap();
    let mut scores = [0, 0];
    for (round, [of_ann, of_bob]) in DEALS.into_iter().enumerate() {
        let hands = json!({"hands": {"ann": of_ann, "bob": of_bob}});
        server.rooms.publish("game", &hands).await.unwrap();
        let id = round + 2;
        let play =
            |card| json!({"type": "publish", "id": id, "room": "game", "data": {"card": card}});
        ann.say(play(of_ann)).await;
        // The deal and the start, the own card and the answer, before the other plays.
        let heard = if round == 0 { 4 } else { 3 };
        hear(&mut ann, "ann", heard, &mut transcript).await;
        bob.say(play(of_bob)).await;
        hear(&mut bob, "bob", heard + 1, &mut transcript).await;
        hear(&mut ann, "ann", 1, &mut transcript).await;
        scores[usize::from(of_ann < of_bob)] += 1;
        let result = json!({"type": "round", "scores": scores});
        server.rooms.publish("game", &result).await.unwrap();
        hear(&mut ann, "ann", 1, &mut transcript).await;
        hear(&mut bob, "bob", 1, &mut transcript).await;
    }
    server.rooms.publish("game", &json!({"type": "game_ended", "winner": "ann"})).await.unwrap();
    hear(&mut ann, "ann", 1, &mut transcript).await;
    hear(&mut bob, "bob", 1, &mut transcript).await;
    bob.say(json!({"type": "leave", "id": 9, "room": "game"})).await;
    hear(&mut bob, "bob", 1, &mut transcript).await;
    hear(&mut ann, "ann", 1, &mut transcript).await;
    let text = transcript.join("\n") + "\n";
    let golden = include_str!("game.golden");
    assert!(text == golden, "the transcript is another:\n{text}");
}
