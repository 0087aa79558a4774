//! A game of numbers: the server's state of a room, followed by two clients as snapshot and deltas.
//!
//! `cargo run -p infra-ws --example room_sync --features client`

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{SystemClock, lifecycle::Shutdown};
use infra_ws::{
    Facts, Hub, Options, OriginPolicy,
    client::{Heard, Rooms, RoomsOptions},
    history::{Bounds, MemoryHistory},
    room::{Denied, Identity, Published, Role, RoomHandler, RoomOptions, RoomServer, TokenBook},
    serve,
    token::KeyRing,
    wire::{Code, JSON},
};
use serde_json::{Value, json};

/// Two sit and the others watch; nobody may say anything, for the server plays by itself.
#[derive(Debug)]
struct Numbers;

#[async_trait]
impl RoomHandler for Numbers {
    async fn authenticate(&self, token: &str, _: &Facts) -> Result<Identity, Denied> {
        Ok(Identity::user(token))
    }

    async fn may_enter(&self, _: &Identity, _: &str) -> Result<Role, Denied> {
        Ok(Role::Player)
    }

    async fn publish(&self, _: &Identity, _: &str, _: Value) -> Result<Published, Denied> {
        Err(Denied::new(Code::Denied, "the server plays by itself"))
    }
}

/// Follows the room and tells what it sees, until the game is over.
#[expect(clippy::print_stdout, reason = "it shows what comes")]
async fn watch(url: String, name: &'static str) -> infra_core::Result<()> {
    let mut rooms = Rooms::start(RoomsOptions::new(url, move || name.to_owned()));
    rooms.join("table", None, None).await?;
    rooms.follow("table").await?;
    while let Some(heard) = rooms.next().await {
        if let Heard::Joined { seat, .. } = &heard {
            println!("{name} sits on seat {seat:?}");
        }
        if let Heard::State { part, state, .. } = &heard {
            println!("{name} sees {part:?}: {state}");
            if state.get("round").is_some_and(|round| round == 3) {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (clock, shutdown) = (SystemClock::shared(), Shutdown::new());
    let options = Options::new(OriginPolicy::same_host()).protocol(JSON);
    let hub = Hub::new(options, Arc::clone(&clock), shutdown.clone());
    let history = Arc::new(MemoryHistory::new(Bounds::new(), Arc::clone(&clock)));
    let tokens = TokenBook::in_memory(KeyRing::generate()?, clock);
    let rooms = RoomServer::new(Arc::clone(&hub), Numbers, history, tokens, RoomOptions::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/", listener.local_addr()?);
    tokio::spawn(serve(listener, hub, Arc::new(rooms.clone())));

    let players = [tokio::spawn(watch(url.clone(), "ann")), tokio::spawn(watch(url, "bob"))];
    while rooms.members("table").len() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for round in 1..=3 {
        rooms
            .set_state("table", json!({"round": round, "rules": "the highest number wins"}))
            .await?;
        for (name, hand) in [("ann", round * 2), ("bob", round * 3)] {
            rooms.set_own_state("table", name, json!({"hand": hand})).await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for player in players {
        player.await??;
    }
    shutdown.close(Duration::from_secs(5)).await;
    Ok(())
}
