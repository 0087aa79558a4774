//! Rate limits: decisions in memory by one key and by many, over three limits at once, of a ladder, of
//! a layer before a service, and in Redis. The peer in memory is governor, bare and in tower_governor;
//! in Redis it is a counter, raised and given its end in one pipeline, which decides nothing by itself.

mod keys;
mod layer;
mod redis;

use std::{
    hint::black_box,
    num::NonZeroU32,
    process::ExitCode,
    time::{Duration, Instant},
};

use governor::{Quota as GovernorQuota, RateLimiter as Governor};
use infra_core::{
    Clock as _, SystemClock,
    limit::{Charge, Class, Ladder as _, RateLimiter, Step},
};
use infra_ratelimit::{Limiter, Quota, Rungs};
use measure::{Better, Workload, run};

const DECISIONS: u64 = 500_000;
const KEYS: u64 = 1_000;

/// Many, and given back so slowly that no key is ever full again while it is measured.
const CAPACITY: u32 = 4_000_000;
const REFILL: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let nanos = |name, ours: fn() -> f64| Workload::figure(name, "ns", Better::Lower, ours);
    let mut workloads = vec![
        nanos("limit-1-key", || keys::ours(1))
            .beside("governor", || keys::governor(1))
            .beside("governor-direct", direct),
        nanos("limit-10k-keys", || keys::ours(10_000))
            .beside("governor", || keys::governor(10_000)),
        nanos("limit-1m-keys", || keys::ours(1_000_000))
            .beside("governor", || keys::governor(1_000_000))
            .rounds(3),
        Workload::rate("limit-3-keys", decide).against("governor", governor_decide),
        nanos("ladder", ladder).beside("governor-direct", direct),
        nanos("limit-layer", layer::ours).beside("tower_governor", layer::governor),
    ];
    workloads.extend(redis::workloads());
    measure::main(workloads)
}

fn quota() -> Quota {
    Quota::new(CAPACITY, REFILL).unwrap()
}

fn governor_quota() -> GovernorQuota {
    let burst = NonZeroU32::new(CAPACITY).unwrap();
    GovernorQuota::with_period(REFILL).unwrap().allow_burst(burst)
}

/// Returns the nanoseconds per decision.
fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / DECISIONS as f64
}

fn direct() -> f64 {
    let limiter = Governor::direct(governor_quota());
    timed(|| (0..DECISIONS).for_each(|_| assert!(black_box(&limiter).check().is_ok())))
}

/// One connection's ladder; the time of a message is read once, for whoever needs it.
fn ladder() -> f64 {
    let mut ladder = Rungs::new(quota(), quota(), quota()).ladder();
    let now = SystemClock::new().now();
    timed(|| {
        for _ in 0..DECISIONS {
            let step = black_box(&mut ladder).judge(Class::Input, NonZeroU32::MIN, black_box(now));
            assert_eq!(step, Step::Allow);
        }
    })
}

fn names(limit: &str) -> Vec<String> {
    (0..KEYS).map(|key| format!("{limit} {key}")).collect()
}

fn decide() -> u64 {
    run(async {
        let quota = Quota::new(1_000_000, Duration::from_millis(1)).unwrap();
        let limiter = ["player", "room", "address"]
            .into_iter()
            .fold(Limiter::new(SystemClock::shared()), |limiter, name| limiter.limit(name, quota));
        let (players, rooms, addresses) = (names("player"), names("room"), names("address"));
        for decision in 0..DECISIONS {
            let at = (decision * 7_919 % KEYS) as usize;
            let charges = [
                Charge::one("player", players[at].clone()),
                Charge::one("room", rooms[at].clone()),
                Charge::one("address", addresses[at].clone()),
            ];
            assert!(limiter.acquire(&charges).await.unwrap().is_admitted());
        }
    });
    DECISIONS
}

/// Asks three limiters in turn, which is not atomic: what the first admits is paid even if the third
/// refuses.
fn governor_decide() -> u64 {
    let quota = || {
        GovernorQuota::with_period(Duration::from_millis(1))
            .unwrap()
            .allow_burst(NonZeroU32::new(1_000_000).unwrap())
    };
    let limiters: [_; 3] = std::array::from_fn(|_| Governor::<String, _, _>::keyed(quota()));
    let keys = [names("player"), names("room"), names("address")];
    for decision in 0..DECISIONS {
        let at = (decision * 7_919 % KEYS) as usize;
        for (limiter, keys) in limiters.iter().zip(&keys) {
            assert!(limiter.check_key(&keys[at].clone()).is_ok());
        }
    }
    DECISIONS
}
