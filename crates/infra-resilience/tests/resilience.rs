//! Timeout, retry and breaker around real futures, on paused time and a manual clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock, Error, ErrorKind, Result, SystemClock,
    backoff::Backoff,
    budget::{CallBudget, Deadline},
    context::Context,
    random::Random,
};
use infra_resilience::{Breaker, Retry, State, Timeout, Trip};
use infra_testkit::clock::ManualClock;
use tokio::task::JoinSet;

const SECOND: Duration = Duration::from_secs(1);

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().unwrap().kind().clone()
}

fn fail<T>(kind: ErrorKind) -> Result<T> {
    Err(Error::new(kind, "try"))
}

fn retry(attempts: u32, clock: &Arc<dyn Clock>) -> Retry {
    let backoff = Backoff::fixed(Duration::from_millis(100));
    Retry::new(attempts, backoff, Arc::clone(clock)).random(Arc::new(Random::seeded(7)))
}

/// Counts the attempts of a call that always fails like this.
async fn attempts(retry: &Retry, failure: ErrorKind) -> (u32, ErrorKind) {
    let count = AtomicU32::new(0);
    let result = retry
        .run(|| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(fail::<()>(failure.clone()))
        })
        .await;
    (count.load(Ordering::SeqCst), kind(result))
}

