//! How much one server holds: many finished games behind it, many rooms in memory.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use game_server::{protocol::RoomCode, simulate::play_game};
use infra_core::{
    Clock as _, SystemClock,
    codec::Payload,
    event::{Append, EventStore as _, NewEvent},
    id::{EventId, EventType, StreamName},
    random::Random,
    version::Expected,
};
use infra_events::{LogEventStore, Options};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    load::wait_for,
    player::{Failure, Player},
    process::Process,
};

const HELP: &str = include_str!("help/capacity.txt");

/// How many tasks write games.
const WRITERS: u64 = 16;

/// How often each page is asked for.
const ASKED: usize = 20;

/// How long it may take until all games are archived and counted.
const PATIENCE: Duration = Duration::from_mins(30);

/// Reads the options and runs.
pub(crate) async fn main(words: &[String]) -> Result<(), Failure> {
    let names = ["--rooms", "--waiting", "--archived", "--seed"];
    let Some(options) = crate::options(words, HELP, &names)? else { return Ok(()) };
    let option = |name, default| options.get(name).copied().unwrap_or(default);
    let (rooms, games) = (option("--rooms", 5_000), option("--archived", 50_000));
    let waiting = option("--waiting", 0).min(rooms);
    let folder = tempfile::tempdir()?;
    let data = folder.path();
    let begun = Instant::now();
    let events = write_games(data, games, option("--seed", 1)).await?;
    println!("{games} games of {events} events written in {:.0?}", begun.elapsed());

    let server = started(data, "with games to archive and count")?;
    wait_until_counted(&server, data, games).await?;
    println!("all archived and counted {:.0?} after the start", begun.elapsed());
    tell_size(&server, data)?;
    stop(server)?;

    let server = started(data, "with all games archived")?;
    tell_size(&server, data)?;
    let players = seat(server.addr, rooms, waiting).await?;
    println!("{} games of four people have begun, {waiting} rooms wait", rooms - waiting);
    tell_size(&server, data)?;
    for path in ["/api/overview", "/api/observed"] {
        tell_answers("dashboard", server.admin, path)?;
    }
    tell_answers("leaderboard", server.addr, "/api/leaderboard?by=wins&over=all")?;
    tell_answers("leaderboard", server.addr, "/api/leaderboard?by=win_rate&over=month")?;

    let mut server = server;
    server.kill()?;
    drop(players);
    let server = started(data, "after kill -9, with unfinished rooms")?;
    tell_size(&server, data)?;
    let overview: Value = serde_json::from_str(&get(server.admin, "/api/overview")?.1)?;
    println!("  rooms that are back: {}", overview.get("rooms").unwrap_or(&Value::Null));
    stop(server)
}

/// Writes whole games into a log of its own folder; returns how many events they are.
async fn write_games(data: &Path, games: u64, seed: u64) -> Result<u64, Failure> {
    let (log, _report) = LogEventStore::open(Options::new(data.join("events"))).await?;
    let log = Arc::new(log);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let log = Arc::clone(&log);
        writers.spawn(async move {
            let (clock, random) = (SystemClock::shared(), Random::from_system());
            let mut count = 0;
            for number in (writer..games).step_by(usize::try_from(WRITERS)?) {
                let code = RoomCode::from_number(u32::try_from(number)?);
                let stream = StreamName::new(format!("room-{code}"))?;
                let event = |event: &game_server::domain::Event| {
                    let id = EventId::generate(clock.wall(), &random);
                    let payload = Payload::json(1, event)?;
                    Ok::<_, infra_core::Error>(NewEvent::new(
                        id,
                        EventType::new(event.name())?,
                        payload,
                    ))
                };
                let game = play_game(seed, number)?.events;
                let events = game.iter().map(event).collect::<Result<Vec<_>, _>>()?;
                count += events.len() as u64;
                log.append(Append::to(stream, Expected::Absent, events)).await?;
            }
            Ok::<_, Failure>(count)
        });
    }
    let mut events = 0;
    while let Some(written) = writers.join_next().await {
        events += written??;
    }
    log.close().await;
    Ok(events)
}

