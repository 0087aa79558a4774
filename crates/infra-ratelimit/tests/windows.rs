//! Windows against a brute-force log of what was admitted.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod support;

use std::{sync::Arc, time::Duration};

use infra_core::{
    limit::{RateLimiter as _, Verdict},
    random::Random,
};
use infra_ratelimit::{Limit, Limiter, Quota, Window};
use infra_testkit::clock::ManualClock;
use proptest::prelude::*;
use support::{charge, nanos, peek, reserve, run};

const MILLI: u64 = 1_000_000;

/// What was admitted: when, and how much.
#[derive(Debug, Default)]
struct Log(Vec<(u64, u64)>);

impl Log {
    /// Returns what the half-open window that ends now holds.
    fn within(&self, length: u64, now: u64) -> u64 {
        self.0.iter().filter(|(at, _)| now < at + length).map(|(_, cost)| cost).sum()
    }

    /// Returns the first time at which `cost` fits, by trying each end of an entry.
    fn fits_at(&self, capacity: u64, length: u64, cost: u64, now: u64) -> u64 {
        let fits = |time: &u64| self.within(length, *time) + cost <= capacity;
        let ends = self.0.iter().map(|(at, _)| at + length).filter(|end| now < *end);
        std::iter::once(now).chain(ends).filter(fits).min().unwrap()
    }

    /// Returns the most that any window of this length holds.
    fn most(&self, length: u64) -> u64 {
        self.0.iter().map(|(at, _)| self.up_to(length, *at)).max().unwrap_or(0)
    }

    fn up_to(&self, length: u64, now: u64) -> u64 {
        let is_within = |at: u64| at <= now && now < at + length;
        self.0.iter().filter(|(at, _)| is_within(*at)).map(|(_, cost)| cost).sum()
    }
}

fn limiter(limit: Limit) -> (ManualClock, Limiter) {
    let clock = ManualClock::new();
    let limiter = Limiter::new(Arc::new(clock.clone())).limit("window", limit);
    (clock, limiter)
}

fn window(capacity: u32, millis: u64) -> Window {
    Window::new(capacity, Duration::from_millis(millis)).unwrap()
}

