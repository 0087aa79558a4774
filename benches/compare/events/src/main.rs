//! Events: durable appends by 1 to 256 appenders against a bare group-commit loop, embedded engines
//! and servers on the same disk; reading streams back; replaying, opening and keeping a large log.

mod appenders;
mod coordinator;
mod engines;
mod ours;
mod servers;

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Instant,
};

use appenders::Load;
use measure::{Better, Workload};
use ours::Filled;

/// How many events the large log has; `INFRA_BENCH_EVENTS` sets another number.
fn large() -> u64 {
    let set = std::env::var("INFRA_BENCH_EVENTS").ok().and_then(|text| text.parse().ok());
    set.unwrap_or(1_000_000)
}

/// A way to do the work of a load; one that syncs each append for itself does a tenth of it.
type Peer = (&'static str, fn(Load) -> f64, u64);

const PEERS: [Peer; 9] = [
    ("bare loop", coordinator::bare, 1),
    ("SQLite", engines::sqlite, 10),
    ("fjall", engines::fjall, 10),
    ("fjall, grouped", engines::fjall_grouped, 1),
    ("redb", engines::redb, 10),
    ("redb, grouped", engines::redb_grouped, 1),
    ("PostgreSQL", servers::postgres, 2),
    ("Redis Streams", servers::redis, 1),
    ("JetStream", servers::jetstream, 1),
];

/// Durable appends in a second: ours.
fn appends(name: &'static str, load: Load) -> Workload {
    Workload::figure(name, "/s", Better::Higher, move || ours::append(load))
}

/// Durable appends by so many appenders: ours, and every peer.
fn all_peers(name: &'static str, load: Load) -> Workload {
    let ours = appends(name, load).rounds(3);
    PEERS.into_iter().fold(ours, |workload, (peer, side, part)| {
        let load = Load { each: (load.each / part).max(3), ..load };
        workload.beside(peer, move || side(load))
    })
}

/// The large log, written at its first use.
fn filled() -> Arc<Filled> {
    static FILLED: OnceLock<Arc<Filled>> = OnceLock::new();
    Arc::clone(FILLED.get_or_init(|| Arc::new(Filled::new(large()))))
}

/// The same events in redb, written at its first use.
fn redb_replay() -> f64 {
    static FILLED: OnceLock<(tempfile::TempDir, Arc<redb::Database>)> = OnceLock::new();
    let (_, database) = FILLED.get_or_init(|| {
        let folder = appenders::folder();
        let database = engines::redb_filled(folder.path(), large());
        (folder, database)
    });
    let begun = Instant::now();
    let seen = engines::redb_scan(database);
    assert_eq!(seen, large());
    seen as f64 / begun.elapsed().as_secs_f64()
}

fn main() -> ExitCode {
    let (one, many) = (Load { appenders: 1, each: 500 }, Load { appenders: 64, each: 60 });
    measure::main(vec![
        appends("events-append-64", many)
            .beside("bare loop", move || coordinator::bare(many))
            .beside("SQLite", move || engines::sqlite(Load { each: 6, ..many })),
        appends("events-append-1", one)
            .beside("bare loop", move || coordinator::bare(one))
            .beside("SQLite", move || engines::sqlite(one)),
        all_peers("events-peers-1", Load { appenders: 1, each: 400 }),
        all_peers("events-peers-8", Load { appenders: 8, each: 200 }),
        all_peers("events-peers-64", Load { appenders: 64, each: 150 }),
        all_peers("events-peers-256", Load { appenders: 256, each: 100 }),
        Workload::figure("events-append-p99-64", "ms", Better::Lower, || {
            ours::p99(Load { appenders: 64, each: 300 })
        }),
        Workload::rate("events-read", || ours::read(5_000, 40))
            .against("SQLite", || engines::sqlite_read(5_000, 40)),
        Workload::rate("events-stream-10k", || ours::read(10_000, 20))
            .against("SQLite", || engines::sqlite_read(10_000, 20)),
        Workload::figure("events-replay", "/s", Better::Higher, || filled().replay())
            .beside("redb", redb_replay)
            .rounds(3),
        Workload::figure("events-reopen", "ms", Better::Lower, || filled().reopen()).rounds(3),
        Workload::figure("events-bytes", "B", Better::Lower, || filled().bytes()).rounds(1),
        Workload::figure("events-memory", "MiB", Better::Lower, || filled().memory()).rounds(1),
    ])
}
