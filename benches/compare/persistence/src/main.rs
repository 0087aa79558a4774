//! Documents: durable puts by many writers, and point reads. The peers are redb with a sync per
//! commit, and fjall's own price is within ours.

use std::{process::ExitCode, sync::Arc};

use infra_core::{
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore},
    version::Expected,
};
use infra_persistence::{Options, embedded};
use measure::{Workload, run};
use redb::{Database, ReadableDatabase, TableDefinition};

const WRITERS: u64 = 64;
const EACH: u64 = 30;
const BODY: usize = 512;
const READS: u64 = 200_000;
const KEYS: u64 = 1_000;
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("players");

fn main() -> ExitCode {
    measure::main(vec![
        Workload::rate("documents-put-64", put).against("redb", redb_put),
        Workload::rate("documents-get", get).against("redb", redb_get),
    ])
}

fn put() -> u64 {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let store = Arc::new(embedded(Options::new(folder.path().join("db"))).await.unwrap().0);
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let players = Collection::new("players").unwrap();
                    for number in 0..EACH {
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
    WRITERS * EACH
}

fn redb_put() -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let database = Arc::new(Database::create(folder.path().join("db")).unwrap());
    run(async {
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let database = Arc::clone(&database);
                tokio::task::spawn_blocking(move || {
                    for number in 0..EACH {
                        let key = format!("{writer}-{number}");
                        let write = database.begin_write().unwrap();
                        let body = [7; BODY];
                        write.open_table(TABLE).unwrap().insert(key.as_bytes(), &body[..]).unwrap();
                        write.commit().unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    WRITERS * EACH
}

fn get() -> u64 {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let store = embedded(Options::new(folder.path().join("db"))).await.unwrap().0;
        let players = Collection::new("players").unwrap();
        let batch = (0..KEYS).fold(Batch::new(), |batch, key| {
            let body = Payload::raw(vec![7; BODY]);
            batch.put(players.clone(), key.to_be_bytes().to_vec(), Expected::Absent, body)
        });
        store.commit(batch).await.unwrap();
        for read in 0..READS {
            let key = (read * 7_919 % KEYS).to_be_bytes();
            assert!(store.get(&players, &key).await.unwrap().is_some());
        }
    });
    READS
}

fn redb_get() -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(folder.path().join("db")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(TABLE).unwrap();
        for key in 0..KEYS {
            table.insert(&key.to_be_bytes()[..], &[7; BODY][..]).unwrap();
        }
    }
    write.commit().unwrap();
    for read in 0..READS {
        let key = (read * 7_919 % KEYS).to_be_bytes();
        let read = database.begin_read().unwrap();
        let table = read.open_table(TABLE).unwrap();
        assert!(
            table.get(&key[..]).unwrap().is_some_and(|body| body.value().to_vec().len() == BODY)
        );
    }
    READS
}