proptest! {
    #[test]
    fn a_log_decides_and_waits_as_a_brute_force_log_does(
        capacity in 1..20_u32,
        length in 1..2_000_u64,
        steps in proptest::collection::vec((0..700_u64, 1..22_u32), 1..80),
    ) {
        let (clock, limiter) = limiter(Limit::log(window(capacity, length)));
        let (capacity, length) = (u64::from(capacity), length * MILLI);
        let mut log = Log::default();
        for (pause, cost) in steps {
            clock.advance(Duration::from_millis(pause));
            let now = nanos(&clock);
            let decision = limiter.decide(&[charge("window", "ann", cost)]).unwrap();
            let cost = u64::from(cost);
            let wanted = if capacity < cost {
                Verdict::Never
            } else {
                match log.fits_at(capacity, length, cost, now) - now {
                    0 => Verdict::Admitted,
                    wait => Verdict::RetryAfter(Duration::from_nanos(wait)),
                }
            };
            prop_assert_eq!(decision.verdict, wanted);
            if decision.is_admitted() {
                log.0.push((now, cost));
            }
            prop_assert_eq!(u64::from(decision.remaining), capacity - log.within(length, now));
        }
        prop_assert!(log.most(length) <= capacity);
    }

    #[test]
    fn the_approximation_stays_within_its_stated_bound(
        capacity in 1..50_u32,
        steps in proptest::collection::vec((0..500_u64, 1..10_u32), 1..120),
    ) {
        const LENGTH: u64 = 1_000 * MILLI;
        let (clock, limiter) = limiter(Limit::sliding(window(capacity, 1_000)));
        let mut log = Log::default();
        for (pause, cost) in steps {
            clock.advance(Duration::from_millis(pause));
            let now = nanos(&clock);
            let before = peek(&limiter, &[charge("window", "ann", 1)]);
            let count = u64::from(capacity - before.remaining) - u64::from(before.is_admitted());
            let start = now / LENGTH * LENGTH;
            let is_previous = |at: u64| start <= at + LENGTH && at < start;
            let previous: u64 =
                log.0.iter().filter(|(at, _)| is_previous(*at)).map(|(_, cost)| cost).sum();
            // In nanoseconds, so that the bound is exact: the count is rounded up by less than one.
            let (gone, exact) = (now - start, log.within(LENGTH, now));
            prop_assert!(exact * LENGTH <= count * LENGTH + previous * gone);
            prop_assert!(count * LENGTH < (exact + 1) * LENGTH + previous * (LENGTH - gone));
            if limiter.decide(&[charge("window", "ann", cost)]).unwrap().is_admitted() {
                log.0.push((now, u64::from(cost)));
            }
        }
        prop_assert!(log.most(LENGTH) <= 2 * u64::from(capacity));
    }

    #[test]
    fn a_fixed_window_admits_its_capacity_in_each(
        capacity in 1..20_u32,
        steps in proptest::collection::vec((0..500_u64, 1..8_u32), 1..80),
    ) {
        let (clock, limiter) = limiter(Limit::fixed(window(capacity, 1_000)));
        let mut admitted = std::collections::HashMap::<u64, u32>::new();
        for (pause, cost) in steps {
            clock.advance(Duration::from_millis(pause));
            let index = nanos(&clock) / (1_000 * MILLI);
            let sum = admitted.entry(index).or_default();
            let decision = limiter.decide(&[charge("window", "ann", cost)]).unwrap();
            prop_assert_eq!(decision.is_admitted(), *sum + cost <= capacity);
            if decision.is_admitted() {
                *sum += cost;
            }
        }
    }

    #[test]
    fn after_the_named_wait_every_algorithm_admits_and_not_before(
        which in 0..3_usize,
        capacity in 1..20_u32,
        steps in proptest::collection::vec((0..400_u64, 1..20_u32), 1..40),
    ) {
        let window = window(capacity, 777);
        let limit = [Limit::log, Limit::sliding, Limit::fixed][which](window);
        let (clock, limiter) = limiter(limit);
        for (pause, cost) in steps {
            clock.advance(Duration::from_millis(pause));
            let charges = [charge("window", "ann", cost)];
            if let Some(wait) = limiter.decide(&charges).unwrap().retry_after() {
                clock.advance(wait.saturating_sub(Duration::from_nanos(1)));
                prop_assert!(!peek(&limiter, &charges).is_admitted(), "earlier than {:?}", wait);
                clock.advance(Duration::from_nanos(1));
                prop_assert!(limiter.decide(&charges).unwrap().is_admitted(), "after {:?}", wait);
            }
        }
    }

    #[test]
    fn no_sequence_of_operations_lets_more_through_than_the_limit(
        capacity in 1..12_u32,
        steps in proptest::collection::vec((0..400_u64, 1..8_u32, 0..6_u8, 0..8_u32), 1..120),
    ) {
        const REFILL: u64 = 100;
        let clock = ManualClock::new();
        let quota = Quota::new(capacity, Duration::from_millis(REFILL)).unwrap();
        let limiter = Limiter::new(Arc::new(clock.clone()))
            .limit("bucket", quota)
            .limit("log", Limit::log(window(capacity, 1_000)));
        let mut kept = Log::default();
        let mut held = Vec::new();
        for (pause, cost, operation, actual) in steps {
            clock.advance(Duration::from_millis(pause));
            let charges = [charge("bucket", "ann", cost), charge("log", "ann", cost)];
            match operation {
                0 => drop(peek(&limiter, &charges)),
                1 => {
                    if limiter.decide(&charges).unwrap().is_admitted() {
                        kept.0.push((nanos(&clock), u64::from(cost)));
                    }
                }
                2 | 3 => {
                    if let (_, Some(reservation)) = reserve(&limiter, &charges) {
                        held.push((reservation, nanos(&clock), cost));
                    }
                }
                _ if held.is_empty() => {}
                4 => drop(held.swap_remove(actual as usize % held.len())),
                _ => {
                    let (reservation, at, cost) = held.swap_remove(actual as usize % held.len());
                    let used = actual.min(cost);
                    reservation.settle(used);
                    kept.0.push((at, u64::from(used)));
                }
            }
        }
        kept.0.extend(held.iter().map(|(_, at, cost)| (*at, u64::from(*cost))));
        kept.0.sort_unstable();
        prop_assert!(kept.most(1_000 * MILLI) <= u64::from(capacity));
        for (first, (begun, _)) in kept.0.iter().enumerate() {
            let mut sum = 0;
            for (at, cost) in &kept.0[first..] {
                sum += cost;
                let allowed = u64::from(capacity) * REFILL * MILLI + (at - begun);
                prop_assert!(sum * REFILL * MILLI <= allowed);
            }
        }
    }
}

