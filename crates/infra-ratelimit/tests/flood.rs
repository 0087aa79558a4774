//! A flood of keys that were never seen before.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "a panic is how a test fails, and what takes real time is measured"
)]

mod support;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use infra_ratelimit::{Limit, Limiter, Quota, address_key};
use infra_testkit::clock::ManualClock;
use support::charge;

const BUDGET: usize = 4 << 20;

/// How many decisions are timed; however long the flood, what is noted of them takes as little.
const TIMED: u32 = 10_000;

/// The bytes of this process that are in memory.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// The key of an attacker's address, each another one: IPv6 out of a /40, some IPv4 out of a /14.
fn attacker(number: u32) -> String {
    if number.is_multiple_of(64) {
        let [_, first, second, third] = (number / 64).to_be_bytes();
        return format!("10.{}.{second}.{third}", first & 3);
    }
    // The product by an odd number is another one for each of 2^24.
    let [_, site, network @ ..] = number.wrapping_mul(2_654_435_761).to_be_bytes();
    let network = u16::from_be_bytes(network);
    address_key(format!("2001:db8:{site:x}:{network:x}::1").parse().unwrap())
}

/// The slowest of a hundred decisions.
fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// How long an old key's decisions take, which are refused: they cost it nothing.
fn times(asks: &impl Fn(&str) -> bool, key: &str, count: usize) -> Vec<Duration> {
    let time = |_| {
        let begun = Instant::now();
        assert!(!asks(key));
        begun.elapsed()
    };
    (0..count).map(time).collect()
}

#[test]
fn a_flood_of_keys_stays_within_its_bytes_and_harms_nobody_else() {
    let n_keys: u32 =
        std::env::var("INFRA_RATELIMIT_FLOOD").map_or(300_000, |text| text.parse().unwrap());
    let clock = ManualClock::new();
    let quota = Quota::new(2, Duration::from_mins(1)).unwrap();
    let limiter =
        Limiter::new(Arc::new(clock.clone())).limit("address", Limit::bucket(quota).budget(BUDGET));
    let asks = |key: &str| limiter.decide(&[charge("address", key, 1)]).unwrap().is_admitted();
    let spent = attacker(7);
    assert!(asks(&spent) && asks(&spent) && !asks(&spent));
    assert!(asks("192.0.2.1"));
    let before = resident();
    let quiet = p99(times(&asks, &spent, TIMED as usize));
    let mut flooded = Vec::new();
    let (mut admitted, mut newcomers, mut most) = (0_u64, 0_u32, 0);
    for number in 0..n_keys {
        admitted += u64::from(asks(&attacker(number)));
        most = most.max(limiter.bytes());
        if number % (n_keys / TIMED).max(1) == 0 {
            flooded.extend(times(&asks, &spent, 1));
        }
        if number % (n_keys / 20) == 0 {
            // Each honest newcomer comes from a network of its own.
            newcomers += u32::from(asks(&format!("198.18.{newcomers}.1")));
            assert!(!asks(&spent), "what was spent is not regained");
        }
    }
    let grown = resident().saturating_sub(before);
    let flooded = p99(flooded);
    println!(
        "{n_keys} keys, {admitted} admitted, {most} bytes of {BUDGET}, {grown} resident; p99 of \
         another key {quiet:?} before and {flooded:?} during the flood"
    );
    // Far above what a decision takes, far below a pause that stops all.
    assert!(flooded < quiet * 20 + Duration::from_millis(1), "{quiet:?} before, {flooded:?} now");
    assert!(most <= BUDGET && grown <= 2 * BUDGET, "{most} bytes kept, {grown} resident");
    assert!(newcomers >= 20, "{newcomers} of 20 honest newcomers were admitted");
    assert!(asks("192.0.2.1") && !asks("192.0.2.1"), "an old key has what it had");
    // No key takes less than 64 bytes, and each has two tokens.
    assert!(admitted <= 2 * (BUDGET as u64) / 64, "{admitted} tokens for a flood");
}