fn started(data: &Path, how: &str) -> Result<Process, Failure> {
    let options =
        ["--connections-per-address", "40000", "--connections", "40000", "--rooms", "20000"];
    let begun = Instant::now();
    let server = Process::start(data, "127.0.0.1:0", &options)?;
    println!("start {how}: {:.2?}", begun.elapsed());
    Ok(server)
}

fn stop(mut server: Process) -> Result<(), Failure> {
    let begun = Instant::now();
    server.stop()?;
    println!("stop: {:.2?}", begun.elapsed());
    Ok(())
}

/// Waits until the archive has all games and the leaderboard counts no more people than before.
async fn wait_until_counted(server: &Process, data: &Path, games: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = Value::Null;
    loop {
        let archived = fs::read_dir(data.join("archive/games")).map_or(0, Iterator::count);
        let board: Value = serde_json::from_str(&get(server.addr, "/api/leaderboard")?.1)?;
        if archived as u64 == games && board.get("total") == Some(&before) {
            println!("{before} people are on the leaderboard");
            return Ok(());
        }
        before = board.get("total").cloned().unwrap_or_default();
        if deadline < Instant::now() {
            return Err(format!("only {archived} archived, {before} counted").into());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Has so many rooms created, and games begin in all but `waiting` of them; the players stay as long as
/// what is returned.
async fn seat(addr: SocketAddr, rooms: u64, waiting: u64) -> Result<Vec<Player>, Failure> {
    let mut players = Vec::new();
    for room in 0..rooms {
        let mut host = Player::connect(addr).await?;
        host.say(&json!({"type": "create_room", "name": "Player 0"})).await?;
        wait_for(&mut host, "joined").await?;
        if room < waiting {
            players.push(host);
            continue;
        }
        let code = host.known.room.clone();
        for number in 1..4 {
            let mut guest = Player::connect(addr).await?;
            let name = format!("Player {number}");
            guest.say(&json!({"type": "join_room", "room": code, "name": name})).await?;
            wait_for(&mut guest, "joined").await?;
            players.push(guest);
        }
        host.say(&json!({"type": "start", "action": 1})).await?;
        wait_for(&mut host, "ack").await?;
        players.push(host);
    }
    Ok(players)
}

fn tell_size(server: &Process, data: &Path) -> Result<(), Failure> {
    let mebi = |bytes: u64| bytes / 1024 / 1024;
    let memory = mebi(server.memory().unwrap_or_default());
    let size = |name: &str| Ok::<_, Failure>(mebi(size_of_folder(&data.join(name))?));
    let (events, documents) = (size("events")?, size("documents")?);
    let archive = size("archive")?;
    println!(
        "  memory {memory} MiB; on disk: events {events} MiB, documents {documents} MiB, \
         archive {archive} MiB"
    );
    Ok(())
}

fn size_of_folder(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { size_of_folder(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}

/// Asks for a page again and again.
fn tell_answers(what: &str, addr: SocketAddr, path: &str) -> Result<(), Failure> {
    let mut times = Vec::new();
    let mut length = 0;
    for _ in 0..ASKED {
        let (took, body) = get(addr, path)?;
        length = body.len();
        times.push(took);
        // A leaderboard is told again for a second.
        std::thread::sleep(Duration::from_millis(300));
    }
    times.sort_unstable();
    let middle = times.get(ASKED / 2).copied().unwrap_or_default();
    let most = times.last().copied().unwrap_or_default();
    println!("  {what} {path}: p50 {middle:.2?}, most {most:.2?}, {length} bytes");
    Ok(())
}

/// Asks for a path; returns how long the answer took, and its body.
fn get(addr: SocketAddr, path: &str) -> Result<(Duration, String), Failure> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(addr)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let took = begun.elapsed();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer without an end")?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(format!("{path}: {}", head.lines().next().unwrap_or_default()).into());
    }
    Ok((took, body.to_owned()))
}
