//! Games that are played while the stores fail: no action is lost or doubled, and the games go on
//! soon after the stores do, as fast as games beside them whose stores never failed. Once the stores
//! themselves fail, call by call; once the way to a real PostgreSQL does, connection by connection.
//!
//! `GAME_CHAOS_SECONDS` sets how long the stores are rough and then gone (2 in CI, 10 in full),
//! `GAME_CHAOS_ROOMS` how many rooms play (4), `GAME_CHAOS_SEED` which calls are struck.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "what a client waits for is real time"
)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use infra_core::{
    SystemClock,
    event::{Direction, EventStore},
    id::StreamName,
    version::Version,
};
#[cfg(feature = "postgres")]
use infra_events::{PostgresEventStore, PostgresOptions};
use infra_testkit::proxy::{self, FaultProxy};
#[cfg(feature = "postgres")]
use infra_testkit::server::{Kind, Server};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::timeout};

#[cfg(feature = "postgres")]
use crate::postgres;
use crate::{
    faulty::{Faults, FaultyDocuments, FaultyEvents, Weather},
    player::{Player, number, text},
    support::{Host, ask, options, start_changed, until},
};

/// How soon after the stores the games go on, and at their old pace.
const BACK: Duration = Duration::from_secs(5);

/// How long the pace is looked at, before and after.
const LOOK: Duration = Duration::from_secs(1);

/// What a player was told of its actions.
#[derive(Debug, Default)]
struct Told {
    room: String,
    /// Number, offset, when it was first sent, when it was acknowledged.
    acks: Vec<(u64, u64, Instant, Instant)>,
    /// When it was refused.
    refused: Vec<Instant>,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What befalls the stores of a server.
trait Trouble {
    /// One call of twenty fails, half of them after it was done; one of ten stalls for 200 ms.
    fn rough(&self);

    /// The stores are gone: half of the calls fail at once, half of them never come back.
    fn outage(&self);

    fn calm(&self);

    /// Returns how much was struck.
    fn struck(&self) -> u64;
}

impl Trouble for Faults {
    fn rough(&self) {
        self.set(Weather::Rough);
    }

    fn outage(&self) {
        self.set(Weather::Outage);
    }

    fn calm(&self) {
        self.set(Weather::Calm);
    }

    fn struck(&self) -> u64 {
        Self::struck(self)
    }
}

/// Connections are cut, stall, and die without a word. A call is mostly one chunk each way.
impl Trouble for FaultProxy {
    fn rough(&self) {
        let stall = Duration::from_millis(200);
        self.weather(proxy::Weather::Rough { cut: 25, stalled: 50, stall });
    }

    fn outage(&self) {
        self.weather(proxy::Weather::Outage);
    }

    fn calm(&self) {
        self.weather(proxy::Weather::Calm);
    }

