//! A room found in memory by its id and by its code, against maps that do nothing else.

use std::{
    cell::OnceCell,
    collections::HashMap,
    hint::black_box,
    rc::Rc,
    sync::{Arc, Barrier, RwLock},
    time::Instant,
};

use dashmap::DashMap;
use infra_core::{SystemClock, clock::Timestamp, version::Expected};
use infra_persistence::{RoomRecord, RoomStatus, Rooms, memory};
use measure::{Better, Workload, run};

/// How many lookups a thread does.
const LOOKUPS: usize = 400_000;

/// How many rooms are saved at a time.
const SAVERS: usize = 64;

fn room(number: usize) -> RoomRecord {
    RoomRecord {
        id: format!("room-{number}"),
        code: format!("C{number:07}"),
        status: RoomStatus::Open,
        players: vec![format!("player-{number}"), format!("player-{}", number + 1)],
        active: Timestamp::from_millis(number as u64),
    }
}

fn rooms(count: usize) -> Rooms {
    rooms_of(count, count + 1)
}

/// Saves rooms of which so many stay in memory.
pub(crate) fn rooms_of(count: usize, resident: usize) -> Rooms {
    let documents = Arc::new(memory(SystemClock::shared()).unwrap());
    let rooms = Rooms::new(documents, resident).unwrap();
    run(async {
        let savers: Vec<_> = (0..SAVERS)
            .map(|saver| {
                let rooms = rooms.clone();
                tokio::spawn(async move {
                    for number in (saver..count).step_by(SAVERS) {
                        rooms.save(room(number), Expected::Absent).await.unwrap();
                    }
                })
            })
            .collect();
        for saver in savers {
            saver.await.unwrap();
        }
    });
    rooms
}

/// Returns `LOOKUPS` of the keys in no order, each thread others: a generator that comes by every key
/// before it comes by one again, if their number is a power of ten.
fn visits(keys: &[String], thread: usize) -> Vec<String> {
    let mut at = thread * keys.len() / 2;
    (0..LOOKUPS)
        .map(|_| {
            at = (at * 1_664_521 + 1_013_904_223) % keys.len();
            keys[at].clone()
        })
        .collect()
}

/// Returns the nanoseconds of a lookup as a thread sees it, each looking for keys of its own. The keys
/// are at hand when they are looked for, as those of a request are.
fn nanos<F: AsyncFn(&str) + Sync>(keys: &[String], threads: usize, find: F) -> f64 {
    let (find, ready) = (&find, &Barrier::new(threads));
    let look = move |thread: usize| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let visits = visits(keys, thread);
        ready.wait();
        let start = Instant::now();
        runtime.block_on(async {
            for key in &visits {
                find(key).await;
            }
        });
        start.elapsed().as_secs_f64() * 1e9 / LOOKUPS as f64
    };
    let each: Vec<f64> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || look(thread))).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    each.iter().sum::<f64>() / threads as f64
}

/// Which key rooms are found by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    Id,
    Code,
}

impl By {
    fn keys(self, count: usize) -> Vec<String> {
        let key = |room: RoomRecord| match self {
            Self::Id => room.id,
            Self::Code => room.code,
        };
        (0..count).map(|number| key(room(number))).collect()
    }
}

/// A value that is made when it is needed first.
fn once<T>(make: impl Fn() -> T) -> impl Fn() -> Rc<T> {
    let cell = OnceCell::new();
    move || Rc::clone(cell.get_or_init(|| Rc::new(make())))
}

