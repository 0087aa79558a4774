//! Documents: durable puts by many writers, and point reads; rooms found in memory. The peers sync
//! each commit; fjall's own price is within ours. Games on their way into an archive, what games and
//! rooms take in memory, and PostgreSQL, are not in the gate.

#[cfg(feature = "full")]
mod games;
mod lookup;
mod puts;
#[cfg(feature = "full")]
mod server;

use std::process::ExitCode;

use infra_core::{
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore},
    version::Expected,
};
use infra_persistence::{Options, embedded};
use lookup::By;
use measure::{Workload, run};
use redb::{Database, ReadableDatabase, TableDefinition};

#[cfg(feature = "full")]
#[global_allocator]
static ALLOCATOR: measure::held::Counting = measure::held::Counting;

const BODY: usize = 512;
const READS: u64 = 200_000;
const KEYS: u64 = 1_000;
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("players");

fn main() -> ExitCode {
    let mut workloads = vec![
        puts::workload("documents-put-1", 1),
        puts::workload("documents-put-8", 8),
        puts::workload("documents-put-64", 64),
        puts::workload("documents-put-256", 256),
        Workload::rate("documents-get", get).against("redb", redb_get),
        lookup::workload("room-by-id-10k", By::Id, 10_000, 1),
        lookup::workload("room-by-id-10k-2", By::Id, 10_000, 2),
        lookup::workload("room-by-code-10k", By::Code, 10_000, 1),
        lookup::workload("room-by-code-10k-2", By::Code, 10_000, 2),
        lookup::pressure("active-room-p99"),
        lookup::workload("room-by-id-1m", By::Id, 1_000_000, 1),
        lookup::workload("room-by-id-1m-2", By::Id, 1_000_000, 2),
        lookup::workload("room-by-code-1m", By::Code, 1_000_000, 1),
        lookup::workload("room-by-code-1m-2", By::Code, 1_000_000, 2),
    ];
    workloads.extend(full());
    measure::main(workloads)
}

#[cfg(feature = "full")]
fn full() -> Vec<Workload> {
    let mut all = games::workloads();
    all.push(server::workload("documents-postgres-1", 1));
    all.push(server::workload("documents-postgres-8", 8));
    all.push(server::workload("documents-postgres-64", 64));
    all.push(server::workload("documents-postgres-256", 256));
    all
}

#[cfg(not(feature = "full"))]
fn full() -> Vec<Workload> {
    Vec::new()
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
