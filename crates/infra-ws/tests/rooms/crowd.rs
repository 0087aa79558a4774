//! Crowds: a reader that never reads in a full room, everybody coming back at once, and churn.
//!
//! `WS_CROWD` sets how many clients there are, `WS_CHURN` how many messages are said.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use infra_core::{Clock, SystemClock, clock::Instant, random::Random};
use infra_ws::{
    client::{Client, Received},
    history::{Bounds, History, MemoryHistory, Place},
    room::RoomOptions,
    wire::JSON,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Player, Server, until};

fn number(variable: &str, few: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Returns the time that goes on by itself, whatever clock a server has.
fn now() -> Instant {
    static CLOCK: LazyLock<Arc<dyn Clock>> = LazyLock::new(SystemClock::shared);
    CLOCK.now()
}

/// A server for a crowd from one address, whose limits are else those by default.
async fn server(history: Option<Arc<dyn History>>) -> Server {
    let many = usize::try_from(number("WS_CROWD", 60)).unwrap() * 2 + 100;
    Server::with(
        |setup| {
            setup.options = setup.options.clone().connections(many, many).per_user(many);
            setup.history = history;
            setup.bounds = Bounds::new();
        },
        |app| app,
    )
    .await
}

/// Returns how long the slowest hundredth took at least.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Publishes at a pace and returns how long each event took to each of the readers.
async fn paced(server: &Server, readers: &mut [Player], count: u64) -> Vec<Duration> {
    let mut times = Vec::new();
    let body = "x".repeat(1_000);
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    for n in 0..count {
        ticks.tick().await;
        let begun = now();
        server.rooms.publish("full", &json!({"n": n, "body": body})).await.unwrap();
        for reader in &mut *readers {
            assert_eq!(reader.events(1).await[0].1["n"], json!(n));
            times.push(now().since(begun));
        }
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_never_reads_in_a_full_room_is_closed_and_the_others_do_not_feel_it() {
    let (pairs, count) = (number("WS_PAIRS", 1), number("WS_PACED", 40));
    let mut ratios = Vec::new();
    for _ in 0..pairs {
        let mut p99s = Vec::new();
        for n_stalled in [0_usize, 1] {
            let server = server(None).await;
            let mut readers = Vec::new();
            for n in 0..number("WS_READERS", 5) {
                readers.push(server.in_room(&format!("reader-{n}"), "full").await.0);
            }
            let mut stalled = Vec::new();
            for _ in 0..n_stalled {
                stalled.push(server.in_room("stalled", "full").await.0);
            }
            let all = server.hub.count();
            p99s.push(p99(paced(&server, &mut readers, count).await));
            // Whatever the kernel took of it, more than its queue and a socket's buffers is too much.
            for n in 0.. {
                if server.hub.count() == all - n_stalled {
                    break;
                }
                let held: Vec<usize> = server
                    .hub
                    .connections()
                    .iter()
                    .map(infra_ws::Connection::queued_bytes)
                    .collect();
                assert!(held.iter().all(|held| *held <= 256 * 1024), "{held:?}");
                server
                    .rooms
                    .publish("full", &json!({"n": n, "body": "x".repeat(20_000)}))
                    .await
                    .unwrap();
                for reader in &mut readers {
                    reader.events(1).await;
                }
            }
            for one in &mut stalled {
                assert!(matches!(one.closed().await, None | Some((4008, _))));
            }
            drop((readers, stalled));
            server.settled().await;
        }
        ratios.push(p99s[1].as_secs_f64() / p99s[0].as_secs_f64());
        println!("p99 without and with one who never reads: {p99s:?}");
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!("median ratio of {pairs} pairs: {:.2} of {ratios:.2?}", ratios[ratios.len() / 2]);
}

/// Comes back, and returns once everything that was missed is there.
async fn come_back(server: &Server, (user, room): (String, String), from: Place, missed: usize) {
    // All connect at the same moment; a full backlog of the listener is tried again.
    let url = format!("ws://{}/", server.address);
    let connected = async {
        loop {
            if let Ok(client) = Client::connect(&url, &[("sec-websocket-protocol", JSON)]).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut client = tokio::time::timeout(PATIENCE * 3, connected).await.unwrap();
    let words = [
        json!({"type": "connect", "token": user}),
        json!({"type": "join", "id": 1, "room": room, "from": from}),
    ];
    for word in words {
        client.send(word.to_string()).await.unwrap();
    }
    let mut heard = 0;
    while heard < missed {
        let Received::Text(text) = client.receive(PATIENCE * 3).await.unwrap() else {
            panic!("cut")
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "joined" {
            assert_eq!(message["recovered"], json!({"outcome": "recovered", "count": missed}));
        }
        for event in message["events"].as_array().into_iter().flatten() {
            heard += 1;
            assert_eq!(event["offset"], json!(from.offset + heard as u64));
        }
    }
    client.close(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_comes_back_at_once_after_a_crash_gets_all_that_was_missed() {
    let n_clients = number("WS_CROWD", 60);
    let shared = || Arc::new(MemoryHistory::new(Bounds::new(), SystemClock::shared()));
    let history: Arc<dyn History> = shared();
    let first = server(Some(Arc::clone(&history))).await;
    let room_of = |n: u64| format!("room-{}", n % 10);
    let mut places = Vec::new();
    let mut players = Vec::new();
    for n in 0..n_clients {
        if n < 10 {
            first.rooms.publish(&room_of(n), &json!("before")).await.unwrap();
        }
        let (player, joined) = first.in_room(&format!("user-{n}"), &room_of(n)).await;
        places.push(serde_json::from_value::<Place>(joined["from"].clone()).unwrap());
        players.push(player);
    }
    // Every task of the server is dropped where it stands, as a kill does it.
    first.shutdown.close(Duration::ZERO).await;
    drop(players);
    let second = Arc::new(server(Some(history)).await);
    for n in 0..10 {
        for missed in 0..5 {
            second.rooms.publish(&room_of(n), &json!(missed)).await.unwrap();
        }
    }
    // Another room goes on meanwhile.
    let (mut others, _) = second.in_room("other", "full").await;
    let calm = p99(paced(&second, std::slice::from_mut(&mut others), 100).await);
    let begun = now();
    let mut returning = JoinSet::new();
    for (n, from) in (0..n_clients).zip(places) {
        let server = Arc::clone(&second);
        let who = (format!("user-{n}"), room_of(n));
        returning.spawn(async move { come_back(&server, who, from, 5).await });
    }
    let mut times = Vec::new();
    let back = loop {
        times.extend(paced(&second, std::slice::from_mut(&mut others), 5).await);
        while let Some(done) = returning.try_join_next() {
            done.unwrap();
        }
        if returning.is_empty() {
            break now().since(begun);
        }
    };
    println!(
        "{n_clients} clients resumed in {back:?}; another room's p99: {calm:?}, then {:?}",
        p99(times)
    );
    drop(others);
    second.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_much_churn_every_counter_is_zero_and_no_task_is_left() {
    let messages = number("WS_CHURN", 2_000);
    let grace = (Duration::from_millis(50), Duration::from_millis(50));
    let server = Server::with(
        |setup| {
            setup.options = setup.options.clone().connections(500, 500).per_user(500);
            setup.rooms = RoomOptions::new().tick(Duration::from_millis(5)).grace(grace.0, grace.1);
        },
        |app| app,
    )
    .await;
    let server = Arc::new(server);
    let (begun, mut tasks) = (now(), JoinSet::new());
    for task in 0..8 {
        let server = Arc::clone(&server);
        tasks.spawn(async move {
            let random = Random::seeded(task);
            let mut left = messages / 8;
            while 0 < left {
                let (user, room) = (format!("user-{task}"), format!("room-{}", random.below(20)));
                let (mut player, _) = server.in_room(&user, &room).await;
                for _ in 0..(1 + random.below(200)).min(left) {
                    let said = player.publish(&room, json!({"n": left})).await;
                    assert_eq!(said["type"], "ack", "{said}");
                    player.seen.clear();
                    left -= 1;
                }
                match random.below(3) {
                    0 => {
                        let left = player.ask(json!({"type": "leave", "room": room})).await;
                        assert_eq!(left["type"], "ack");
                    }
                    1 => player.client.close(PATIENCE).await,
                    // It is just gone.
                    _ => drop(player),
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    println!("{messages} messages of churn in {:?}", now().since(begun));
    server.settled().await;
    // The rooms are forgotten when the users' and the rooms' own time is over.
    until(|| {
        server.clock.advance(Duration::from_millis(20));
        server.rooms.rooms().is_empty()
    })
    .await;
    let ledger = server.hub.ledger();
    assert!(ledger.is_balanced() && messages <= ledger.delivered, "{ledger:?}");
    let hub = &server.hub;
    assert_eq!((hub.count(), hub.users(), hub.held_bytes()), (0, 0, (0, 0)));
    // The listener and the upkeep are all that runs, and they end by themselves; those that have
    // ended are taken out when the next one is spawned.
    server.shutdown.spawn(async {});
    let ended = server.shutdown.close(PATIENCE).await;
    assert_eq!((ended.aborted, ended.panicked), (0, 0));
    assert!(ended.finished <= 3, "{ended:?}");
}
