//! Kills a playing server again and again, then holds its log against what it acknowledged.
//!
//! Rooms with one driven player and three bots play over real sockets. The server is killed with
//! SIGKILL at random moments and started again on the same data; players resume and send what was
//! not answered once more, unchanged. In the end every game must finish, and the log must have each
//! acknowledged action exactly once, at the offset that was told.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use infra_core::{
    event::{Direction, EventStore},
    id::StreamName,
    random::Random,
    version::Version,
};
use infra_events::{LogEventStore, Mode, Options};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    player::{Failure, Known, Player, number, text},
    process::Process,
};

const HELP: &str = include_str!("help/crash.txt");

/// What one player was told.
#[derive(Debug, Default)]
struct Told {
    room: String,
    /// The offset that each action was acknowledged with.
    acks: BTreeMap<u64, u64>,
    resumes: u64,
    missed: u64,
}

#[derive(Debug)]
struct Shared {
    addr: SocketAddr,
    is_last: AtomicBool,
    random: Random,
}

/// Reads the options and runs.
pub(crate) async fn main(words: &[String]) -> Result<(), Failure> {
    let Some(options) = crate::options(words, HELP, &["--runs", "--rooms", "--seed"])? else {
        return Ok(());
    };
    let option = |name, default| options.get(name).copied().unwrap_or(default);
    run(option("--runs", 50), option("--rooms", 50), option("--seed", 1)).await
}

/// Its players play at a machine's pace, so the limits of people only count.
const OPTIONS: [&str; 10] = [
    "--limits",
    "trial",
    "--bot-delay",
    "0..20",
    "--round-pause",
    "20",
    "--connections-per-address",
    "2000",
    "--timeouts",
    "30,30,30",
];

async fn run(runs: u64, rooms: u64, seed: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut server = Process::start(folder.path(), "127.0.0.1:0", &OPTIONS)?;
    let addr = server.addr;
    let is_last = AtomicBool::new(runs == 0);
    let shared = Arc::new(Shared { addr, is_last, random: Random::seeded(seed) });
    let told: Vec<Arc<Mutex<Told>>> = (0..rooms).map(|_| Arc::default()).collect();
    let mut players = JoinSet::new();
    for told in &told {
        players.spawn(play(Arc::clone(&shared), Arc::clone(told)));
    }
    for run in 1..=runs {
        tokio::time::sleep(Duration::from_millis(30 + shared.random.below(400))).await;
        server.kill()?;
        server = Process::start(folder.path(), &addr.to_string(), &OPTIONS)?;
        shared.is_last.store(run == runs, Ordering::SeqCst);
    }
    while let Some(played) = players.join_next().await {
        played??;
    }
    server.stop()?;
    let told: Vec<Told> = told
        .iter()
        .map(|told| std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner)))
        .collect();
    audit(folder.path(), &told, runs).await
}

/// Plays one game to its end, over as many connections as it takes.
async fn play(shared: Arc<Shared>, told: Arc<Mutex<Told>>) -> Result<(), Failure> {
    let mut memory: Option<Memory> = None;
    loop {
        match conversation(&shared, &told, &mut memory).await {
            Ok(true) => return Ok(()),
            Err(error) if error.is::<Broken>() => return Err(error),
            // The server went away: come back.
            Ok(false) | Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(shared.random.below(30))).await;
    }
}

