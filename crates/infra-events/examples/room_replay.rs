//! A room in a log on disk: play, close, open again, and look at it as it was at any version.
//!
//! `cargo run -p infra-events --example room_replay -- data/rooms`

use std::sync::Arc;

use infra_core::{
    Result, SystemClock,
    event::{Direction, EventStore},
    id::StreamName,
    machine::{DomainEvent, StateMachine},
    version::Version,
};
use infra_events::{LogEventStore, Options, sourcing::Repository};
use serde::{Deserialize, Serialize};

/// A room: who sits in it, and how many points each has.
#[derive(Debug, Clone, Default)]
struct Room {
    players: Vec<(String, u32)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Happened {
    Joined { player: String },
    Scored { player: String, points: u32 },
}

impl DomainEvent for Happened {
    fn name(&self) -> &'static str {
        match self {
            Self::Joined { .. } => "joined",
            Self::Scored { .. } => "scored",
        }
    }
}

impl StateMachine for Room {
    type Command = Happened;
    type Event = Happened;
    type Refusal = &'static str;
    const NAME: &'static str = "room";
    const SCHEMA_VERSION: u32 = 1;

    fn decide(&self, command: Happened) -> Result<Vec<Happened>, &'static str> {
        let sits = |name: &String| self.players.iter().any(|(player, _)| player == name);
        match &command {
            Happened::Joined { player } if sits(player) => Err("sits there already"),
            Happened::Scored { player, .. } if !sits(player) => Err("does not sit there"),
            Happened::Joined { .. } | Happened::Scored { .. } => Ok(vec![command]),
        }
    }

    fn evolve(&mut self, event: &Happened) {
        match event {
            Happened::Joined { player } => self.players.push((player.clone(), 0)),
            Happened::Scored { player, points } => {
                for (_, total) in self.players.iter_mut().filter(|(name, _)| name == player) {
                    *total += points;
                }
            }
        }
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it is an example")]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "data/rooms".to_owned());
    let name = StreamName::new("room-7")?;
    {
        let store = Arc::new(LogEventStore::open(Options::new(&folder)).await?.0);
        let rooms =
            Repository::<Room>::new(Arc::<LogEventStore>::clone(&store), SystemClock::shared());
        for player in ["ann", "bob"] {
            // Who runs this twice finds them sitting there.
            rooms.execute(&name, Happened::Joined { player: player.into() }).await?;
        }
        rooms.execute(&name, Happened::Scored { player: "ann".into(), points: 9 }).await?;
        store.close().await;
    }

    let (store, report) = LogEventStore::open(Options::new(&folder)).await?;
    println!("{} events in {} commits, lost: {:?}", report.events, report.commits, report.lost);
    let store = Arc::new(store);
    for event in store.read_stream(&name, Version::new(1), Direction::Forward, 100).await? {
        println!("{:>3} {}", event.version, event.event.event_type);
    }
    let rooms = Repository::<Room>::new(store, SystemClock::shared());
    let now = rooms.load(&name).await?;
    let before = rooms.load_at(&name, now.version().previous()).await?;
    println!("now: {:?}", now.state().players);
    println!("one event before: {:?}", before.state().players);
    Ok(())
}
