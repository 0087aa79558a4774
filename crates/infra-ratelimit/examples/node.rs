//! One node of a cluster under load: asks a shared limit as fast as it is told, and says what passed.
//!
//! `cargo run -p infra-ratelimit --features redis --example node -- URL NAMESPACE NODES CAPACITY
//! REFILL_MICROS SECONDS TASKS ASKS_PER_SECOND TIMEOUT_MILLIS [log]`, as in
//! `redis://127.0.0.1:6379 try 1 100 10000 2 4 1000 50`, prints
//! `admitted refused p50 p99 max lost p99_of_lost`, the latencies in microseconds; lost are decisions that were
//! made without Redis.
#![allow(
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "a program says what it found on its standard output"
)]

use std::{error::Error, num::NonZeroU32, str::FromStr, sync::Arc, time::Duration};

use infra_core::{
    Clock, SystemClock,
    limit::{Charge, RateLimiter},
};
use infra_ratelimit::{
    Limit, Quota, Window,
    redis::{Options, RedisLimiter},
};

type Failure = Box<dyn Error + Send + Sync>;

/// What a task saw.
#[derive(Default)]
struct Seen {
    admitted: u64,
    refused: u64,
    micros: Vec<u128>,
    /// Of these, the ones that were made while Redis was lost.
    lost: Vec<u128>,
}

fn next<T: FromStr<Err: Error + Send + Sync + 'static>>(
    words: &mut impl Iterator<Item = String>,
) -> Result<T, Failure> {
    Ok(words.next().ok_or("too few arguments")?.parse()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let (url, namespace): (String, String) = (next(&mut words)?, next(&mut words)?);
    let nodes: NonZeroU32 = next(&mut words)?;
    let quota = Quota::new(next(&mut words)?, Duration::from_micros(next(&mut words)?))?;
    let runs_for = Duration::from_secs_f64(next(&mut words)?);
    let (tasks, rate): (u32, f64) = (next(&mut words)?, next(&mut words)?);
    let clock = SystemClock::shared();
    let timeout = Duration::from_millis(next(&mut words)?);
    let options = Options::new(url, namespace).nodes(nodes).timeout(timeout);
    let limit = match words.next().as_deref() {
        Some("log") => {
            Limit::log(Window::new(quota.capacity(), quota.refill() * quota.capacity())?)
        }
        _ => Limit::bucket(quota),
    };
    let limiter = RedisLimiter::connect(options, Arc::clone(&clock)).await?.limit("all", limit)?;
    let pause = Duration::from_secs_f64(f64::from(tasks) / rate);
    let running: Vec<_> = (0..tasks)
        .map(|_| tokio::spawn(ask(limiter.clone(), Arc::clone(&clock), runs_for, pause)))
        .collect();
    let mut all = Seen::default();
    for task in running {
        let seen = task.await??;
        all.admitted += seen.admitted;
        all.refused += seen.refused;
        all.lost.extend(seen.lost);
        all.micros.extend(seen.micros);
    }
    let Seen { admitted, refused, mut micros, mut lost } = all;
    micros.sort_unstable();
    lost.sort_unstable();
    let at = |all: &[u128], part: usize| all.get(all.len() * part / 100).copied().unwrap_or(0);
    let (p50, p99, p99_of_lost) = (at(&micros, 50), at(&micros, 99), at(&lost, 99));
    let most = micros.last().copied().unwrap_or(0);
    println!("{admitted} {refused} {p50} {p99} {most} {} {p99_of_lost}", lost.len());
    Ok(())
}

async fn ask(
    limiter: RedisLimiter,
    clock: Arc<dyn Clock>,
    runs_for: Duration,
    pause: Duration,
) -> Result<Seen, infra_core::Error> {
    let mut seen = Seen::default();
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let charges = [Charge::one("all", "everyone")];
    let begun = clock.now();
    while clock.now().since(begun) < runs_for {
        ticks.tick().await;
        let asked = clock.now();
        let decision = limiter.acquire(&charges).await?;
        let took = clock.now().since(asked).as_micros();
        seen.micros.push(took);
        if limiter.is_lost() {
            seen.lost.push(took);
        }
        if decision.is_admitted() {
            seen.admitted += 1;
        } else {
            seen.refused += 1;
        }
    }
    Ok(seen)
}