/// A promise that was broken; it ends the run.
#[derive(Debug)]
struct Broken(String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// What a client keeps between two connections.
#[derive(Debug)]
struct Memory {
    known: Known,
    turn: Turn,
}

/// The last action that a client sent.
#[derive(Debug, Clone, Default)]
struct Turn {
    number: u64,
    /// The action itself, until it is answered.
    pending: Option<Value>,
}

/// Plays over one connection; returns whether the game is over.
async fn conversation(
    shared: &Shared,
    told: &Mutex<Told>,
    memory: &mut Option<Memory>,
) -> Result<bool, Failure> {
    let (mut player, mut turn) = match memory.as_ref() {
        Some(Memory { known, turn }) => {
            (Player::come_back(shared.addr, known.clone()).await?, turn.clone())
        }
        None => (Player::connect(shared.addr).await?, Turn::default()),
    };
    if memory.is_none() {
        player.say(&json!({"type": "create_room", "name": "Driven"})).await?;
    }
    loop {
        let Some(message) = player.next().await? else { return Ok(false) };
        player.take(&message).map_err(|error| Broken(error.to_string()))?;
        react(told, &mut player, &mut turn, &message).await?;
        if player.known.table.is_over && turn.pending.is_none() {
            return Ok(true);
        }
        let is_free = turn.number > 0 && turn.pending.is_none();
        let next = if is_free { next_action(shared, &player) } else { None };
        if let Some(mut next) = next {
            turn.number += 1;
            if let Some(fields) = next.as_object_mut() {
                fields.insert("action".to_owned(), json!(turn.number));
            }
            turn.pending = Some(next.clone());
            remember(memory, &player, &turn);
            player.say(&next).await?;
        }
        remember(memory, &player, &turn);
    }
}

/// Notes what was told, and sends again what was not answered.
async fn react(
    told: &Mutex<Told>,
    player: &mut Player,
    turn: &mut Turn,
    message: &Value,
) -> Result<(), Failure> {
    match text(message, "type") {
        "joined" if turn.number == 0 => {
            note(told, |told| told.room.clone_from(&player.known.room));
            let start = json!({"type": "start", "action": 1});
            *turn = Turn { number: 1, pending: Some(start.clone()) };
            player.say(&start).await?;
        }
        "joined" | "resumed" => {
            note(told, |told| {
                told.resumes += 1;
                told.missed += number(message, "missed");
            });
            if let Some(pending) = &turn.pending {
                player.say(pending).await?;
            }
        }
        "ack" => {
            let (action, offset) = (number(message, "action"), number(message, "offset"));
            let before = note(told, |told| told.acks.insert(action, offset));
            if let Some(before) = before.filter(|before| *before != offset) {
                let what = format!("action {action} acknowledged at {before} and {offset}");
                return Err(Broken(what).into());
            }
            turn.answered(action);
        }
        "refused" if message.get("retry_after_ms").is_some_and(|pause| !pause.is_null()) => {
            tokio::time::sleep(Duration::from_millis(number(message, "retry_after_ms"))).await;
            if let Some(pending) = &turn.pending {
                player.say(pending).await?;
            }
        }
        "refused" => turn.answered(number(message, "action")),
        "not_resumed" | "error" => return Err(Broken(message.to_string()).into()),
        _ => {}
    }
    Ok(())
}

impl Turn {
    fn answered(&mut self, action: u64) {
        if action == self.number {
            self.pending = None;
        }
    }
}

/// Changes what a player was told; the lock is never held while waiting.
fn note<T>(told: &Mutex<Told>, change: impl FnOnce(&mut Told) -> T) -> T {
    change(&mut told.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Moves if it can; until the last kill it rather talks now and then, so that games last.
fn next_action(shared: &Shared, player: &Player) -> Option<Value> {
    let moves = player.known.table.choose()?;
    let is_last = shared.is_last.load(Ordering::SeqCst);
    if !is_last && shared.random.below(4) != 0 {
        let said = format!("word {}", shared.random.next_u64());
        return Some(json!({"type": "chat", "text": said}));
    }
    Some(moves)
}

fn remember(memory: &mut Option<Memory>, player: &Player, turn: &Turn) {
    if player.known.token.is_some() {
        *memory = Some(Memory { known: player.known.clone(), turn: turn.clone() });
    }
}

/// Holds the log against what the players were told.
async fn audit(data: &Path, told: &[Told], runs: u64) -> Result<(), Failure> {
    let options = Options::new(data.join("events")).mode(Mode::ReadOnly);
    let (log, report) = LogEventStore::open(options).await?;
    if let Some(lost) = report.lost {
        return Err(format!("the log lost something: {lost:?}").into());
    }
    let (mut acks, mut resumes, mut missed) = (0, 0, 0);
    for told in told {
        acks += audit_room(&log, told).await?;
        resumes += told.resumes;
        missed += told.missed;
    }
    println!(
        "{runs} kills, {} rooms finished, {} events: {acks} acknowledged actions, each there once at \
         its offset; {resumes} resumes with {missed} missed events, in order and without a hole",
        told.len(),
        report.events
    );
    Ok(())
}

async fn audit_room(log: &LogEventStore, told: &Told) -> Result<usize, Failure> {
    let stream = StreamName::new(format!("room-{}", told.room))?;
    let events = log.read_stream(&stream, Version::new(1), Direction::Forward, usize::MAX).await?;
    let mut offsets: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut is_over = false;
    for recorded in &events {
        let event: Value = recorded.event.payload.decode()?;
        is_over |= text(&event, "type") == "game_ended";
        if let Some(cause) = event.get("cause").filter(|cause| !cause.is_null()) {
            let offset = recorded.version.get();
            offsets.entry(number(cause, "action")).or_default().push(offset);
        }
    }
    if !is_over {
        return Err(format!("room {}: its game has not ended", told.room).into());
    }
    for (action, offset) in &told.acks {
        if offsets.get(action) != Some(&vec![*offset]) {
            let found = offsets.get(action);
            let what = format!("acknowledged at {offset}, the log has {found:?}");
            return Err(format!("room {} action {action}: {what}", told.room).into());
        }
    }
    Ok(told.acks.len())
}
