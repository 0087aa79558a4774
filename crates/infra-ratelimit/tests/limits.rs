//! What a limit does beside counting: permits, blocks, trials, marks, changes, bounds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock as _, ErrorKind, SystemClock,
    limit::{Charge, Decision, RateLimiter as _, Verdict},
    random::Random,
};
use infra_ratelimit::{Limit, Limiter, Quota, Sign, Watch, Window, acquire_within};
use infra_testkit::clock::ManualClock;
use parking_lot::Mutex;
use support::{charge, peek, reserve};

const SECOND: Duration = Duration::from_secs(1);

fn limiter(limit: impl Into<Limit>) -> (ManualClock, Limiter) {
    let clock = ManualClock::new();
    let limiter = Limiter::new(Arc::new(clock.clone())).limit("one", limit);
    (clock, limiter)
}

fn bucket(capacity: u32) -> Limit {
    Limit::bucket(Quota::new(capacity, SECOND).unwrap())
}

fn take(limiter: &Limiter, cost: u32) -> Decision {
    limiter.decide(&[charge("one", "ann", cost)]).unwrap()
}

/// What is left for ann.
fn left(limiter: &Limiter) -> u32 {
    let decision = peek(limiter, &[charge("one", "ann", 1)]);
    decision.remaining + u32::from(decision.is_admitted())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn permits_are_never_more_than_there_are_and_come_back_whatever_way() {
    let (_clock, limiter) = limiter(Limit::concurrent(10).unwrap());
    let (out, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let tasks: Vec<_> = (0..200)
        .map(|task| {
            let (limiter, out, most) = (limiter.clone(), Arc::clone(&out), Arc::clone(&most));
            tokio::spawn(async move {
                let (_, permit) = limiter.reserve(&[Charge::one("one", "ann")]).await.unwrap();
                let Some(permit) = permit else { return };
                most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                out.fetch_sub(1, Ordering::SeqCst);
                match task % 4 {
                    0 => permit.keep(),
                    1 => permit.settle(1),
                    2 => panic!("a task that fails lets its permit go"),
                    _ => drop(permit),
                }
            })
        })
        .collect();
    for task in tasks {
        drop(task.await);
    }
    assert!((1..=10).contains(&most.load(Ordering::SeqCst)), "{most:?} held at once");
    assert_eq!(left(&limiter), 10, "all are back");
    let error = limiter.decide(&[charge("one", "ann", 1)]).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Invalid, "a permit is reserved, not acquired: {error}");
}

#[test]
fn a_permit_beside_a_bucket_is_held_and_the_bucket_is_paid() {
    let (_clock, limiter) = limiter(bucket(5));
    let limiter = limiter.limit("permits", Limit::concurrent(1).unwrap());
    let both = [charge("one", "ann", 2), charge("permits", "ann", 1)];
    let (_, first) = reserve(&limiter, &both);
    let (refused, none) = reserve(&limiter, &both);
    assert_eq!((refused.limit, none.is_none(), left(&limiter)), ("permits", true, 3));
    first.unwrap().keep();
    assert_eq!(left(&limiter), 3, "what was kept is paid");
    assert!(reserve(&limiter, &both).1.is_some(), "and the permit is back");
}

#[test]
fn who_meets_a_limit_that_blocks_stays_out_for_its_time_and_no_longer() {
    let limit = Limit::fixed(Window::new(2, SECOND).unwrap()).block(Duration::from_secs(30));
    let (clock, limiter) = limiter(limit);
    assert!(take(&limiter, 1).is_admitted() && take(&limiter, 1).is_admitted());
    for gone in [0, 10, 29] {
        clock.advance(Duration::from_secs(gone).saturating_sub(clock_gone(&clock)));
        let wait = take(&limiter, 1).retry_after();
        assert_eq!(wait, Some(Duration::from_secs(30 - gone)), "further tries do not add to it");
    }
    assert!(limiter.decide(&[charge("one", "bob", 1)]).unwrap().is_admitted());
    clock.advance(SECOND);
    assert!(take(&limiter, 1).is_admitted());
    take(&limiter, 1);
    assert!(!take(&limiter, 1).is_admitted());
    limiter.reset("one", "ann").unwrap();
    assert!(take(&limiter, 2).is_admitted(), "a reset lifts the block");
}

fn clock_gone(clock: &ManualClock) -> Duration {
    clock.now().since_start()
}

#[test]
fn a_refusal_by_one_limit_blocks_nobody_under_another() {
    let window = Window::new(2, SECOND).unwrap();
    let (_clock, limiter) = limiter(Limit::fixed(window).block(Duration::from_mins(1)));
    let limiter = limiter.limit("other", bucket(1));
    let both = [charge("one", "ann", 1), charge("other", "ann", 1)];
    assert!(limiter.decide(&both).unwrap().is_admitted());
    assert_eq!(limiter.decide(&both).unwrap().limit, "other");
    assert!(take(&limiter, 1).is_admitted());
    assert_eq!(peek(&limiter, &both).limit, "one", "the longest wait answers, as acquire would");
    assert_eq!(peek(&limiter, &both).retry_after(), Some(Duration::from_mins(1)));
    limiter.reset("one", "ann").unwrap();
    assert!(take(&limiter, 1).is_admitted(), "a peek blocks nobody");
}

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(Sign, String, u32)>>);

