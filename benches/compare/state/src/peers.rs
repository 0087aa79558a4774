//! What the machines are held against.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use infra_core::{
    Clock, SystemClock,
    codec::Payload,
    event::{Append, EventStore, NewEvent},
    id::{EventId, EventType},
    machine::StateMachine,
    random::Random,
    version::{Expected, Version},
};
use measure::run;
use rusqlite::{Connection, params};

use crate::{
    SAVES, quantiles,
    table::{Table, played},
    world::{World, stream},
};

/// The same events with the same metadata, appended by hand to the same log.
pub fn append(machines: u64) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let times = run(async {
        let world = World::open(folder.path()).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..machines {
            let log = world.log.clone();
            tasks.spawn(async move {
                let (clock, random) = (SystemClock::new(), Random::from_system());
                let mut times = Vec::new();
                for turn in 0..SAVES {
                    let begun = Instant::now();
                    let kind = EventType::new("played").unwrap();
                    let id = EventId::generate(clock.wall(), &random);
                    let event = NewEvent::new(id, kind, Payload::json(1, &played(turn)).unwrap())
                        .with("state-from", "turn")
                        .with("state-to", "turn")
                        .with("state-action", "play")
                        .with("state-actor", "ann")
                        .with("state-took-us", "1");
                    let expected = match turn {
                        0 => Expected::Absent,
                        turn => Expected::Exactly(Version::new(turn)),
                    };
                    log.append(Append::to(stream(number), expected, vec![event])).await.unwrap();
                    times.push(begun.elapsed());
                }
                times
            });
        }
        let times: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        world.close().await;
        times
    });
    quantiles(times)
}

fn open(folder: &std::path::Path) -> Connection {
    let connection = Connection::open(folder.join("db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
             CREATE TABLE states (name TEXT PRIMARY KEY, body BLOB NOT NULL)",
        )
        .unwrap();
    connection
}

fn put(connection: &Connection, name: &str, table: &Table) {
    let body = serde_json::to_vec(table).unwrap();
    let put = "INSERT OR REPLACE INTO states VALUES (?1, ?2)";
    connection.prepare_cached(put).unwrap().execute(params![name, body]).unwrap();
}

/// The whole state as JSON, a transaction each; one connection, as SQLite has one writer.
pub fn sqlite(machines: u64) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let connection = Arc::new(Mutex::new(open(folder.path())));
    let threads: Vec<_> = (0..machines)
        .map(|number| {
            let connection = Arc::clone(&connection);
            std::thread::spawn(move || {
                let (name, mut table) = (stream(number).to_string(), Table::default());
                let mut times = Vec::new();
                for turn in 0..SAVES {
                    let begun = Instant::now();
                    for event in table.decide(turn).unwrap() {
                        table.evolve(&event);
                    }
                    put(&connection.lock().unwrap(), &name, &table);
                    times.push(begun.elapsed());
                }
                times
            })
        })
        .collect();
    quantiles(threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect())
}

/// Reads a state of the same size back: nothing is replayed, checked or folded.
pub fn sqlite_load() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let connection = open(folder.path());
    let mut table = Table::default();
    for turn in 0..12 {
        table.evolve(&played(turn));
    }
    put(&connection, "table", &table);
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        let get = "SELECT body FROM states WHERE name = ?1";
        let read = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
        let body = connection.prepare_cached(get).unwrap().query_row(["table"], read).unwrap();
        let back: Table = serde_json::from_slice(&body).unwrap();
        times.push(begun.elapsed());
        assert_eq!(back.turns, 12);
    }
    quantiles(times).0
}