    fn struck(&self) -> u64 {
        Self::struck(self)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_fail_lose_and_double_nothing_and_the_games_go_on_after_them() {
    let faults = Faults::new(seed());
    let (host, log) = failing(&faults).await;
    // What is slow on this machine is slow for these rooms too; nothing strikes their stores.
    let (calm_host, _) = failing(&Faults::new(0)).await;
    play_through(&faults, (&host, &log), &calm_host).await;
    host.stop().await;
    calm_host.stop().await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_behind_a_bad_line_loses_and_doubles_nothing_and_the_games_go_on_after_it() {
    let server = Server::start(Kind::Postgres).await.unwrap();
    let url = server.create_database("struck").unwrap();
    let beside = server.create_database("beside").unwrap();
    let line = FaultProxy::seeded(server.addr(), seed()).await.unwrap();
    let through = url.replace(&server.addr().to_string(), &line.addr().to_string());
    let host = postgres::start(tempfile::tempdir().unwrap(), &through).await;
    let calm_host = postgres::start(tempfile::tempdir().unwrap(), &beside).await;
    // The log is audited by a line of its own.
    let log = PostgresEventStore::open(PostgresOptions::new(url)).await.unwrap();
    let log: Arc<dyn EventStore> = Arc::new(log);
    play_through(&line, (&host, &log), &calm_host).await;
    host.stop().await;
    calm_host.stop().await;
}

fn seed() -> u64 {
    setting("GAME_CHAOS_SEED", 8)
}

/// Plays on a server whose stores fail for a while, and beside on one whose stores never do; holds the
/// log of the first against what its players were told, and its pace afterwards against the other one's.
async fn play_through(
    trouble: &impl Trouble,
    (host, log): (&Host, &Arc<dyn EventStore>),
    calm_host: &Host,
) {
    let length = Duration::from_secs(setting("GAME_CHAOS_SECONDS", 2));
    let (is_over, over) = watch::channel(false);
    let (mut players, mut undisturbed) = (JoinSet::new(), JoinSet::new());
    for _ in 0..setting("GAME_CHAOS_ROOMS", 4) {
        players.spawn(talk(host.host("Mei").await, over.clone()));
        undisturbed.spawn(talk(calm_host.host("Ann").await, over.clone()));
    }
    tokio::time::sleep(LOOK).await;
    let rough_from = Instant::now();
    trouble.rough();
    tokio::time::sleep(length).await;
    let rough = trouble.struck();
    trouble.outage();
    tokio::time::sleep(length).await;
    trouble.calm();
    let calm_from = Instant::now();
    tokio::time::sleep(BACK + LOOK).await;
    is_over.send_replace(true);
    let (mut times, mut refused, mut latest) = (Vec::new(), 0, Duration::ZERO);
    let wait = Duration::from_mins(1);
    while let Some(told) = timeout(wait, players.join_next()).await.expect("a game does not go on")
    {
        let told = told.unwrap();
        refused += told.refused.len();
        audit(log, &told).await;
        let first = told.acks.iter().map(|ack| ack.3).find(|acked| calm_from < *acked);
        let back = first.expect("the game does not go on").duration_since(calm_from);
        let since = |moment: &Instant| moment.checked_duration_since(calm_from);
        let waited: Vec<_> = told.refused.iter().filter_map(since).collect();
        println!("room {}: back after {back:?}, refused after {waited:?}", told.room);
        assert!(back < BACK, "room {} is back after {back:?}", told.room);
        latest = latest.max(back);
        times.extend(told.times());
    }
    let mut beside = Vec::new();
    while let Some(told) = timeout(wait, undisturbed.join_next()).await.expect("a game stands") {
        beside.extend(told.unwrap().times());
    }
    let before = p95(times.iter().copied().filter(|(_, acked)| *acked < rough_from));
    let at_once = p95(sent_after(&times, calm_from));
    let after = p95(sent_after(&times, calm_from + BACK));
    let beside = p95(sent_after(&beside, calm_from + BACK));
    let (acks, struck) = (times.len(), trouble.struck());
    println!(
        "{acks} actions, {refused} refused; {struck} struck, {rough} of them while it was rough; \
         the last room was back after {latest:?}"
    );
    println!(
        "p95 {before:?} before, {at_once:?} from the end on, {after:?} from {BACK:?} after it; \
         {beside:?} then beside stores that never failed"
    );
    assert!(0 < rough && rough < struck, "{rough} of {struck} were struck while it was rough");
    // Twice, and the length of half a stall; any pause or stall that is left would be longer.
    assert!(after < beside * 2 + Duration::from_millis(100), "{beside:?} beside {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_a_room_hears_of_its_end_also_when_nobody_knew_whether_it_was_stored() {
    let faults = Faults::new(3);
    let (host, _) = failing(&faults).await;
    let mut mei = host.host("Mei").await;
    let mut spectator = host.player().await;
    let watch = json!({"type": "spectate", "room": mei.known.room});
    ask(&mut spectator, &watch, &["joined"]).await;
    faults.set(Weather::Doubtful);
    let leave = json!({"type": "leave_room", "action": 1});
    let refused = ask(&mut mei, &leave, &["refused", "left"]).await;
    assert_eq!(refused["code"], "storage_unavailable", "{refused}");
    faults.set(Weather::Calm);
    assert_eq!(ask(&mut mei, &leave, &["refused", "ack"]).await["type"], "ack");
    assert_eq!(until(&mut spectator, "left").await["reason"], "room_gone");
    host.stop().await;
}

/// Starts a server on stores that fail as `faults` say; returns also the store below.
async fn failing(faults: &Faults) -> (Host, Arc<dyn EventStore>) {
    let mut log = None;
    let host = start_changed(options(), SystemClock::shared(), |mut backends| {
        log = Some(Arc::clone(&backends.events));
        backends.events = Arc::new(FaultyEvents { store: backends.events, faults: faults.clone() });
        backends.documents =
            Arc::new(FaultyDocuments { store: backends.documents, faults: faults.clone() });
        backends
    })
    .await;
    (host, log.unwrap())
}

impl Told {
    /// Returns when each action was first sent, and when it was acknowledged.
    fn times(&self) -> impl Iterator<Item = (Instant, Instant)> {
        self.acks.iter().map(|(_, _, sent, acked)| (*sent, *acked))
    }
}

/// Returns the actions that were sent after a moment.
fn sent_after(
    times: &[(Instant, Instant)],
    moment: Instant,
) -> impl Iterator<Item = (Instant, Instant)> {
    times.iter().copied().filter(move |(sent, _)| moment < *sent)
}

/// Returns how long 95 of 100 actions took at most, of those sent and acknowledged at these times.
fn p95(actions: impl Iterator<Item = (Instant, Instant)>) -> Duration {
    let mut times: Vec<_> = actions.map(|(sent, acked)| acked.duration_since(sent)).collect();
    times.sort_unstable();
    times.get(times.len() * 95 / 100).copied().expect("nothing was measured")
}

/// Starts a game with bots and talks on, each action until it is answered, until told to end.
async fn talk(mut player: Player, over: watch::Receiver<bool>) -> Told {
    let mut told = Told { room: player.known.room.clone(), ..Told::default() };
    let mut action = 0;
    while !*over.borrow() {
        action += 1;
        let message = match action {
            1 => json!({"type": "start", "action": 1}),
            _ => json!({"type": "chat", "action": action, "text": format!("word {action}")}),
        };
        carry_out(&mut player, &message, &mut told).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Whatever the last answer was: the connection still hears of everything, without a hole.
    player.say(&json!({"type": "ping", "nonce": 1})).await.unwrap();
    until(&mut player, "pong").await;
    told
}

/// Sends an action until it is done, always with the same number.
async fn carry_out(player: &mut Player, message: &Value, told: &mut Told) {
    let sent = Instant::now();
    player.say(message).await.unwrap();
    loop {
        let answer = player.next().await.unwrap().expect("the server closed the connection");
        // Checks as well that no event is missing and none comes twice.
        player.take(&answer).unwrap();
        match text(&answer, "type") {
            "ack" => {
                let (action, offset) = (number(&answer, "action"), number(&answer, "offset"));
                told.acks.push((action, offset, sent, Instant::now()));
                return;
            }
            "refused" => {
                let is_passing =
                    ["storage_unavailable", "overloaded"].contains(&text(&answer, "code"));
                assert!(is_passing, "{answer}");
                told.refused.push(Instant::now());
                let pause = Duration::from_millis(number(&answer, "retry_after_ms"));
                assert!(!pause.is_zero(), "{answer}");
                tokio::time::sleep(pause).await;
                player.say(message).await.unwrap();
            }
            "error" => panic!("{answer}"),
            _ => {}
        }
    }
}

/// Holds the log against what a player was told.
async fn audit(log: &Arc<dyn EventStore>, told: &Told) {
    let stream = StreamName::new(format!("room-{}", told.room)).unwrap();
    let from = Version::new(1);
    let events = log.read_stream(&stream, from, Direction::Forward, usize::MAX).await.unwrap();
    let mut offsets: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for recorded in &events {
        let event: Value = recorded.event.payload.decode().unwrap();
        if let Some(cause) = event.get("cause").filter(|cause| !cause.is_null()) {
            offsets.entry(number(cause, "action")).or_default().push(recorded.version.get());
        }
    }
    let acked: BTreeMap<u64, Vec<u64>> =
        told.acks.iter().map(|(action, offset, ..)| (*action, vec![*offset])).collect();
    assert_eq!(offsets, acked, "room {}: each action is there once, at its offset", told.room);
}