impl Watch for Notes {
    fn saw(&self, sign: Sign, charge: &Charge, decision: &Decision) {
        self.0.lock().push((sign, charge.key.clone(), decision.remaining));
    }
}

#[test]
fn near_limits_refusals_and_trials_are_told_once_each() {
    let notes = Arc::new(Notes::default());
    let (clock, limiter) = limiter(bucket(10).near(70));
    let limiter = limiter.limit("trial", bucket(2).shadow()).watch(Arc::<Notes>::clone(&notes));
    let told = || std::mem::take(&mut *notes.0.lock());
    let near = |left| vec![(Sign::Near, "ann".to_owned(), left)];
    for left in (4..10).rev() {
        assert_eq!((take(&limiter, 1).remaining, told()), (left, vec![]));
    }
    take(&limiter, 1);
    assert_eq!(told(), near(3));
    take(&limiter, 1);
    assert_eq!(told(), vec![], "once, until it has been away from there");
    clock.advance(SECOND * 4);
    take(&limiter, 2);
    assert_eq!(told(), vec![], "it is not there again yet");
    take(&limiter, 2);
    assert_eq!(told(), near(2));
    assert!(!take(&limiter, 9).is_admitted());
    assert_eq!(told(), vec![(Sign::Refused, "ann".to_owned(), 2)]);
    for admitted in 0..4 {
        let decision = limiter.decide(&[charge("trial", "bob", 1)]).unwrap();
        assert!(decision.is_admitted(), "a limit on trial refuses nothing");
        let shadowed = told().into_iter().any(|(sign, ..)| sign == Sign::Shadowed);
        assert_eq!(shadowed, 2 <= admitted);
    }
    let both = [charge("trial", "bob", 1), charge("one", "cid", 1)];
    assert_eq!(limiter.decide(&both).unwrap().limit, "one", "nor does it answer");
}

#[test]
fn a_limit_that_changes_keeps_what_was_spent_and_makes_no_burst() {
    let (clock, limiter) = limiter(bucket(10));
    take(&limiter, 10);
    limiter.change("one", bucket(15)).unwrap();
    assert_eq!(left(&limiter), 5, "the difference");
    limiter.change("one", bucket(4)).unwrap();
    assert_eq!(left(&limiter), 0);
    clock.advance(SECOND * 4);
    assert_eq!(left(&limiter), 4, "no debt beyond the capacity");
    take(&limiter, 4);
    clock.advance(SECOND / 2);
    let faster = Quota::new(4, SECOND / 10).unwrap();
    limiter.change("one", faster).unwrap();
    assert_eq!(take(&limiter, 1).retry_after(), Some(SECOND / 20), "half a token was back");
    let window = Window::new(6, SECOND).unwrap();
    for limit in [Limit::log(window), Limit::sliding(window), Limit::fixed(window)] {
        limiter.change("one", limit).unwrap();
        assert_eq!(left(&limiter), 2, "{limit:?}");
        limiter.change("one", limit.near(90)).unwrap();
        assert_eq!(left(&limiter), 2, "the same again");
    }
    limiter.change("one", bucket(6)).unwrap();
    assert_eq!(left(&limiter), 2);
    assert!(limiter.change("two", bucket(1)).is_err());
}

