//! The limiter against a model, under contention and under a flood of keys.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock, ErrorKind,
    clock::Timestamp,
    limit::{Charge, RateLimiter, Verdict},
};
use infra_ratelimit::{Limit, Limiter, Quota, Window};
use infra_testkit::clock::ManualClock;
use proptest::prelude::*;
use support::{charge, run};

fn limiter() -> (ManualClock, Limiter) {
    let clock = ManualClock::new();
    let limiter = Limiter::new(Arc::new(clock.clone()))
        .limit("player", Quota::new(10, Duration::from_millis(100)).unwrap())
        .limit("room", Quota::new(4, Duration::from_millis(500)).unwrap());
    (clock, limiter)
}

/// A bucket as everybody pictures it: tokens that drip back, counted in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Model {
    capacity: u64,
    refill: u64,
    /// Nanoseconds of refill that the bucket lacks.
    owed: u64,
    at: u64,
}

impl Model {
    const fn new(capacity: u64, refill: u64) -> Self {
        Self { capacity, refill, owed: 0, at: 0 }
    }

    const fn drip(&mut self, now: u64) {
        self.owed = self.owed.saturating_sub(now - self.at);
        self.at = now;
    }

    const fn fits(&self, cost: u64) -> bool {
        self.owed + cost * self.refill <= self.capacity * self.refill
    }

    const fn pay(&mut self, cost: u64) {
        self.owed += cost * self.refill;
    }
}

proptest! {
    #[test]
    fn any_arrivals_are_decided_as_the_model_decides(
        steps in proptest::collection::vec((0..400_u64, 0..2_usize, 0..2_usize, 1..12_u32, 1..6_u32), 1..80),
    ) {
        let (clock, limiter) = limiter();
        let names = ["ann", "bob"];
        let mut models: HashMap<(&str, usize), Model> = HashMap::new();
        for (pause, player, room, cost, room_cost) in steps {
            clock.advance(Duration::from_millis(pause));
            let now = u64::try_from(clock.now().since_start().as_nanos()).unwrap();
            for who in 0..2 {
                models.entry(("player", who)).or_insert(Model::new(10, 100_000_000)).drip(now);
                models.entry(("room", who)).or_insert(Model::new(4, 500_000_000)).drip(now);
            }
            let fits = models[&("player", player)].fits(u64::from(cost))
                && models[&("room", room)].fits(u64::from(room_cost));
            let charges =
                [charge("player", names[player], cost), charge("room", names[room], room_cost)];
            let peeked = run(limiter.peek(&charges)).unwrap();
            let decision = run(limiter.acquire(&charges)).unwrap();
            prop_assert_eq!(peeked.verdict, decision.verdict);
            prop_assert_eq!(decision.is_admitted(), fits);
            if fits {
                models.get_mut(&("player", player)).unwrap().pay(u64::from(cost));
                models.get_mut(&("room", room)).unwrap().pay(u64::from(room_cost));
            }
            let is_never = cost > 10 || room_cost > 4;
            if decision.verdict == Verdict::Never {
                prop_assert!(is_never);
            }
        }
    }

    #[test]
    fn in_no_interval_more_is_admitted_than_the_burst_and_what_drips_meanwhile(
        capacity in 1..20_u32,
        refill in 1..300_u64,
        steps in proptest::collection::vec((0..500_u64, 1..4_u32, any::<u64>()), 1..60),
    ) {
        let clock = ManualClock::new();
        let quota = Quota::new(capacity, Duration::from_millis(refill)).unwrap();
        let limiter = Limiter::new(Arc::new(clock.clone())).limit("player", quota);
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (pause, cost, wall) in steps {
            clock.advance(Duration::from_millis(pause));
            // The wall clock may jump either way: it decides nothing.
            clock.skew(Timestamp::from_millis(wall));
            if run(limiter.acquire(&[charge("player", "ann", cost)])).unwrap().is_admitted() {
                let now = u64::try_from(clock.now().since_start().as_millis()).unwrap();
                admitted.push((now, u64::from(cost)));
            }
        }
        for (first, (begun, _)) in admitted.iter().enumerate() {
            let mut sum = 0;
            for (now, cost) in &admitted[first..] {
                sum += cost;
                prop_assert!(sum * refill <= u64::from(capacity) * refill + (now - begun));
            }
        }
    }

    #[test]
    fn after_the_named_wait_the_same_request_passes(
        costs in proptest::collection::vec(1..10_u32, 1..20),
    ) {
        let (clock, limiter) = limiter();
        for cost in costs {
            let charges = [charge("player", "ann", cost)];
            if let Some(pause) = run(limiter.acquire(&charges)).unwrap().retry_after() {
                clock.advance(pause.saturating_sub(Duration::from_nanos(1)));
                prop_assert!(!run(limiter.peek(&charges)).unwrap().is_admitted(), "no earlier");
                clock.advance(Duration::from_nanos(1));
                prop_assert!(run(limiter.acquire(&charges)).unwrap().is_admitted());
            }
        }
    }

    #[test]
    fn a_dropped_reservation_gives_back_exactly_what_it_took(cost in 1..10_u32, actual in 0..12_u32) {
        let (_clock, limiter) = limiter();
        let charges = [charge("player", "ann", cost)];
        let left = || run(limiter.peek(&[charge("player", "ann", 1)])).unwrap().remaining;
        let full = left();
        drop(run(limiter.reserve(&charges)).unwrap().1.unwrap());
        prop_assert_eq!(left(), full);
        run(limiter.reserve(&charges)).unwrap().1.unwrap().settle(actual);
        // Once the bucket is empty, a peek shows what is left without one more.
        prop_assert_eq!(left() + actual.min(cost), full.max(actual.min(cost)));
    }
}