#[tokio::test(start_paused = true)]
async fn a_call_in_time_is_itself_and_one_that_is_late_is_given_up() {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let timeout = Timeout::new(SECOND, Arc::clone(&clock));
    assert_eq!(timeout.run("ask", async { Ok(7) }).await.unwrap(), 7);
    assert_eq!(
        kind(timeout.run("ask", async { fail::<()>(ErrorKind::Denied) }).await),
        ErrorKind::Denied
    );
    let never = || std::future::pending::<Result<()>>();
    let begun = clock.now();
    assert_eq!(kind(timeout.run("ask", never()).await), ErrorKind::Timeout);
    assert_eq!(clock.now().since(begun), SECOND);
    let write = Timeout::new(SECOND, Arc::clone(&clock)).of_writes();
    assert_eq!(kind(write.run("write", never()).await), ErrorKind::Indeterminate);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_only_shrinks_on_its_way_inward() {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let outer = Timeout::new(SECOND, Arc::clone(&clock));
    let inner = Timeout::new(SECOND * 60, Arc::clone(&clock));
    let never = std::future::pending::<Result<()>>();
    let begun = clock.now();
    let result = outer.run("outer", inner.run("inner", never)).await;
    assert_eq!(kind(result), ErrorKind::Timeout);
    assert_eq!(clock.now().since(begun), SECOND);
    // What has no time left is not begun, not even a write, so its fate is known.
    let past = Context::default().deadline(Deadline::after(clock.now(), Duration::ZERO));
    let write = Timeout::new(SECOND, clock).of_writes();
    let result = past.scope(write.run("write", async { panic!("it was begun") })).await;
    assert_eq!(kind::<()>(result), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn only_transient_failures_are_tried_again() {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let retry = retry(4, &clock);
    for failure in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Overloaded] {
        assert_eq!(attempts(&retry, failure.clone()).await, (4, failure));
    }
    for failure in
        [ErrorKind::Indeterminate, ErrorKind::Invalid, ErrorKind::Denied, ErrorKind::Poisoned]
    {
        assert_eq!(attempts(&retry, failure.clone()).await, (1, failure));
    }
    let keyed = AtomicU32::new(0);
    let result: Result<()> = retry
        .run(|| {
            keyed.fetch_add(1, Ordering::SeqCst);
            async { Err(Error::new(ErrorKind::Indeterminate, "write").idempotent()) }
        })
        .await;
    assert!(result.is_err());
    assert_eq!(keyed.load(Ordering::SeqCst), 4, "a write with an idempotency key may be repeated");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_recovers_is_answered() {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let count = AtomicU32::new(0);
    let answer = retry(5, &clock)
        .run(|| {
            let attempt = count.fetch_add(1, Ordering::SeqCst) + 1;
            std::future::ready(if attempt < 3 { fail(ErrorKind::Unavailable) } else { Ok(attempt) })
        })
        .await;
    assert_eq!(answer.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_named_time_is_waited_for_and_a_deadline_is_never_slept_over() {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let retry_after = SECOND * 3;
    let throttled = ErrorKind::Throttled { retry_after };
    let begun = clock.now();
    assert_eq!(attempts(&retry(2, &clock), throttled.clone()).await.0, 2);
    assert_eq!(clock.now().since(begun), retry_after);
    let begun = clock.now();
    let soon = Context::default().deadline(Deadline::after(begun, SECOND * 2));
    assert_eq!(soon.scope(attempts(&retry(2, &clock), throttled.clone())).await, (1, throttled));
    assert_eq!(clock.now(), begun, "it does not wait for what would come too late");
}

#[tokio::test(start_paused = true)]
async fn retries_around_retries_share_one_budget() {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let budget = CallBudget::new(5);
    let count = AtomicU32::new(0);
    let inner = retry(10, &clock);
    let outer = retry(10, &clock);
    let call = || {
        inner.run(|| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(fail::<()>(ErrorKind::Unavailable))
        })
    };
    let result = Context::default().budget(budget.clone()).scope(outer.run(call)).await;
    assert_eq!(kind(result), ErrorKind::Unavailable);
    assert_eq!(
        (count.load(Ordering::SeqCst), budget.left()),
        (6, 0),
        "one first attempt and five extra"
    );
}

fn breaker(clock: &ManualClock) -> Breaker {
    let trip = Trip { window: 10, least: 4, probes: 2, ..Trip::default() };
    Breaker::new(trip, Arc::new(clock.clone()))
}

#[tokio::test]
async fn an_open_breaker_calls_nothing_and_closes_after_its_probes() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    for _ in 0..4 {
        assert!(breaker.run("ask", async { fail::<()>(ErrorKind::Unavailable) }).await.is_err());
    }
    assert_eq!(breaker.state(), State::Open);
    let refused = breaker.run("ask", async { panic!("it was called") }).await;
    let refused: Error = Result::<()>::err(refused).unwrap();
    assert_eq!(refused.to_string(), "ask: unavailable: the circuit is open for 10000 ms more");
    clock.advance(Trip::default().open);
    assert_eq!(breaker.state(), State::HalfOpen);
    let (one, two) = (breaker.admit("ask").unwrap(), breaker.admit("ask").unwrap());
    let third = breaker.admit("ask").map(drop).unwrap_err();
    assert!(third.to_string().contains("all its probes are running"), "{third}");
    one.success();
    two.success();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn refusals_are_answers_and_open_nothing() {
    let breaker = breaker(&ManualClock::new());
    let retry_after = SECOND;
    for refusal in [
        ErrorKind::NotFound,
        ErrorKind::Invalid,
        ErrorKind::Denied,
        ErrorKind::Throttled { retry_after },
        ErrorKind::Unsupported,
    ] {
        for _ in 0..10 {
            assert!(breaker.run("ask", async { fail::<()>(refusal.clone()) }).await.is_err());
        }
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_tasks_only_the_probes_get_through_and_dropped_ones_give_their_place_back() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    for _ in 0..4 {
        breaker.admit("ask").unwrap().failure();
    }
    for _ in 0..50 {
        clock.advance(SECOND * 10);
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let breaker = breaker.clone();
            tasks.spawn(async move { breaker.admit("ask").ok() });
        }
        let permits: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(permits.len(), 2, "as many as there are probes");
        // The calls were cancelled: nothing is known, and others may probe.
        drop(permits);
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    let abandoned = breaker.run("ask", std::future::pending::<Result<()>>());
    assert!(tokio::time::timeout(Duration::from_millis(1), abandoned).await.is_err());
    let both = [breaker.admit("ask"), breaker.admit("ask")];
    assert!(both.iter().all(Result::is_ok), "an abandoned call holds no place");
}
