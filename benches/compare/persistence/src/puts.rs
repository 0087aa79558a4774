//! Durable puts of 512 bytes by any number of writers, each waiting for its own.

use std::sync::{Arc, Mutex};

use fjall::{KeyspaceCreateOptions, PersistMode};
use infra_core::{
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore},
    version::Expected,
};
use infra_persistence::{Options, embedded};
use measure::{Workload, run};
use redb::{Database, TableDefinition};

/// How many puts a side does in all, whatever the number of writers.
pub(crate) const PUTS: u64 = 1_920;
pub(crate) const BODY: usize = 512;
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("players");

/// Compares puts by so many writers.
pub(crate) fn workload(name: &'static str, writers: u64) -> Workload {
    let workload = Workload::rate(name, move || ours(writers))
        .against("fjall", move || on_fjall(writers))
        .against("redb", move || on_redb(writers))
        .against("sqlite", move || on_sqlite(writers));
    #[cfg(feature = "full")]
    let workload = workload.beside("postgres", move || crate::server::plain(writers));
    workload
}

fn ours(writers: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let store = Arc::new(embedded(Options::new(folder.path().join("db"))).await.unwrap().0);
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let players = Collection::new("players").unwrap();
                    for number in 0..PUTS / writers {
                        let key = format!("{writer}-{number}");
                        let body = Payload::raw(vec![7; BODY]);
                        let batch = Batch::new().put(players.clone(), key, Expected::Absent, body);
                        store.commit(batch).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    PUTS / writers * writers
}

/// Lets each writer put its keys, a thread each.
fn threads(writers: u64, put: impl Fn(&[u8], &[u8]) + Sync) -> u64 {
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let put = &put;
            scope.spawn(move || {
                for number in 0..PUTS / writers {
                    put(format!("{writer}-{number}").as_bytes(), &[7; BODY]);
                }
            });
        }
    });
    PUTS / writers * writers
}

fn on_fjall(writers: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let database = fjall::Database::builder(folder.path().join("db")).open().unwrap();
    let map = database.keyspace("players", KeyspaceCreateOptions::default).unwrap();
    threads(writers, |key, body| {
        let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&map, key, body);
        batch.commit().unwrap();
    })
}

fn on_redb(writers: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(folder.path().join("db")).unwrap();
    threads(writers, |key, body| {
        let write = database.begin_write().unwrap();
        write.open_table(TABLE).unwrap().insert(key, body).unwrap();
        write.commit().unwrap();
    })
}

fn on_sqlite(writers: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(folder.path().join("db")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.pragma_update(None, "synchronous", "FULL").unwrap();
    database.execute("CREATE TABLE players (key BLOB PRIMARY KEY, body BLOB)", []).unwrap();
    let database = Mutex::new(database);
    threads(writers, |key, body| {
        let database = database.lock().unwrap();
        let mut insert = database.prepare_cached("INSERT INTO players VALUES (?1, ?2)").unwrap();
        insert.execute((key, body)).unwrap();
    })
}
