//! Embedded engines: SQLite, fjall and redb, each commit durable; the last two also behind a
//! coordinator. A key is stream and version, so that a stream can be read in order.

use std::sync::{Arc, Mutex};

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use rusqlite::{Connection, params};

use crate::{
    appenders::{BODY, Load, folder, in_threads, stream},
    coordinator::{Entry, grouped},
};

pub fn database(folder: &std::path::Path) -> Connection {
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

pub fn insert(database: &Connection, stream: &str, version: u64) {
    let id: [u8; 16] =
        std::array::from_fn(|place| (version >> (place % 8 * 8)) as u8 ^ place as u8);
    let mut insert = database
        .prepare_cached(
            "insert into events (stream, version, id, type, body) values (?, ?, ?, ?, ?)",
        )
        .unwrap();
    insert.execute(params![stream, version as i64, id, "played", vec![7_u8; BODY]]).unwrap();
}

pub fn sqlite(load: Load) -> f64 {
    let folder = folder();
    let database = Mutex::new(database(folder.path()));
    in_threads(load, |appender, number| {
        insert(&database.lock().unwrap(), &stream(appender), number + 1);
    })
}

fn key(stream: u64, number: u64) -> [u8; 16] {
    (u128::from(stream) << 64 | u128::from(number)).to_be_bytes()
}

fn fjall_put(database: &Database, events: &fjall::Keyspace, group: &[Entry]) {
    let mut batch = database.batch();
    for (stream, number, body) in group {
        batch.insert(events, key(*stream, *number).as_slice(), body.as_slice());
    }
    batch.commit().unwrap();
    database.persist(PersistMode::SyncData).unwrap();
}

pub fn fjall(load: Load) -> f64 {
    let folder = folder();
    let database = Database::builder(folder.path()).open().unwrap();
    let events = database.keyspace("events", KeyspaceCreateOptions::default).unwrap();
    in_threads(load, |appender, number| {
        fjall_put(&database, &events, &[(appender, number, [7; BODY])]);
    })
}

pub fn fjall_grouped(load: Load) -> f64 {
    let folder = folder();
    let database = Database::builder(folder.path()).open().unwrap();
    let events = database.keyspace("events", KeyspaceCreateOptions::default).unwrap();
    grouped(load, move |group| fjall_put(&database, &events, group))
}

const EVENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("events");

fn redb_put(database: &redb::Database, group: &[Entry]) {
    let write = database.begin_write().unwrap();
    {
        let mut events = write.open_table(EVENTS).unwrap();
        for (stream, number, body) in group {
            events.insert(key(*stream, *number).as_slice(), body.as_slice()).unwrap();
        }
    }
    write.commit().unwrap();
}

fn redb_open(folder: &std::path::Path) -> redb::Database {
    redb::Database::create(folder.join("events.redb")).unwrap()
}

pub fn redb(load: Load) -> f64 {
    let folder = folder();
    let database = redb_open(folder.path());
    in_threads(load, |appender, number| {
        redb_put(&database, &[(appender, number, [7; BODY])]);
    })
}

pub fn redb_grouped(load: Load) -> f64 {
    let folder = folder();
    let database = redb_open(folder.path());
    grouped(load, move |group| redb_put(&database, group))
}

/// Writes a long stream at once and reads it so many times.
pub fn sqlite_read(events: u64, times: u64) -> u64 {
    let folder = folder();
    let database = database(folder.path());
    database.execute("begin", []).unwrap();
    (1..=events).for_each(|version| insert(&database, "room", version));
    database.execute("commit", []).unwrap();
    for _ in 0..times {
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
        assert_eq!(rows.len() as u64, events);
    }
    times * events
}

/// Fills redb with so many small values in groups, and returns its file.
pub fn redb_filled(folder: &std::path::Path, events: u64) -> Arc<redb::Database> {
    let database = redb_open(folder);
    for first in (0..events).step_by(1_000) {
        let group: Vec<Entry> =
            (first..first + 1_000).map(|n| (n % 1_000, n / 1_000, [7; BODY])).collect();
        redb_put(&database, &group);
    }
    Arc::new(database)
}

/// Reads everything of a redb in order of its keys.
pub fn redb_scan(database: &redb::Database) -> u64 {
    let read = database.begin_read().unwrap();
    let events = read.open_table(EVENTS).unwrap();
    events.iter().unwrap().map(|entry| entry.unwrap().1.value().len() as u64 / BODY as u64).sum()
}