#[test]
fn a_key_can_have_a_limit_of_its_own() {
    let (clock, limiter) = limiter(bucket(3));
    take(&limiter, 2);
    limiter.assign("one", "ann", bucket(100)).unwrap();
    assert_eq!(left(&limiter), 98, "what was spent stays spent");
    assert_eq!(take(&limiter, 50).remaining, 48);
    let (_, held) = reserve(&limiter, &[charge("one", "ann", 40)]);
    assert_eq!(left(&limiter), 8);
    drop(held);
    assert_eq!(left(&limiter), 48);
    assert_eq!(limiter.decide(&[charge("one", "bob", 1)]).unwrap().remaining, 2);
    limiter.unassign("one", "ann").unwrap();
    assert_eq!((left(&limiter), limiter.unassign("one", "bob").is_ok()), (0, true));
    clock.advance(SECOND * 2);
    assert_eq!(left(&limiter), 2);
    limiter.assign("one", "ann", Limit::log(Window::per_second(7).unwrap())).unwrap();
    assert_eq!(left(&limiter), 6);
    limiter.reset("one", "ann").unwrap();
    assert_eq!(left(&limiter), 7);
    for result in [
        limiter.assign("two", "ann", bucket(1)),
        limiter.unassign("two", "ann"),
        limiter.reset("two", "ann"),
    ] {
        assert_eq!(result.unwrap_err().kind(), &ErrorKind::Invalid);
    }
}

#[test]
fn a_key_can_be_told_apart_only_so_often() {
    let (_clock, limiter) = limiter(bucket(3));
    for key in 0..1 << 16 {
        limiter.assign("one", &key.to_string(), bucket(9)).unwrap();
    }
    let error = limiter.assign("one", "one more", bucket(9)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Overloaded);
    limiter.assign("one", "7", bucket(8)).unwrap();
}

#[test]
fn a_decision_takes_a_bounded_number_of_charges() {
    let (_clock, limiter) = limiter(bucket(3));
    let charges: Vec<_> = (0..17).map(|key| charge("one", &key.to_string(), 1)).collect();
    assert!(limiter.decide(&charges[..16]).unwrap().is_admitted());
    let error = limiter.decide(&charges).unwrap_err();
    assert!(error.to_string().contains("17 charges"), "{error}");
}

/// Asks for a new key of `network` until one is refused.
fn flood(limiter: &Limiter, network: impl Fn(u32) -> String, most: u32) -> u32 {
    let admitted = |number: &u32| {
        limiter.decide(&[Charge::one("one", network(*number))]).unwrap().is_admitted()
    };
    (0..most).filter(admitted).count().try_into().unwrap()
}

/// A limiter whose keys are full: each is counted and none is idle.
fn full(limit: Limit, cost: u32) -> (ManualClock, Limiter) {
    let (clock, limiter) = limiter(limit.budget(64 << 10));
    for number in 0..2_000 {
        limiter.decide(&[charge("one", &format!("old {number}"), cost)]).unwrap();
    }
    (clock, limiter)
}

#[test]
fn a_flood_of_addresses_is_counted_by_network_and_a_newcomer_is_admitted() {
    let (clock, limiter) = full(bucket(2), 1);
    assert!(limiter.decide(&[charge("one", "old 7", 1)]).unwrap().is_admitted());
    assert!(!limiter.decide(&[charge("one", "old 7", 1)]).unwrap().is_admitted());
    assert_eq!(flood(&limiter, |number| format!("192.0.2.{}", number % 256), 10_000), 2);
    assert_eq!(flood(&limiter, |number| format!("2001:db8::{number:x}"), 10_000), 2);
    assert!(limiter.decide(&[charge("one", "198.51.100.1", 2)]).unwrap().is_admitted());
    assert!(limiter.decide(&[charge("one", "2001:db8:7:1::/64", 2)]).unwrap().is_admitted());
    clock.advance(SECOND * 10);
    // The hand has to come by the slots that are idle now before they are free.
    flood(&limiter, |number| format!("old {}", number % 50), 500);
    assert_eq!(flood(&limiter, |number| format!("192.0.2.{number}"), 50), 50, "each its own again");
}

