//! What a call costs in readings of the clock, each some 30 ns: as the issue bounds it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use infra_core::{
    Clock, SystemClock,
    backoff::Backoff,
    clock::{Instant, Timestamp},
};
use infra_resilience::{
    Breaker, Bulkhead, Idempotent, Pipeline, Policy, Retry, Timeout,
    breaker::{Options, Window},
    bulkhead, idempotent,
};

use crate::{MILLI, SECOND};

/// The system's clock, and how often it was read.
#[derive(Debug, Default)]
struct Read {
    clock: SystemClock,
    times: AtomicU32,
}

impl Clock for Read {
    fn now(&self) -> Instant {
        self.times.fetch_add(1, SeqCst);
        self.clock.now()
    }

    fn wall(&self) -> Timestamp {
        self.clock.wall()
    }
}

/// Returns how often a policy reads the clock for each of a hundred calls, the most of all.
async fn readings<P: Policy<Idempotent, u32>>(policy: impl FnOnce(Arc<dyn Clock>) -> P) -> u32 {
    let clock = Arc::<Read>::default();
    let policy = policy(Arc::<Read>::clone(&clock));
    let mut most = 0;
    for _ in 0..100 {
        let before = clock.times.load(SeqCst);
        policy.run("ask", idempotent(|| async { Ok(7) })).await.unwrap();
        most = most.max(clock.times.load(SeqCst) - before);
    }
    most
}

#[tokio::test(start_paused = true)]
async fn a_closed_breaker_reads_the_clock_only_for_slow_calls_and_windows_of_time() {
    let breaker = |options| move |clock| Breaker::new(options, clock);
    assert_eq!(readings(breaker(Options::default())).await, 0);
    let slow = Options::default().slow(SECOND, 0.5);
    assert_eq!(readings(breaker(slow.clone())).await, 2);
    let window = Window::Time { length: SECOND };
    assert_eq!(readings(breaker(Options::default().window(window))).await, 1);
    assert_eq!(readings(breaker(slow.window(window))).await, 2, "the end is read once");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_a_retry_a_timeout_and_a_bulkhead_read_the_clock_once() {
    let pipeline = |clock: Arc<dyn Clock>| {
        Pipeline::new()
            .then(Retry::new(3, Backoff::exponential(MILLI), Arc::clone(&clock)))
            .then(Breaker::new(Options::default(), Arc::clone(&clock)))
            .then(Bulkhead::new(bulkhead::Options::new(9), Arc::clone(&clock)))
            .then(Timeout::new(SECOND, clock))
    };
    assert_eq!(readings(pipeline).await, 1, "the timeout's deadline");
}
