//! Events: durable appends by many writers, and reading streams back. The peer is SQLite, each append
//! a transaction with `synchronous=FULL` in WAL mode, since that is what an embedded event store is
//! built on when nobody wants to run a server; and redb, a log of its own with a sync per commit.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
};

use infra_core::{
    SystemClock,
    clock::Clock,
    codec::Payload,
    event::{Append, Direction, EventStore, NewEvent},
    id::{EventId, EventType, StreamName},
    random::Random,
    version::{Expected, Version},
};
use infra_events::{LogEventStore, Options};
use measure::{Workload, run};
use rusqlite::{Connection, params};

const WRITERS: u64 = 64;
const EACH: u64 = 60;
const BODY: usize = 256;
const STREAM: u64 = 5_000;

fn main() -> ExitCode {
    measure::main(vec![
        Workload::rate("events-append-64", append).against("SQLite", sqlite_append),
        Workload::rate("events-append-1", append_one).against("SQLite", sqlite_append_one),
        Workload::rate("events-read", read).against("SQLite", sqlite_read),
    ])
}

fn event(random: &Random) -> NewEvent {
    let id = EventId::generate(SystemClock::new().wall(), random);
    NewEvent::new(id, EventType::new("played").unwrap(), Payload::raw(vec![7; BODY]))
}

async fn open(folder: &std::path::Path) -> Arc<LogEventStore> {
    Arc::new(LogEventStore::open(Options::new(folder.join("log"))).await.unwrap().0)
}

fn append_by(writers: u64, each: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let store = open(folder.path()).await;
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let (stream, random) =
                        (StreamName::new(format!("room-{writer}")).unwrap(), Random::from_system());
                    for version in 0..each {
                        let expected = match version {
                            0 => Expected::Absent,
                            version => Expected::Exactly(Version::new(version)),
                        };
                        let append = Append::to(stream.clone(), expected, vec![event(&random)]);
                        store.append(append).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    writers * each
}

fn append() -> u64 {
    append_by(WRITERS, EACH)
}

fn append_one() -> u64 {
    append_by(1, 500)
}

fn database(folder: &std::path::Path) -> Connection {
    let database = Connection::open(folder.join("events.sqlite")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.pragma_update(None, "synchronous", "FULL").unwrap();
    let table =
        "create table events (position integer primary key autoincrement, stream text not null,
        version integer not null, id blob not null, type text not null, body blob not null,
        unique (stream, version), unique (stream, id))";
    database.execute(table, []).unwrap();
    database
}

fn insert(database: &Connection, stream: &str, version: u64) {
    let id: [u8; 16] =
        std::array::from_fn(|place| (version >> (place % 8 * 8)) as u8 ^ place as u8);
    let mut insert = database
        .prepare_cached(
            "insert into events (stream, version, id, type, body) values (?, ?, ?, ?, ?)",
        )
        .unwrap();
    insert.execute(params![stream, version as i64, id, "played", vec![7_u8; BODY]]).unwrap();
}

fn sqlite_append_by(writers: u64, each: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let database = Arc::new(Mutex::new(database(folder.path())));
    run(async {
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let database = Arc::clone(&database);
                tokio::task::spawn_blocking(move || {
                    for version in 1..=each {
                        insert(&database.lock().unwrap(), &format!("room-{writer}"), version);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    writers * each
}

fn sqlite_append() -> u64 {
    sqlite_append_by(WRITERS, EACH)
}

fn sqlite_append_one() -> u64 {
    sqlite_append_by(1, 500)
}

/// Writes one long stream, untimed in spirit: both sides write it in one go, then read it 40 times.
fn read() -> u64 {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let (store, random) = (open(folder.path()).await, Random::from_system());
        let stream = StreamName::new("room").unwrap();
        let events = (0..STREAM).map(|_| event(&random)).collect();
        store.append(Append::to(stream.clone(), Expected::Absent, events)).await.unwrap();
        for _ in 0..40 {
            let from = Version::new(1);
            let read = store.read_stream(&stream, from, Direction::Forward, STREAM as usize).await;
            assert_eq!(read.unwrap().len() as u64, STREAM);
        }
    });
    40 * STREAM
}

fn sqlite_read() -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let database = database(folder.path());
    database.execute("begin", []).unwrap();
    (1..=STREAM).for_each(|version| insert(&database, "room", version));
    database.execute("commit", []).unwrap();
    for _ in 0..40 {
        let mut read = database
            .prepare_cached("select position, version, id, type, body from events where stream = ? and version >= ? order by version")
            .unwrap();
        let rows = read
            .query_map(params!["room", 1_i64], |row| {
                let body: Vec<u8> = row.get(4)?;
                let id: Vec<u8> = row.get(2)?;
                let kind: String = row.get(3)?;
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, id, kind, body))
            })
            .unwrap();
        let rows: Vec<_> = rows.map(Result::unwrap).collect();
        assert_eq!(rows.len() as u64, STREAM);
    }
    40 * STREAM
}
