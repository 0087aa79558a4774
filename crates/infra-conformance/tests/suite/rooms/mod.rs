//! Rooms on two processes: NATS between them, their history in PostgreSQL, real clients on both.

mod node;

use std::time::Duration;

use infra_core::{Clock as _, SystemClock, random::Random};
use infra_ws::{
    client::{Heard, Rooms},
    history::Place,
    wire::Recovered,
};
use serde_json::{Value, json};

use self::node::Node;

/// The test below, which its nodes are instances of.
const OWN: &str =
    "rooms::two_processes_serve_one_room_over_nats_and_one_goes_on_when_the_other_is_killed";

const PATIENCE: Duration = Duration::from_mins(1);

/// Returns the next thing of a kind that a client hears.
async fn hear<T>(rooms: &mut Rooms, is_it: impl Fn(Heard) -> Option<T>) -> T {
    let heard = async {
        loop {
            if let Some(found) = is_it(rooms.next().await.expect("it is not stopped")) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("it is heard in time")
}

async fn joined(rooms: &mut Rooms) -> (Place, Recovered) {
    let joined = |heard| {
        let Heard::Joined { from, recovered, .. } = heard else { return None };
        Some((from, recovered))
    };
    hear(rooms, joined).await
}

async fn events(rooms: &mut Rooms, count: usize) -> Vec<(Place, Value)> {
    let mut events = Vec::new();
    while events.len() < count {
        let event = |heard| {
            let Heard::Event { place, data, .. } = heard else { return None };
            Some((place, data))
        };
        events.push(hear(rooms, event).await);
    }
    events
}

/// Returns the places of the events that one client published.
fn of(who: &str, events: &[(Place, Value)]) -> Vec<Place> {
    let own = events.iter().filter(|(_, data)| data[0] == who);
    own.map(|(place, _)| place.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_serve_one_room_over_nats_and_one_goes_on_when_the_other_is_killed() {
    if let Some(name) = node::own_name() {
        return node::run(&name).await;
    }
    let name = format!("rooms_{:016x}", Random::from_system().next_u64());
    let (one, two) = (Node::start(OWN, &name), Node::start(OWN, &name));
    let (mut ann, mut bob) = (one.client("ann"), two.client("bob"));
    for client in [&mut ann, &mut bob] {
        client.join("hall", None, None).await.unwrap();
        assert_eq!(joined(client).await.1, Recovered::Fresh);
    }
    let (mut by_ann, mut by_bob) = (Vec::new(), Vec::new());
    for n in 0..50 {
        let (ann, bob) =
            (ann.publish("hall", json!(["ann", n])), bob.publish("hall", json!(["bob", n])));
        let (ann, bob) = tokio::join!(ann, bob);
        by_ann.push(ann.unwrap().unwrap());
        by_bob.push(bob.unwrap().unwrap());
    }
    let heard = events(&mut ann, 100).await;
    assert_eq!(heard, events(&mut bob, 100).await, "both see one stream");
    assert!(heard.iter().zip(1..).all(|((place, _), offset)| place.offset == offset));
    assert_eq!((of("ann", &heard), of("bob", &heard)), (by_ann, by_bob));

    let clock = SystemClock::shared();
    let mut times = Vec::new();
    for n in 0..50 {
        let begun = clock.now();
        ann.publish("hall", json!(["timed", n])).await.unwrap();
        events(&mut bob, 1).await;
        times.push(clock.now().since(begun));
    }
    times.sort_unstable();
    println!("from one process to the other: median {:?}, longest {:?}", times[25], times[49]);

    let last = events(&mut ann, 50).await.pop().unwrap().0;
    drop(one);
    for n in 0..10 {
        bob.publish("hall", json!(["late", n])).await.unwrap();
    }
    assert_eq!(events(&mut bob, 10).await[9].0.offset, 160);
    // Ann comes back to the other process with what she saw, and misses nothing.
    let mut again = two.client("ann");
    again.join("hall", None, Some(last.clone())).await.unwrap();
    assert_eq!(joined(&mut again).await, (last, Recovered::Recovered { count: 10 }));
    let missed = events(&mut again, 10).await;
    assert!(missed.iter().zip(0..).all(|((_, data), n)| *data == json!(["late", n])));
}
