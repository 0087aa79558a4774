//! No read that begins after an invalidation ended returns what was there before it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::indexing_slicing,
    clippy::similar_names,
    clippy::large_futures,
    clippy::too_many_lines,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

/// The crate's own file, with loom's atomics in the place of the real ones.
#[path = "../src/fence.rs"]
#[allow(dead_code, unreachable_pub, reason = "a test uses a part of it")]
mod counted;
#[path = "fence/interleaved.rs"]
mod interleaved;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_cache::{Loaded, LocalCache, Options, Policy};
use infra_core::SystemClock;
use infra_testkit::seed::Seed;
use rand::RngExt as _;
use tokio::task::JoinSet;

/// What the test is done to: ours, and bare moka as the proof that it bites.
trait Subject: Clone + Send + Sync + 'static {
    fn read(&self, origin: Arc<Origin>) -> impl Future<Output = u64> + Send;
    fn remove(&self, way: u32);
}

/// The truth, and how many steps a load takes to read and return it.
struct Origin {
    value: AtomicU64,
    pauses: Vec<u8>,
    next: AtomicU64,
}

impl Origin {
    async fn load(&self) -> u64 {
        let turn = self.next.fetch_add(1, Ordering::SeqCst) as usize;
        let pause = |which: usize| self.pauses[(turn * 2 + which) % self.pauses.len()];
        for _ in 0..pause(0) {
            tokio::task::yield_now().await;
        }
        let value = self.value.load(Ordering::SeqCst);
        for _ in 0..pause(1) {
            tokio::task::yield_now().await;
        }
        value
    }
}

impl Subject for LocalCache<u32, u64> {
    async fn read(&self, origin: Arc<Origin>) -> u64 {
        let load = || async move { Ok(Loaded::new(origin.load().await).tagged("red")) };
        self.read_or_load(&1, load).await.unwrap().value.unwrap()
    }

    fn remove(&self, way: u32) {
        match way % 6 {
            0 => self.invalidate_tag("red"),
            1 => self.clear(),
            2 => drop(self.remove_tag("red")),
            // What a tiered cache does on a message or a gap of its backplane.
            3 => drop(self.invalidate_many(&[1, 2])),
            _ => drop(self.invalidate(&1)),
        }
    }
}

impl Subject for moka::future::Cache<u32, u64> {
    async fn read(&self, origin: Arc<Origin>) -> u64 {
        self.get_with(1, async move { origin.load().await }).await
    }

    fn remove(&self, way: u32) {
        if way % 6 == 1 {
            self.invalidate_all();
        } else {
            let mut removal = std::pin::pin!(self.invalidate(&1));
            // It is ready at once while no listener is set.
            let _ready = futures_now(removal.as_mut());
        }
    }
}

/// Polls a future once.
fn futures_now<F: Future + Unpin>(future: F) -> std::task::Poll<F::Output> {
    let mut future = future;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(&mut future).poll(&mut context)
}

/// A writer changes the truth and removes what is cached, many readers read; returns how many of
/// them were told what had been replaced before they began.
async fn stale_reads<S: Subject>(subject: S, seed: Seed, readers: usize, writes: u64) -> u64 {
    let mut dice = seed.dice();
    let pauses = (0..61).map(|_| dice.random_range(0..4)).collect();
    let origin = Arc::new(Origin { value: AtomicU64::new(0), pauses, next: AtomicU64::new(0) });
    let published = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for reader in 0..readers {
        let (subject, origin) = (subject.clone(), Arc::clone(&origin));
        let published = Arc::clone(&published);
        let mut dice = Seed(seed.0 * 100 + reader as u64).dice();
        tasks.spawn(async move {
            let mut stale = 0;
            while published.load(Ordering::SeqCst) < writes {
                let least = published.load(Ordering::SeqCst);
                let seen = subject.read(Arc::clone(&origin)).await;
                stale += u64::from(seen < least);
                for _ in 0..dice.random_range(0..3) {
                    tokio::task::yield_now().await;
                }
            }
            stale
        });
    }
    for value in 1..=writes {
        origin.value.store(value, Ordering::SeqCst);
        subject.remove(dice.random());
        published.store(value, Ordering::SeqCst);
        for _ in 0..dice.random_range(0..6) {
            tokio::task::yield_now().await;
        }
    }
    tasks.join_all().await.into_iter().sum()
}

fn seeds(count: u64) -> impl Iterator<Item = Seed> {
    Seed::each(std::env::var("TEST_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(count))
}

fn ours(policy: Policy) -> LocalCache<u32, u64> {
    LocalCache::new(Options::new(10).policy(policy), SystemClock::shared())
}

#[tokio::test]
async fn no_interleaving_of_loads_and_removals_serves_what_was_replaced() {
    for seed in seeds(300) {
        for policy in [Policy::TinyLfu, Policy::ExactLru] {
            assert_eq!(stale_reads(ours(policy), seed, 5, 40).await, 0, "{seed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn no_reader_on_eight_threads_is_served_what_was_replaced() {
    for seed in seeds(6) {
        assert_eq!(stale_reads(ours(Policy::TinyLfu), seed, 16, 400).await, 0, "{seed}");
    }
}

/// If this fails, moka has learnt to fence, or the tests above have forgotten how to bite.
#[tokio::test]
async fn the_same_test_finds_stale_reads_in_bare_moka() {
    let mut stale = 0;
    for seed in Seed::each(20) {
        stale += stale_reads(moka::future::Cache::new(10), seed, 5, 40).await;
    }
    assert!(0 < stale);
}

/// Removing ever more tags than are remembered one by one makes the fence refuse more, never less.
#[tokio::test]
async fn a_load_that_began_before_very_many_tags_were_removed_is_not_kept() {
    let cache = ours(Policy::TinyLfu);
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let loading = cache.clone();
    let load = tokio::spawn(async move {
        let load = || async move {
            ends.await.unwrap();
            Ok(Loaded::new(1).tagged("tag 0"))
        };
        loading.read_or_load(&1, load).await.unwrap().value
    });
    tokio::time::timeout(Duration::from_secs(5), async {
        while cache.statistics().misses == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    (0..5_000).for_each(|tag| cache.invalidate_tag(&format!("tag {tag}")));
    end.send(()).unwrap();
    assert_eq!((load.await.unwrap(), cache.get(&1)), (Some(1), None));
}