/// Compares lookups among `count` rooms by so many threads; the figure is nanoseconds of a lookup as
/// each thread sees it.
pub(crate) fn workload(name: &'static str, by: By, count: usize, threads: usize) -> Workload {
    let ours = once(move || (by.keys(count), rooms(count)));
    let all = move || by.keys(count).into_iter().zip((0..count).map(|n| Arc::new(room(n))));
    let locked = once(move || (by.keys(count), RwLock::new(all().collect::<HashMap<_, _>>())));
    let dash = once(move || (by.keys(count), all().collect::<DashMap<_, _>>()));
    let papaya = once(move || (by.keys(count), all().collect::<papaya::HashMap<_, _>>()));
    Workload::figure(name, "ns", Better::Lower, move || {
        let both = ours();
        let (keys, rooms) = &*both;
        match by {
            By::Id => nanos(keys, threads, async |key| {
                black_box(rooms.get(key).await.unwrap().unwrap());
            }),
            By::Code => nanos(keys, threads, async |key| {
                black_box(rooms.by_code(key).await.unwrap().unwrap());
            }),
        }
    })
    .beside("rwlock", move || {
        let both = locked();
        let (keys, map) = &*both;
        nanos(keys, threads, async |key| {
            black_box(map.read().unwrap().get(key).cloned().unwrap());
        })
    })
    .beside("dashmap", move || {
        let both = dash();
        let (keys, map) = &*both;
        nanos(keys, threads, async |key| {
            black_box(map.get(key).map(|found| Arc::clone(&found)).unwrap());
        })
    })
    .beside("papaya", move || {
        let both = papaya();
        let (keys, map) = &*both;
        nanos(keys, threads, async |key| {
            black_box(map.pin().get(key).cloned().unwrap());
        })
    })
}

/// Returns the 99th percentile, in nanoseconds, of lookups of active rooms while another thread reads
/// rooms of which one in ten fits; or, to compare, while it reads rooms that are all in memory.
fn active_p99(is_pressed: bool) -> f64 {
    const FIT: usize = 2_000;
    const ACTIVE: usize = 200;
    const SAMPLES: usize = 200_000;
    let documents = Arc::new(memory(SystemClock::shared()).unwrap());
    let count = 10 * FIT;
    let room_for = if is_pressed { FIT } else { count + 1 };
    let rooms = Rooms::new(documents, room_for).unwrap();
    run(async {
        for number in 0..count {
            let status = if number < ACTIVE { RoomStatus::Playing } else { RoomStatus::Open };
            let room = RoomRecord { status, ..room(number) };
            rooms.save(room, Expected::Absent).await.unwrap();
        }
    });
    let keys = By::Id.keys(count);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let (rooms, keys, is_over) = (&rooms, &keys, &is_over);
    let block_on = |future: std::pin::Pin<Box<dyn Future<Output = Vec<u64>> + '_>>| {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            block_on(Box::pin(async {
                let mut at = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    at = (at + 7_919) % count;
                    black_box(rooms.get(&keys[at]).await.unwrap().unwrap());
                }
                Vec::new()
            }))
        });
        let mut samples = block_on(Box::pin(async {
            let mut samples = Vec::with_capacity(SAMPLES);
            for sample in 0..SAMPLES {
                let start = Instant::now();
                black_box(rooms.get(&keys[sample % ACTIVE]).await.unwrap().unwrap());
                samples.push(start.elapsed().as_nanos() as u64);
            }
            samples
        }));
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        samples.sort_unstable();
        samples[SAMPLES * 99 / 100] as f64
    })
}

/// Compares lookups of active rooms with and without pressure on the memory.
pub(crate) fn pressure(name: &'static str) -> Workload {
    Workload::figure(name, "ns", Better::Lower, || active_p99(true))
        .beside("no-pressure", || active_p99(false))
}

/// What a room takes in a map by id and one by code, in bytes.
#[cfg(feature = "full")]
pub(crate) fn bytes_in_dashmap(count: usize) -> f64 {
    let held = measure::held::by(|| {
        let (by_id, by_code) = (DashMap::new(), DashMap::new());
        for room in (0..count).map(|number| Arc::new(room(number))) {
            by_code.insert(room.code.clone(), room.id.clone());
            by_id.insert(room.id.clone(), room);
        }
        (by_id, by_code)
    });
    held / count as f64
}