#[test]
fn a_flood_of_networks_is_counted_together_at_last() {
    let (_clock, limiter) = full(bucket(2), 1);
    let admitted =
        flood(&limiter, |number| format!("10.{}.{}.1", number / 256, number % 256), 20_000);
    assert!((100..2_000).contains(&admitted), "{admitted} of 20,000 networks had a budget");
    let (_clock, limiter) = full(bucket(2), 1);
    let one_site = |number| format!("2001:db8:0:{number:x}::1");
    let admitted = flood(&limiter, one_site, 20_000);
    assert!((50..1_000).contains(&admitted), "{admitted} of one site's networks had a budget");
    let again = flood(&limiter, one_site, 20_000);
    assert_eq!(again, admitted - 2, "each has as much again; the site, for all others, has not");
    assert_eq!(flood(&limiter, one_site, 20_000), 0);
}

#[test]
fn a_key_that_gets_a_slot_of_its_own_takes_what_was_counted_for_it_along() {
    for limit in [bucket(3), Limit::log(Window::new(3, SECOND * 3).unwrap())] {
        let (clock, limiter) = full(limit, 3);
        let attacker = [charge("one", "192.0.2.1", 1)];
        clock.advance(Duration::from_millis(2_990));
        for _ in 0..3 {
            assert!(limiter.decide(&attacker).unwrap().is_admitted(), "counted by its network");
        }
        clock.advance(Duration::from_millis(20));
        flood(&limiter, |number| format!("old {}", number % 50), 500);
        let refused = limiter.decide(&attacker).unwrap();
        assert!(!refused.is_admitted(), "there is room, and what it spent is known: {refused:?}");
        let neighbour = limiter.decide(&[charge("one", "192.0.2.2", 1)]).unwrap();
        assert!(!neighbour.is_admitted(), "the network is still empty");
        assert!(limiter.decide(&[charge("one", "198.51.100.1", 3)]).unwrap().is_admitted());
        clock.advance(SECOND * 3);
        assert!(limiter.decide(&attacker).unwrap().is_admitted());
    }
}

#[test]
fn neighbours_in_one_request_pay_together() {
    let (_clock, limiter) = full(bucket(3), 1);
    let both = [charge("one", "192.0.2.1", 2), charge("one", "192.0.2.2", 2)];
    assert!(!limiter.decide(&both).unwrap().is_admitted());
    let (_, held) = reserve(&limiter, &[charge("one", "192.0.2.1", 3)]);
    assert!(!limiter.decide(&[charge("one", "192.0.2.2", 1)]).unwrap().is_admitted());
    drop(held);
    assert!(limiter.decide(&[charge("one", "192.0.2.2", 3)]).unwrap().is_admitted());
    assert!(limiter.decide(&[charge("one", "198.51.100.1", 3)]).unwrap().is_admitted());
}

#[tokio::test(start_paused = true)]
async fn who_has_the_patience_waits_with_jitter_and_others_are_told_at_once() {
    let clock = SystemClock::new();
    let limiter = Limiter::new(Arc::new(clock)).limit("one", bucket(1));
    let random = Random::seeded(3);
    let one = [charge("one", "ann", 1)];
    let wait = |patience| acquire_within(&limiter, &one, patience, (&clock, &random));
    assert!(wait(Duration::ZERO).await.unwrap().is_admitted());
    let before = clock.now();
    let refused = wait(SECOND / 2).await.unwrap();
    assert_eq!((refused.retry_after(), clock.now()), (Some(SECOND), before), "it waits in vain");
    assert!(wait(SECOND * 3).await.unwrap().is_admitted());
    let waited = clock.now().since(before);
    assert!(SECOND < waited && waited <= SECOND * 5 / 4, "{waited:?}");
    let two = [charge("one", "ann", 2)];
    let never = acquire_within(&limiter, &two, SECOND, (&clock, &random));
    assert_eq!(never.await.unwrap().verdict, Verdict::Never);
}
