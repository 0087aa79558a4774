//! The event log: a durable append, and reading a stream back.
#![expect(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use infra_benches::event;
use infra_core::{
    event::{Append, Direction, EventStore},
    id::StreamName,
    random::Random,
    version::{Expected, Version},
};
use infra_events::{LogEventStore, Options};

const STREAM: usize = 1_000;

/// The segments of a log whose first events are old.
const SEGMENTS: u64 = 100;

fn log(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let opened = runtime.block_on(LogEventStore::open(Options::new(folder.path().join("log"))));
    let (store, random) = (opened.unwrap().0, Random::from_system());
    let (one, long) = (StreamName::new("one").unwrap(), StreamName::new("long").unwrap());
    let events = (0..STREAM).map(|_| event(&random, 256)).collect();
    runtime.block_on(store.append(Append::to(long.clone(), Expected::Absent, events))).unwrap();
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(1));
    group.bench_function("append durable, 256 bytes", |bencher| {
        bencher.iter(|| {
            let append = Append::to(one.clone(), Expected::Any, vec![event(&random, 256)]);
            runtime.block_on(store.append(append)).unwrap()
        });
    });
    group.throughput(Throughput::Elements(STREAM as u64));
    group.bench_function("read 1,000 events", |bencher| {
        bencher.iter(|| {
            let read = store.read_stream(&long, Version::new(1), Direction::Forward, STREAM);
            runtime.block_on(read).unwrap()
        });
    });
    let old = folder.path().join("old");
    let opened = LogEventStore::open(Options::new(old).segment_bytes(256 * 1024));
    let (store, _) = runtime.block_on(opened).unwrap();
    while runtime.block_on(store.stable_head()).unwrap().get() < SEGMENTS * 600 {
        let events = (0..STREAM / 4).map(|_| event(&random, 256)).collect();
        runtime.block_on(store.append(Append::to(long.clone(), Expected::Any, events))).unwrap();
    }
    group.bench_function("read 1,000 events of sealed segments", |bencher| {
        bencher.iter(|| {
            let read = store.read_stream(&long, Version::new(1), Direction::Forward, STREAM);
            runtime.block_on(read).unwrap()
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("append durable, to a stream in 100 segments", |bencher| {
        bencher.iter(|| {
            let append = Append::to(long.clone(), Expected::Any, vec![event(&random, 256)]);
            runtime.block_on(store.append(append)).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, log);
criterion_main!(benches);
