//! The cache beside moka itself, quick_cache and foyer: hits and inserts on one and two threads, bytes per
//! entry, and how often each hits on traces that are made here.
//!
//! Ours is measured as a user has it: with a time to live judged by the clock port, statistics and fences. Moka
//! has the same time to live on a clock of its own.

mod bytes;
mod subjects;
mod traces;

use std::{process::ExitCode, sync::Arc, thread};

use infra_cache::Policy;
use measure::{Better, Workload};
use subjects::{Subject, foyer, moka_lru, moka_tiny_lfu, ours, quick_cache};

const HITS: u64 = 2_000_000;
const INSERTS: u64 = 400_000;
const KEYS: u64 = 10_000;

fn main() -> ExitCode {
    let mut workloads = vec![
        beside("cache-hit", |make| hits(make, 1)),
        beside("cache-hit-2-threads", |make| hits(make, 2)),
        beside("cache-insert", |make| inserts(make, 1)),
        beside("cache-insert-2-threads", |make| inserts(make, 2)),
        Workload::figure("cache-bytes", "B", Better::Lower, || bytes::of(ours(Policy::TinyLfu)))
            .rounds(1)
            .beside("moka", || bytes::of(moka_tiny_lfu))
            .beside("quick_cache", || bytes::of(quick_cache))
            .beside("foyer", || bytes::of(foyer)),
    ];
    workloads.extend(traces::ALL.map(|trace| {
        Workload::figure(trace.name, "%", Better::Higher, move || {
            trace.hits(&*ours(Policy::TinyLfu)(trace.capacity))
        })
        .rounds(1)
        .beside("moka", move || trace.hits(&*moka_tiny_lfu(trace.capacity)))
        .beside("ours-lru", move || trace.hits(&*ours(Policy::Lru)(trace.capacity)))
        .beside("moka-lru", move || trace.hits(&*moka_lru(trace.capacity)))
        .beside("quick_cache", move || trace.hits(&*quick_cache(trace.capacity)))
        .beside("foyer", move || trace.hits(&*foyer(trace.capacity)))
    }));
    measure::main(workloads)
}

/// Makes a cache of a capacity.
type Make = fn(u64) -> Arc<dyn Subject>;

fn beside(name: &'static str, work: fn(Make) -> u64) -> Workload {
    let tiny_lfu: Make = |capacity| ours(Policy::TinyLfu)(capacity);
    Workload::rate(name, move || work(tiny_lfu))
        .against("moka", move || work(moka_tiny_lfu))
        .against("quick_cache", move || work(quick_cache))
        .against("foyer", move || work(foyer))
}

fn hits(make: Make, threads: u64) -> u64 {
    let cache = make(KEYS * 2);
    (0..KEYS).for_each(|key| cache.put(key));
    on(threads, &cache, |cache, thread| {
        let found = (0..HITS).filter(|hit| cache.get((hit + thread) * 7_919 % KEYS)).count();
        assert!(HITS * 99 / 100 < found as u64, "{found}");
    });
    HITS * threads
}

fn inserts(make: Make, threads: u64) -> u64 {
    let cache = make(KEYS);
    on(threads, &cache, |cache, thread| {
        (0..INSERTS).for_each(|number| cache.put(number * 2 + thread));
    });
    INSERTS * threads
}

fn on(threads: u64, cache: &Arc<dyn Subject>, work: fn(&dyn Subject, u64)) {
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || work(&**cache, thread));
        }
    });
}
