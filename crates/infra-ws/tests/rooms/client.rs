//! The client that stays connected, in front of servers that do not what they should.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock, ErrorKind, SystemClock,
    backoff::{Backoff, Jitter},
    lifecycle::Shutdown,
};
use infra_ws::{
    App, Class, Close, Connection, Frame, Hub, Inbound, Options, OriginPolicy,
    client::{Heard, Rooms, RoomsOptions},
    serve,
    wire::JSON,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{PATIENCE, Server};

/// What a server does once it knows its client.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// It gives signs of life, but never says that it knows its client.
    Strange,
    /// It knows its client and gives signs of life, but never lets it into a room.
    Forgetful,
    /// It never says anything again.
    Mute,
    /// It has no room for anybody.
    Unavailable,
    /// It says more than a client keeps that does not listen.
    Chatty,
}

#[async_trait]
impl App for Way {
    type Session = Connection;

    async fn open(&self, connection: Connection) -> Result<Connection, Close> {
        if matches!(self, Self::Strange | Self::Forgetful) {
            let talking = connection.clone();
            tokio::spawn(async move {
                let pong = json!({"type": "pong"}).to_string();
                while talking.send(Frame::text(pong.as_str()), Class::Ephemeral) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
        Ok(connection)
    }

    async fn message(&self, session: &mut Connection, message: Inbound) -> Result<(), Close> {
        let Inbound::Text(text) = message else { return Ok(()) };
        let asked: Value = serde_json::from_str(&text).unwrap();
        let say = |message: Value| {
            session.send(Frame::text(message.to_string()), Class::Durable);
        };
        if let ("connect", Self::Mute | Self::Forgetful | Self::Unavailable | Self::Chatty) =
            (asked["type"].as_str().unwrap(), self)
        {
            say(json!({"type": "connected", "connection": 1, "user": "ann",
                "heartbeat_ms": 60_000}));
        }
        match (self, asked["type"].as_str()) {
            (Self::Unavailable, Some("join")) => say(json!({"type": "error", "id": asked["id"],
                "code": "unavailable", "message": "no room now"})),
            (Self::Chatty, Some("connect")) => {
                (0..2_000).for_each(|n| say(json!({"type": "message", "data": n})));
            }
            (_, _) => {}
        }
        Ok(())
    }

    async fn closed(&self, _connection: Connection) {}
}

/// Serves without pings, and returns where.
pub(crate) async fn serve_in(way: Way, origin: OriginPolicy) -> String {
    let options = Options::new(origin)
        .protocol(JSON)
        .outbox(4_096, 1024 * 1024)
        .heartbeat(Duration::from_mins(2), Duration::from_mins(5));
    let hub = Hub::new(options, SystemClock::shared(), Shutdown::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { serve(listener, hub, Arc::new(way)).await.unwrap() });
    format!("ws://{address}/")
}

async fn client_of(way: Way, patience: Duration) -> Rooms {
    let url = serve_in(way, OriginPolicy::same_host()).await;
    let backoff = Backoff::exponential(Duration::from_millis(1)).jitter(Jitter::None);
    let options = RoomsOptions::new(url, || "ann".to_owned());
    Rooms::start(options.backoff(backoff).patience(patience))
}

/// Waits until the server knows the client.
async fn connected(rooms: &mut Rooms) {
    let connected = async { while !matches!(rooms.next().await, Some(Heard::Connected(_))) {} };
    tokio::time::timeout(PATIENCE, connected).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_death_although_the_client_keeps_asking() {
    let mut rooms = client_of(Way::Mute, Duration::from_millis(500)).await;
    connected(&mut rooms).await;
    let asks = async {
        for number in 0.. {
            rooms.join(format!("room {number}"), None, None).await.unwrap();
            let heard = tokio::time::timeout(Duration::from_millis(20), rooms.next()).await;
            if let Ok(heard) = heard {
                return heard;
            }
        }
        None
    };
    let heard = tokio::time::timeout(PATIENCE, asks).await.expect("it is given up");
    assert!(matches!(heard, Some(Heard::Waiting(_))), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signs_of_life_are_no_welcome_and_let_nobody_into_a_room() {
    let mut rooms = client_of(Way::Strange, Duration::from_millis(500)).await;
    let heard = tokio::time::timeout(PATIENCE, rooms.next()).await.unwrap();
    assert!(matches!(heard, Some(Heard::Waiting(_))), "{heard:?}");

    let mut rooms = client_of(Way::Forgetful, Duration::from_millis(500)).await;
    rooms.join("room", None, None).await.unwrap();
    connected(&mut rooms).await;
    let heard = tokio::time::timeout(PATIENCE, rooms.next()).await.unwrap();
    assert!(matches!(heard, Some(Heard::Waiting(_))), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pauses_grow_while_a_room_is_unavailable() {
    let mut rooms = client_of(Way::Unavailable, PATIENCE).await;
    rooms.join("room", None, None).await.unwrap();
    for pause in [1, 2, 4, 8, 16] {
        connected(&mut rooms).await;
        let heard = tokio::time::timeout(PATIENCE, rooms.next()).await.unwrap();
        assert_eq!(heard, Some(Heard::Waiting(Duration::from_millis(pause))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_ever_who_does_not_listen() {
    let rooms = client_of(Way::Chatty, Duration::from_millis(500)).await;
    let asked = async {
        loop {
            let asked = rooms.request(None, "echo", json!(1)).await.unwrap_err();
            if asked.to_string().contains("no answer in time") {
                return asked;
            }
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asked).await.unwrap();
    assert_eq!(asked.kind(), &ErrorKind::Indeterminate);
    let ordered = async {
        loop {
            if let Err(refused) = rooms.join("room", None, None).await {
                return refused;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, ordered).await.unwrap();
    assert_eq!(refused.kind(), &ErrorKind::Timeout, "nothing was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_comes_back_by_itself_and_not_before_the_time_that_a_stopping_server_names() {
    const NAMED: Duration = Duration::from_secs(1);
    let clock = SystemClock::new();
    let stopping = Server::start().await;
    let options = RoomsOptions::new(format!("ws://{}/", stopping.address), || "ann".to_owned());
    let soon = Backoff::fixed(Duration::from_millis(1)).jitter(Jitter::None);
    let mut rooms = Rooms::start(options.backoff(soon));
    let mut hear = async || tokio::time::timeout(PATIENCE, rooms.next()).await.unwrap().unwrap();
    assert_eq!(hear().await, Heard::Connected("ann".to_owned()));
    let begun = clock.now();
    stopping.hub.drain(Close::RESTART, Duration::ZERO, PATIENCE, |_| {}).await;
    assert_eq!(hear().await, Heard::Waiting(Duration::from_millis(1)), "it knocks at once");
    let Heard::Waiting(pause) = hear().await else { panic!("a server that stops takes nobody") };
    assert!(NAMED <= pause, "{pause:?}");
    stopping.shutdown.close(PATIENCE).await;
    let next = Server::with(|setup| setup.address = stopping.address, |app| app).await;
    while hear().await != Heard::Connected("ann".to_owned()) {}
    let absence = clock.now().since(begun);
    assert!(pause <= absence, "{absence:?} instead of {pause:?}");
    assert_eq!(next.hub.count(), 1);
}
