//! Two nodes that serve the same rooms.

use std::{sync::Arc, time::Duration};

use infra_core::{SystemClock, event::EventStore, pubsub::PubSub};
use infra_testkit::model::{ModelEvents, ModelPubSub};
use infra_ws::{
    Close,
    history::{EventHistory, History},
    room::Cluster,
};
use serde_json::{Value, json};

use crate::support::Server;

fn shared() -> Arc<dyn History> {
    let store: Arc<dyn EventStore> = Arc::new(ModelEvents::new(SystemClock::shared()));
    Arc::new(EventHistory::new(store, "room.", SystemClock::shared()).unwrap())
}

async fn node(history: &Arc<dyn History>, check: Duration) -> Server {
    let history = Arc::clone(history);
    Server::with(
        |setup| {
            setup.history = Some(history);
            setup.rooms = setup.rooms.clone().check(check);
        },
        |app| app,
    )
    .await
}

async fn pair(check: Duration) -> (Server, Server) {
    let history = shared();
    let (one, two) = (node(&history, check).await, node(&history, check).await);
    let bus: Arc<dyn PubSub> = Arc::new(ModelPubSub::new(1_000));
    for server in [&one, &two] {
        let cluster = Cluster::new(Arc::clone(&bus), "test");
        server.rooms.join_cluster(cluster).await.unwrap();
    }
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_on_one_node_is_heard_on_the_other_once_and_in_order() {
    let (one, two) = pair(Duration::from_mins(1)).await;
    let (mut ann, _) = one.in_room("ann", "room").await;
    let (mut bob, _) = two.in_room("bob", "room").await;
    let rooms = [one.rooms.clone(), two.rooms.clone()];
    let publishers: Vec<_> = rooms
        .into_iter()
        .enumerate()
        .map(|(node, rooms)| {
            tokio::spawn(async move {
                for number in 0..100 {
                    rooms.publish("room", &json!([node, number])).await.unwrap();
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let (heard, other) = (ann.events(200).await, bob.events(200).await);
    assert_eq!(heard, other, "both see one stream");
    assert!(heard.iter().zip(1..).all(|((offset, _), wanted)| *offset == wanted));
    for node in 0..2 {
        let own: Vec<_> = heard.iter().filter(|(_, data)| data[0] == node).collect();
        assert!(own.iter().zip(0..).all(|((_, data), number)| data[1] == number));
    }
    bob.publish("room", json!({"passing": "psst"})).await;
    assert_eq!(ann.expect("message").await["data"], "psst");
    one.rooms.revoke("bob", None, &Close::REVOKED).await;
    assert_eq!(bob.closed().await.unwrap().0, 4012, "revoked on every node");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bus_the_check_of_the_history_finds_what_was_missed() {
    let history = shared();
    let often = Duration::from_millis(20);
    let (one, two) = (node(&history, often).await, node(&history, often).await);
    let (mut ann, _) = one.in_room("ann", "room").await;
    for number in 1..=3 {
        two.rooms.publish("room", &json!(number)).await.unwrap();
    }
    assert_eq!(ann.events(3).await, [(1, json!(1)), (2, json!(2)), (3, json!(3))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_resumes_what_a_node_that_died_had_begun() {
    let history = shared();
    let one = node(&history, Duration::from_mins(1)).await;
    let (mut ann, _) = one.in_room("ann", "room").await;
    let place = ann.publish("room", json!("first")).await["place"].clone();
    assert_eq!(place["offset"], 1);
    one.shutdown.close(Duration::ZERO).await;
    let two = node(&history, Duration::from_mins(1)).await;
    two.rooms.publish("room", &json!("second")).await.unwrap();
    let mut again = two.player("ann").await;
    let joined = again.join("room", place).await;
    assert_eq!(joined["recovered"], json!({"outcome": "recovered", "count": 1}));
    assert_eq!(again.events(1).await, [(2, json!("second"))]);
    assert_ne!(joined["from"]["epoch"], Value::Null);
}
