//! The players of a run: rooms of four at a fixed pace, and tables that play whole games in haste, so
//! that games end and are archived as well.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use infra_core::random::Random;
use serde_json::json;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    client::{Client, Pace, Run},
    told::{Meter, Told},
};
use crate::player::{Failure, Player, text};

/// How long the last actions may take to be answered once nothing more is due.
const DRAIN: Duration = Duration::from_mins(1);

/// How many rooms and at which pace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Rooms of four.
    pub(crate) rooms: u32,
    /// Actions a minute in each of them.
    pub(crate) rate: u32,
}

impl Size {
    /// Returns how many actions are due in a second.
    pub(crate) fn per_second(self) -> u64 {
        u64::from(self.rooms) * u64::from(self.rate) / 60
    }
}

/// The players.
#[derive(Debug)]
pub(crate) struct Crowd {
    clients: JoinSet<Result<Vec<Told>, Failure>>,
    end: watch::Sender<Option<Instant>>,
    back: watch::Sender<u64>,
    /// How long their actions took.
    pub(crate) meter: Arc<Meter>,
    /// When the first action is due.
    pub(crate) begin: Instant,
}

/// What was told to all of them.
#[derive(Debug)]
pub(crate) struct Heard {
    /// One for each player.
    pub(crate) told: Vec<Told>,
    /// How many have actions that were never answered.
    pub(crate) stuck: usize,
}

impl Crowd {
    /// Lets everybody take a seat; they play from then on.
    pub(crate) async fn seat(addr: SocketAddr, size: Size) -> Result<Self, Failure> {
        let mut seated = JoinSet::new();
        for _ in 0..size.rooms {
            seated.spawn(sit(addr));
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        let rooms: Vec<Vec<Player>> =
            seated.join_all().await.into_iter().collect::<Result<_, _>>()?;
        let (end, ends) = watch::channel(None);
        let (back, backs) = watch::channel(0);
        let meter = Arc::<Meter>::default();
        let random = Arc::new(Random::seeded(12));
        let run = Run { addr, end: ends, back: backs, meter: Arc::clone(&meter), random };
        let begin = Instant::now() + Duration::from_millis(200);
        let pause = Duration::from_mins(1) / size.rate.max(1);
        let mut clients = JoinSet::new();
        for (room, players) in (0_u32..).zip(rooms) {
            for (seat, player) in (0_u32..).zip(players) {
                let first = begin + pause * seat + pause * room / size.rooms.max(1);
                let client = Client::new(run.clone(), Pace::Open { first, every: pause * 4 });
                clients.spawn(async move { Ok(vec![client.play(player).await?]) });
            }
        }
        for _ in 0..size.rooms.div_ceil(20) {
            clients.spawn(hasty(run.clone()));
        }
        Ok(Self { clients, end, back, meter, begin })
    }

    /// Lets everybody leave and come back with their tokens.
    pub(crate) fn come_back(&self) {
        self.back.send_modify(|times| *times += 1);
    }

    /// Ends the run: what is due now is still answered.
    pub(crate) async fn end(mut self) -> Result<Heard, Failure> {
        self.end.send_replace(Some(Instant::now()));
        let mut told = Vec::new();
        let all = async {
            while let Some(done) = self.clients.join_next().await {
                told.extend(done??);
            }
            Ok::<_, Failure>(())
        };
        if let Ok(done) = timeout(DRAIN, all).await {
            done?;
        }
        Ok(Heard { told, stuck: self.clients.len() })
    }
}

/// Opens a room and takes its four seats.
async fn sit(addr: SocketAddr) -> Result<Vec<Player>, Failure> {
    let mut host = Player::connect(addr).await?;
    host.say(&json!({"type": "create_room", "name": "Player 0"})).await?;
    joined(&mut host).await?;
    let room = host.known.room.clone();
    let mut players = vec![host];
    for seat in 1..4 {
        let mut guest = Player::connect(addr).await?;
        let name = format!("Player {seat}");
        guest.say(&json!({"type": "join_room", "room": room, "name": name})).await?;
        joined(&mut guest).await?;
        players.push(guest);
    }
    Ok(players)
}

/// Plays one game after the other with three bots, in haste.
async fn hasty(run: Run) -> Result<Vec<Told>, Failure> {
    let mut told = Vec::new();
    let pace = Pace::Quick(Duration::from_millis(50));
    while run.end.borrow().is_none() {
        match sit_with_bots(run.addr).await {
            Ok(player) => told.push(Client::new(run.clone(), pace).play(player).await?),
            // There is no server just now, or it takes no rooms.
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
    Ok(told)
}

async fn sit_with_bots(addr: SocketAddr) -> Result<Player, Failure> {
    let mut host = Player::connect(addr).await?;
    let settings = json!({"bot_min_ms": 0, "bot_max_ms": 0, "scoring_ms": 0});
    let create = json!({"type": "create_room", "name": "Hasty", "settings": settings});
    host.say(&create).await?;
    joined(&mut host).await?;
    Ok(host)
}

async fn joined(player: &mut Player) -> Result<(), Failure> {
    loop {
        let message = player.next().await?.ok_or("closed too early")?;
        player.take(&message)?;
        match text(&message, "type") {
            "joined" => return Ok(()),
            "refused" | "error" => return Err(message.to_string().into()),
            _ => {}
        }
    }
}
