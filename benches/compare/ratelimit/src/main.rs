//! Rate limits: one decision over player, room and address. The peer is governor with three keyed
//! limiters asked one after the other, which is not atomic: what the first admits is paid even if
//! the third refuses.

use std::{num::NonZeroU32, process::ExitCode, time::Duration};

use governor::{Quota as GovernorQuota, RateLimiter as Governor};
use infra_core::{
    SystemClock,
    limit::{Charge, RateLimiter},
};
use infra_ratelimit::{Limiter, Quota};
use measure::{Workload, run};

const DECISIONS: u64 = 500_000;
const KEYS: u64 = 1_000;

fn main() -> ExitCode {
    measure::main(vec![Workload::rate("limit-3-keys", decide).against("governor", governor_decide)])
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
