//! What policies cost on the happy path: a call that is ready at once, again and again, by one task.
//! The peers are recloser and failsafe, which are plain functions, and tower-resilience, whose services
//! box their futures.

use std::{
    alloc::System,
    hint::black_box,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use failsafe::CircuitBreaker as _;
use infra_core::{Clock, Error, SystemClock, backoff::Backoff};
use infra_resilience::{
    Breaker, Bulkhead, Idempotent, Pipeline, Policy, Retry, Timeout, breaker, bulkhead, idempotent,
};
use measure::{Better, Workload, run};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: u32 = 500_000;
const SECOND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let nanos = |name, ours: fn() -> f64| Workload::figure(name, "ns", Better::Lower, ours);
    measure::main(vec![
        nanos("breaker-closed", || ours(plain_breaker()))
            .beside("recloser", recloser)
            .beside("failsafe", failsafe)
            .beside("tower-resilience", tower_breaker),
        nanos("breaker-slow-calls", || ours(slow_breaker()))
            .beside("tower-resilience", tower_slow_breaker),
        Workload::figure("breaker-readings", "per call", Better::Lower, readings).rounds(1),
        nanos("pipeline-4-policies", || ours(pipeline()))
            .beside("tower-resilience", tower_pipeline),
        Workload::figure("pipeline-allocations", "per call", Better::Lower, allocations).rounds(1),
    ])
}

/// Returns the nanoseconds per call.
fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

async fn call_again_and_again(policy: &impl Policy<Idempotent, u64>) {
    for number in 0..CALLS {
        let call = idempotent(|| async move { Ok::<_, Error>(black_box(u64::from(number))) });
        black_box(policy.run("ask", call).await).unwrap();
    }
}

fn ours(policy: impl Policy<Idempotent, u64>) -> f64 {
    run(async { timed_async(call_again_and_again(&policy)).await })
}

async fn timed_async(work: impl Future<Output = ()>) -> f64 {
    let start = Instant::now();
    work.await;
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn plain_breaker() -> Breaker {
    Breaker::new(breaker::Options::default(), SystemClock::shared())
}

fn slow_breaker() -> Breaker {
    Breaker::new(breaker::Options::default().slow(SECOND, 0.5), SystemClock::shared())
}

/// The system's clock, and how often it was read.
#[derive(Debug, Default)]
struct Read(SystemClock, AtomicU32);

impl Clock for Read {
    fn now(&self) -> infra_core::clock::Instant {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.now()
    }

    fn wall(&self) -> infra_core::clock::Timestamp {
        self.0.wall()
    }
}

/// Returns how often the clock is read more for each call when slow calls are counted.
fn readings() -> f64 {
    let read = |options| {
        let clock = Arc::<Read>::default();
        let breaker = Breaker::new(options, Arc::<Read>::clone(&clock));
        run(call_again_and_again(&breaker));
        f64::from(clock.1.load(Ordering::Relaxed)) / f64::from(CALLS)
    };
    let plain = read(breaker::Options::default());
    read(breaker::Options::default().slow(SECOND, 0.5)) - plain
}

fn pipeline() -> impl Policy<Idempotent, u64> {
    let clock = SystemClock::shared();
    Pipeline::new()
        .then(Retry::new(3, Backoff::exponential(SECOND), clock.clone()))
        .then(plain_breaker())
        .then(Bulkhead::new(bulkhead::Options::new(100), clock.clone()))
        .then(Timeout::new(SECOND, clock))
}

fn allocations() -> f64 {
    let pipeline = pipeline();
    run(async {
        call_again_and_again(&pipeline).await;
        let region = Region::new(ALLOCATOR);
        call_again_and_again(&pipeline).await;
        // The runtime's own threads may allocate a little meanwhile.
        (region.change().allocations as f64 / f64::from(CALLS) * 1e3).round() / 1e3
    })
}

fn recloser() -> f64 {
    let breaker = recloser::Recloser::custom().closed_len(100).build();
    timed(|| {
        for number in 0..CALLS {
            black_box(breaker.call(|| Ok::<_, ()>(black_box(number)))).unwrap();
        }
    })
}

fn failsafe() -> f64 {
    let breaker = failsafe::Config::new().build();
    timed(|| {
        for number in 0..CALLS {
            black_box(breaker.call(|| Ok::<_, ()>(black_box(number)))).unwrap();
        }
    })
}

/// A service that answers at once.
fn echo() -> impl Service<u32, Response = u64, Error = (), Future: Send> + Clone + Send + 'static {
    service_fn(|number: u32| async move { Ok::<_, ()>(black_box(u64::from(number))) })
}

fn served<E: std::fmt::Debug>(mut service: impl Service<u32, Response = u64, Error = E>) -> f64 {
    run(timed_async(async move {
        for number in 0..CALLS {
            black_box(service.ready().await.unwrap().call(number).await).unwrap();
        }
    }))
}

fn tower_breaker() -> f64 {
    served(CircuitBreakerLayer::builder().sliding_window_size(100).build().unwrap().layer(echo()))
}

fn tower_slow_breaker() -> f64 {
    let builder = CircuitBreakerLayer::builder().sliding_window_size(100);
    let builder = builder.slow_call_duration_threshold(SECOND).slow_call_rate_threshold(0.5);
    served(builder.build().unwrap().layer(echo()))
}

fn tower_pipeline() -> f64 {
    let timeout = TimeLimiterLayer::builder().timeout_duration(SECOND).build();
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(100).build().unwrap();
    let breaker = CircuitBreakerLayer::builder().sliding_window_size(100).build().unwrap();
    let retry = RetryLayer::builder().max_attempts(3).exponential_backoff(SECOND).build();
    served(retry.layer(breaker.layer(bulkhead.layer(timeout.layer(echo())))))
}