#[test]
fn a_bucket_is_counted_to_the_token_and_refills_to_the_millisecond() {
    let clock = ManualClock::new();
    let limiter = Limiter::new(Arc::new(clock.clone()))
        .limit("player", Quota::new(10, Duration::from_secs(1)).unwrap());
    let one = [charge("player", "ann", 1)];
    assert_eq!(run(limiter.peek(&one)).unwrap().remaining, 9, "a peek shows what would remain");
    assert_eq!(run(limiter.peek(&one)).unwrap().remaining, 9, "and takes nothing");
    for left in (0..10).rev() {
        let decision = run(limiter.acquire(&one)).unwrap();
        assert!(decision.is_admitted());
        assert_eq!(decision.remaining, left);
    }
    let refused = run(limiter.acquire(&one)).unwrap();
    assert_eq!((refused.remaining, refused.retry_after()), (0, Some(Duration::from_secs(1))));
    clock.advance(Duration::from_millis(2_999));
    let taken = (0..5).filter(|_| run(limiter.acquire(&one)).unwrap().is_admitted()).count();
    assert_eq!(taken, 2, "the third is not whole yet");
    clock.advance(Duration::from_millis(1));
    assert!(run(limiter.acquire(&one)).unwrap().is_admitted());
}

#[test]
fn a_refusal_of_one_limit_costs_the_others_nothing() {
    let (_clock, limiter) = limiter();
    let both = [charge("player", "ann", 1), charge("room", "7f3a", 4)];
    assert!(run(limiter.acquire(&both)).unwrap().is_admitted());
    let refused = run(limiter.acquire(&both)).unwrap();
    assert_eq!((refused.limit, refused.remaining, refused.capacity), ("room", 0, 4));
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(2)));
    let alone = run(limiter.acquire(&[charge("player", "ann", 9)])).unwrap();
    assert!(alone.is_admitted() && alone.remaining == 0);
}

#[test]
fn a_cost_beyond_the_capacity_is_never_admitted_and_bad_requests_are_errors() {
    let (_clock, limiter) = limiter();
    let never = run(limiter.acquire(&[charge("player", "ann", 11)])).unwrap();
    assert_eq!(never.verdict, Verdict::Never);
    let twice = [charge("player", "ann", 1), charge("player", "ann", 1)];
    for (charges, what) in [
        (&[][..], "no charge"),
        (&[charge("nobody", "x", 1)][..], "limit nobody is not declared"),
        (&twice[..], "charged twice"),
    ] {
        let error = run(limiter.acquire(charges)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Invalid);
        assert!(error.to_string().contains(what), "{error}");
    }
    assert!(run(limiter.reserve(&[charge("player", "ann", 11)])).unwrap().1.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_together_get_exactly_the_limit() {
    let quota = Quota::new(1_000, Duration::from_secs(1)).unwrap();
    let limiter = Limiter::new(Arc::new(ManualClock::new())).limit("player", quota);
    let admitted = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (limiter, admitted) = (limiter.clone(), Arc::clone(&admitted));
            tokio::spawn(async move {
                for _ in 0..1_000 {
                    let charges = [Charge::one("player", format!("key {}", task % 4))];
                    if limiter.acquire(&charges).await.unwrap().is_admitted() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(admitted.load(Ordering::Relaxed), 4_000);
}

#[test]
fn a_bucket_and_a_window_bind_each_at_its_own_count() {
    let clock = ManualClock::new();
    let limiter = Limiter::new(Arc::new(clock.clone()))
        .limit("bucket", Quota::per_second(10).unwrap())
        .limit("window", Limit::log(Window::per_minute(100).unwrap()));
    let both = [charge("bucket", "ann", 1), charge("window", "ann", 1)];
    let burst = || (0..100).take_while(|_| run(limiter.acquire(&both)).unwrap().is_admitted());
    for second in 0..10 {
        assert_eq!(burst().count(), 10, "the bucket binds in second {second}");
        let longest = if second < 9 { "bucket" } else { "window" };
        assert_eq!(run(limiter.acquire(&both)).unwrap().limit, longest);
        clock.advance(Duration::from_secs(1));
    }
    let refused = run(limiter.acquire(&both)).unwrap();
    assert_eq!((refused.limit, refused.remaining), ("window", 0), "then the minute binds");
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(50)), "until its oldest ends");
    let bucket = run(limiter.acquire(&[charge("bucket", "ann", 10)])).unwrap();
    assert!(bucket.is_admitted(), "which cost the bucket nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_a_thousand_callers_has_a_key_and_ten_thousand_share_one() {
    let quota = Quota::new(10, Duration::from_secs(1)).unwrap();
    let limiter = Limiter::new(Arc::new(ManualClock::new()))
        .limit("player", quota)
        .limit("hot", Quota::new(1_000, Duration::from_secs(1)).unwrap());
    let tasks: Vec<_> = (0..10_000)
        .map(|task| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                let own = [Charge::one("player", format!("player {}", task % 1_000))];
                let hot = [Charge::one("hot", "all")];
                let own = limiter.acquire(&own).await.unwrap().is_admitted();
                (own, limiter.acquire(&hot).await.unwrap().is_admitted())
            })
        })
        .collect();
    let (mut own, mut hot) = (0, 0);
    for task in tasks {
        let admitted = task.await.unwrap();
        own += u32::from(admitted.0);
        hot += u32::from(admitted.1);
    }
    assert_eq!((own, hot), (10_000, 1_000));
}
