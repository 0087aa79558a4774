//! One limit, by one key or by many that are all kept.

use governor::RateLimiter as Governor;
use infra_core::{SystemClock, limit::Charge};
use infra_ratelimit::{Limit, Limiter};

use crate::{DECISIONS, governor_quota, quota, timed};

/// More than a million keys take.
const BUDGET: usize = 512 << 20;

fn names(keys: u64) -> impl Iterator<Item = String> {
    (0..keys).map(|key| format!("player {key}"))
}

/// The keys in an order that no cache foresees.
fn order(keys: u64) -> impl Iterator<Item = usize> {
    (0..DECISIONS).map(move |decision| (decision * 7_919 % keys) as usize)
}

pub(crate) fn ours(keys: u64) -> f64 {
    let limiter =
        Limiter::new(SystemClock::shared()).limit("player", Limit::bucket(quota()).budget(BUDGET));
    let charges: Vec<_> = names(keys).map(|key| [Charge::one("player", key)]).collect();
    let ask = |charges| assert!(limiter.decide(charges).unwrap().is_admitted());
    charges.iter().for_each(|charges| ask(charges));
    timed(|| order(keys).for_each(|key| ask(&charges[key])))
}

pub(crate) fn governor(keys: u64) -> f64 {
    let limiter = Governor::<String, _, _>::keyed(governor_quota());
    let names: Vec<_> = names(keys).collect();
    let ask = |key| assert!(limiter.check_key(key).is_ok());
    names.iter().for_each(ask);
    timed(|| order(keys).for_each(|key| ask(&names[key])))
}
