//! Durable state machines: saving, loading and recovering tables of a card game of about a kilobyte. The
//! peers are our log alone with the same events, which is the price of durability, and what is written by
//! hand where no library is at hand: the state as JSON in SQLite, a transaction with `synchronous=FULL` each.

mod peers;
mod table;
mod world;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use infra_core::version::Version;
use infra_persistence::state::{
    Action, Durable, Machines, MachinesOptions, Strategy, Target, recover, recover_all,
};
use measure::{Better, Workload, run};
use table::Table;
use world::{MACHINES, World, stream};

/// How many saves each machine makes where their latency is measured.
const SAVES: u64 = 100;

/// How many machines live at once at the most.
const LIVE: u64 = 5_000;

fn main() -> ExitCode {
    let latency = |name, ours: fn() -> f64| Workload::figure(name, " us", Better::Lower, ours);
    measure::main(vec![
        latency("state-save-1-p50", || save(1).0)
            .beside("append", || peers::append(1).0)
            .beside("SQLite", || peers::sqlite(1).0),
        latency("state-save-1-p99", || save(1).1).beside("append", || peers::append(1).1),
        latency("state-save-64-p50", || save(64).0)
            .beside("append", || peers::append(64).0)
            .beside("SQLite", || peers::sqlite(64).0),
        latency("state-save-64-p99", || save(64).1).beside("append", || peers::append(64).1),
        latency("state-load-cached", load_cached),
        latency("state-load-stored", load_stored).beside("SQLite", peers::sqlite_load),
        Workload::figure("state-recover-snapshots", " s", Better::Lower, || recover_every(true))
            .rounds(3),
        Workload::figure("state-recover-events", " s", Better::Lower, || recover_every(false))
            .rounds(3),
        Workload::rate("state-live-5000", live).rounds(3),
    ])
}

/// Returns the median and the 99th percentile of times, in microseconds.
fn quantiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e6;
    (at(50), at(99))
}

/// Saves of `machines` machines at once, each waiting for its own.
fn save(machines: u64) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let times = run(async {
        let world = World::open(folder.path()).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..machines {
            let options = world.hybrid();
            tasks.spawn(async move {
                let (mut table, _) = Durable::<Table>::open(stream(number), options).await.unwrap();
                let mut times = Vec::new();
                for turn in 0..SAVES {
                    let begun = Instant::now();
                    table.execute(&Action::new("play").by("ann"), turn).await.unwrap();
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

fn load_cached() -> f64 {
    const LOADS: u32 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let world = World::open(folder.path()).await;
        let machines = Machines::<Table>::new(MachinesOptions::new(world.hybrid()));
        let name = stream(0);
        machines
            .get(&name)
            .await
            .unwrap()
            .lock()
            .await
            .execute(&Action::new("play"), 0)
            .await
            .unwrap();
        let begun = Instant::now();
        for _ in 0..LOADS {
            let table = machines.get(&name).await.unwrap();
            assert_eq!(table.lock().await.state().turns, 1);
        }
        let took = begun.elapsed().as_secs_f64() * 1e6 / f64::from(LOADS);
        world.close().await;
        took
    })
}

/// A load from the newest snapshot and the hundred events after it.
fn load_stored() -> f64 {
    let world = World::prepared();
    let times = run(async {
        let options = world.hybrid();
        let mut times = Vec::new();
        for number in 0..200 {
            let begun = Instant::now();
            let back = recover::<Table>(&stream(number), &options, Target::Latest).await.unwrap();
            times.push(begun.elapsed());
            assert_eq!((back.report.replayed, back.machine.turns), (100, world::EVENTS));
        }
        times
    });
    quantiles(times).0
}

/// Brings a thousand machines of a thousand events each back, with their snapshots or without.
fn recover_every(by_snapshots: bool) -> f64 {
    let world = World::prepared();
    run(async {
        let options = if by_snapshots {
            world.hybrid()
        } else {
            world.options(Strategy::EventSourced(world.log.clone()))
        };
        let begun = Instant::now();
        let streams = (0..MACHINES).map(stream).collect();
        let back = recover_all::<Table>(streams, &options, 4, |_, _| {}).await;
        let took = begun.elapsed().as_secs_f64();
        for (_, recovered) in back {
            assert_eq!(recovered.unwrap().machine.turns, world::EVENTS);
        }
        took
    })
}

/// Saves over five thousand machines that all stay in memory, by 256 tasks.
fn live() -> u64 {
    const TASKS: u64 = 256;
    const EACH: u64 = 80;
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let world = World::open(folder.path()).await;
        let options = MachinesOptions::new(world.hybrid()).capacity(LIVE as usize);
        let machines = Arc::new(Machines::<Table>::new(options));
        let next = Arc::new(AtomicU64::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..TASKS {
            let (machines, next) = (Arc::clone(&machines), Arc::clone(&next));
            tasks.spawn(async move {
                for _ in 0..EACH {
                    let number = next.fetch_add(1, Ordering::Relaxed) % LIVE;
                    let table = machines.get(&stream(number)).await.unwrap();
                    let mut table = table.lock().await;
                    let turn = table.state().turns;
                    table.execute(&Action::new("play"), turn).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(machines.tally().resident as u64, LIVE);
        world.close().await;
    });
    TASKS * EACH
}

/// Returns the version before the last hundred events.
const fn before_the_last_hundred(events: u64) -> Version {
    Version::new(events - 100)
}