#[test]
fn a_window_of_five_admits_five_and_again_when_they_have_left() {
    for limit in [Limit::log, Limit::fixed] {
        let (clock, limiter) = limiter(limit(window(5, 1_000)));
        let one = [charge("window", "ann", 1)];
        let admitted = || (0..10).filter(|_| limiter.decide(&one).unwrap().is_admitted()).count();
        assert_eq!(admitted(), 5);
        clock.advance(Duration::from_millis(999));
        assert_eq!(admitted(), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(admitted(), 5);
    }
}

#[test]
fn a_log_forgets_each_admission_exactly_when_it_is_as_old_as_the_window() {
    let (clock, limiter) = limiter(Limit::log(window(10, 2_000)));
    let one = [charge("window", "ann", 1)];
    let admitted = |most: u32| (0..most).filter(|_| limiter.decide(&one).unwrap().is_admitted());
    assert_eq!(admitted(5).count(), 5);
    clock.advance(Duration::from_secs(1));
    assert_eq!(admitted(5).count(), 5);
    let refused = limiter.decide(&one).unwrap();
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)), "when the oldest leave");
    assert_eq!(refused.reset, Duration::from_secs(2));
    clock.advance(Duration::from_nanos(999_999_999));
    assert_eq!(admitted(10).count(), 0);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(admitted(10).count(), 5);
}

#[test]
fn an_approximation_counts_half_of_a_window_that_is_half_gone() {
    let (clock, limiter) = limiter(Limit::sliding(window(100, 10_000)));
    let fifty = [charge("window", "ann", 50)];
    assert_eq!(limiter.decide(&fifty).unwrap().remaining, 50);
    clock.advance(Duration::from_secs(15));
    let decision = limiter.decide(&fifty).unwrap();
    assert_eq!((decision.remaining, decision.reset), (25, Duration::from_secs(15)));
}

/// How many of 20,000 arrivals at random, at twice the limit's rate, are decided other than by an
/// exact log that decides for itself, and how many the two admit.
fn compared(seed: u64) -> (u32, u32, u32) {
    let clock = ManualClock::new();
    let limiter = Limiter::new(Arc::new(clock.clone()))
        .limit("exact", Limit::log(window(100, 1_000)))
        .limit("near", Limit::sliding(window(100, 1_000)));
    let random = Random::seeded(seed);
    let (mut differ, mut exact, mut near) = (0, 0, 0);
    for _ in 0..20_000 {
        clock.advance(Duration::from_micros(random.below(10_000)));
        let says = |limit| limiter.decide(&[charge(limit, "ann", 1)]).unwrap().is_admitted();
        let (said, wanted) = (says("near"), says("exact"));
        differ += u32::from(said != wanted);
        exact += u32::from(wanted);
        near += u32::from(said);
    }
    (differ, exact, near)
}

#[test]
fn under_random_traffic_the_approximation_admits_as_many_as_the_exact_log() {
    for seed in 0..5 {
        let (differ, exact, near) = compared(seed);
        println!("seed {seed}: {differ} of 20000 decided otherwise, {near} admitted for {exact}");
        assert!(near.abs_diff(exact) * 100 <= exact * 3, "{near} admitted, {exact} exactly");
    }
}

#[test]
fn a_counted_window_can_be_paid_back_while_it_counts() {
    let (clock, limiter) = limiter(Limit::sliding(window(10, 1_000)));
    let all = [charge("window", "ann", 10)];
    let (_, held) = run(limiter.reserve(&all)).unwrap();
    clock.advance(Duration::from_secs(1));
    assert!(!peek(&limiter, &all).is_admitted(), "the window before counts whole");
    held.unwrap().settle(2);
    assert_eq!(peek(&limiter, &[charge("window", "ann", 8)]).remaining, 0);
    clock.advance(Duration::from_secs(5));
    assert!(limiter.decide(&all).unwrap().is_admitted());
}
