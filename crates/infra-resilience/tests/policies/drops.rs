//! Each policy, its future dropped at every await: nothing of the call lives on, and what the policy
//! gives out is all there afterwards.

use std::{
    cell::Cell,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context as Task, Poll, Waker},
};

use infra_core::{
    ErrorKind, Result,
    backoff::{Backoff, Jitter},
};
use infra_resilience::{
    Breaker, Bulkhead, Fallback, Hedge, Keyed, Pipeline, Policy as _, Retry, RetryBudget, Shedder,
    Timeout, breaker,
    bulkhead::{self, PerKey},
    idempotent, shed,
};

use crate::{MILLI, SECOND, clock, fail, model::Running};

/// Makes a future again and again and drops it a millisecond later each time, until it ends; after
/// each drop `check` looks at what is left. Returns after how many polls it ended.
async fn at_every_await<T, F: Future<Output = T>>(
    make: impl Fn() -> F,
    check: impl Fn(u32),
) -> u32 {
    for polls in 0..1_000 {
        let has_ended = {
            let mut future = pin!(make());
            let mut task = Task::from_waker(Waker::noop());
            let mut has_ended = false;
            for _ in 0..polls {
                if let Poll::Ready(_end) = future.as_mut().poll(&mut task) {
                    has_ended = true;
                    break;
                }
                tokio::time::advance(MILLI).await;
            }
            has_ended
        };
        check(polls);
        if has_ended {
            return polls;
        }
    }
    panic!("it does not end");
}

/// A call of three milliseconds that succeeds or fails.
async fn work(running: &Running, is_good: bool) -> Result<()> {
    let _running = running.enter();
    tokio::time::sleep(MILLI * 3).await;
    if is_good { Ok(()) } else { fail(ErrorKind::Unavailable) }
}

#[tokio::test(start_paused = true)]
async fn a_retry_leaves_no_attempt_and_takes_no_more_than_its_budget() {
    let clock = clock();
    let budget = RetryBudget::new(Arc::clone(&clock)).share(0.0).trickle(0).cap(1_000);
    let running = Running::default();
    let retry = Retry::new(4, Backoff::fixed(MILLI * 2).jitter(Jitter::None), Arc::clone(&clock));
    let polls = at_every_await(
        || retry.run("ask", idempotent(|| work(&running, false))),
        |polls| assert_eq!(running.count(), 0, "after {polls} polls"),
    )
    .await;
    // Four attempts of three and three pauses of two milliseconds, by a timer that rounds up.
    assert!((18..=30).contains(&polls), "{polls}");
    let poor = retry.budget(budget.clone());
    at_every_await(|| poor.run("ask", idempotent(|| work(&running, false))), |_| ()).await;
    assert_eq!((running.count(), budget.saved()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_leaves_neither_attempt() {
    let (clock, running) = (clock(), Running::default());
    let hedge = Hedge::new(0.9, MILLI..=MILLI, clock);
    let most = AtomicU32::new(0);
    let both = || async {
        let _running = running.enter();
        most.fetch_max(running.count(), SeqCst);
        tokio::time::sleep(MILLI * 3).await;
        Ok(())
    };
    let polls = at_every_await(
        || hedge.run("ask", idempotent(both)),
        |polls| assert_eq!(running.count(), 0, "after {polls} polls"),
    )
    .await;
    assert!(3 <= polls, "{polls}");
    assert_eq!(most.load(SeqCst), 2, "both ran");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_leaves_no_call() {
    let (clock, running) = (clock(), Running::default());
    for patience in [MILLI * 2, SECOND] {
        let timeout = Timeout::new(patience, Arc::clone(&clock));
        at_every_await(
            || timeout.run("ask", idempotent(|| work(&running, true))),
            |polls| assert_eq!(running.count(), 0, "after {polls} polls"),
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_leaves_neither_the_call_nor_what_it_does_instead() {
    let running = Arc::new(Running::default());
    let instead = Arc::clone(&running);
    let fallback = Fallback::new(move |_| {
        let instead = Arc::clone(&instead);
        async move { work(&instead, true).await }
    });
    let polls = at_every_await(
        || fallback.run("ask", idempotent(|| work(&running, false))),
        |polls| assert_eq!(running.count(), 0, "after {polls} polls"),
    )
    .await;
    assert!(6 <= polls, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_gives_back_the_place_and_the_one_in_the_line() {
    let (clock, running) = (clock(), Running::default());
    let bulkhead = Bulkhead::new(bulkhead::Options::new(1).queue(1), clock);
    let is_taken = Cell::new(false);
    for taken in [false, true] {
        is_taken.set(taken);
        // The one place is taken for two milliseconds, so that the call waits for it.
        let wait_and_run = || async {
            let held = if is_taken.get() { Some(bulkhead.enter("hold").await) } else { None };
            let free_it = async {
                if held.is_some() {
                    tokio::time::sleep(MILLI * 2).await;
                }
                drop(held);
            };
            tokio::join!(bulkhead.run("ask", idempotent(|| work(&running, true))), free_it).0
        };
        at_every_await(wait_and_run, |polls| {
            let stats = bulkhead.stats();
            let left = (running.count(), stats.running, stats.waiting);
            assert_eq!(left, (0, 0, 0), "after {polls} polls");
        })
        .await;
    }
    assert_eq!(bulkhead.stats().refused, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shedder_gives_back_the_permit_and_the_one_in_the_line() {
    let (clock, running) = (clock(), Running::default());
    let shedder = Shedder::new(shed::Options::new(shed::Fixed(1)).queue(1, SECOND), clock);
    let wait_and_run = || async {
        let held = shedder.enter("hold").await;
        let free_it = async {
            tokio::time::sleep(MILLI * 2).await;
            drop(held);
        };
        tokio::join!(shedder.run("ask", idempotent(|| work(&running, true))), free_it).0
    };
    at_every_await(wait_and_run, |polls| {
        let stats = shedder.stats();
        let left = (running.count(), stats.running, stats.waiting);
        assert_eq!(left, (0, 0, 0), "after {polls} polls");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_registry_holds_is_idle_again_and_can_be_dropped() {
    let (clock, running) = (clock(), Running::default());
    let make = move |_: &u32| Bulkhead::new(bulkhead::Options::new(1), Arc::clone(&clock));
    let keyed = Keyed::new(1, make);
    let call = || async {
        let bulkhead = keyed.of(&1)?;
        bulkhead.run("ask", idempotent(|| work(&running, true))).await
    };
    at_every_await(call, |polls| {
        assert_eq!(running.count(), 0, "after {polls} polls");
        assert!(keyed.of(&(polls + 2)).is_ok(), "the one place is free for another key");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn bulkheads_per_key_give_back_the_place_and_the_one_in_the_line() {
    let (clock, running) = (clock(), Running::default());
    let rooms: PerKey<u32> = PerKey::bulkheads(2, bulkhead::Options::new(1).queue(1), clock);
    let wait_and_run = || async {
        let held = rooms.enter(&1, "hold").await;
        let free_it = async {
            tokio::time::sleep(MILLI * 2).await;
            drop(held);
        };
        let act = async {
            let _seat = rooms.enter(&1, "act").await?;
            work(&running, true).await
        };
        tokio::join!(act, free_it).0
    };
    let polls = at_every_await(wait_and_run, |polls| {
        assert_eq!(running.count(), 0, "after {polls} polls");
        rooms.each(|_, room| {
            assert_eq!((room.stats().running, room.stats().waiting), (0, 0), "after {polls} polls");
        });
    })
    .await;
    assert!(5 <= polls, "{polls}");
    assert!(rooms.of(&2).is_ok() && rooms.of(&3).is_ok(), "what nobody uses makes room");
}

/// All policies around one another, half open probes among them.
#[tokio::test(start_paused = true)]
async fn a_pipeline_leaves_nothing_of_any_of_its_policies() {
    let (clock, running) = (clock(), Running::default());
    let open = Backoff::fixed(MILLI).jitter(Jitter::None);
    let breaker = breaker::Options::default().least(1).probes(3).open_for(open);
    let breaker = Breaker::new(breaker, Arc::clone(&clock));
    breaker.admit("ask").unwrap().failure();
    tokio::time::advance(MILLI * 2).await;
    let bulkhead = Bulkhead::new(bulkhead::Options::new(2).queue(1), Arc::clone(&clock));
    let shedder = Shedder::new(shed::Options::new(shed::Fixed(2)), Arc::clone(&clock));
    let answered = AtomicU32::new(0);
    let pipeline = Pipeline::new()
        .then(Fallback::new(|_| async { Ok(()) }))
        .then(shedder.clone())
        .then(Retry::new(3, Backoff::fixed(MILLI).jitter(Jitter::None), Arc::clone(&clock)))
        .then(Hedge::new(0.5, MILLI * 2..=MILLI * 2, Arc::clone(&clock)))
        .then(bulkhead.clone())
        .then(breaker.clone())
        .then(Timeout::new(SECOND, clock));
    // Attempts end after three milliseconds, as answers that open no breaker; the last one succeeds.
    let call = || async {
        let _running = running.enter();
        tokio::time::sleep(MILLI * 3).await;
        let retry_after = MILLI;
        let is_last = answered.fetch_add(1, SeqCst) % 4 == 3;
        if is_last { Ok(()) } else { fail(ErrorKind::Throttled { retry_after }) }
    };
    let run = || {
        answered.store(0, SeqCst);
        breaker.reset();
        breaker.admit("ask").unwrap().failure();
        pipeline.run("ask", idempotent(call))
    };
    let polls = at_every_await(run, |polls| {
        let (seats, permits) = (bulkhead.stats(), shedder.stats());
        let left = (running.count(), seats.running, seats.waiting, permits.running);
        assert_eq!(left, (0, 0, 0, 0), "after {polls} polls");
    })
    .await;
    assert!(5 <= polls, "{polls}");
}

#[cfg(feature = "chaos")]
#[tokio::test(start_paused = true)]
async fn chaos_leaves_no_call_whatever_it_does_to_it() {
    use infra_resilience::chaos::{Chaos, Faults};

    let running = Running::default();
    let late = Faults { delays: 1.0, delay: MILLI * 4, ..Faults::default() };
    for faults in [
        late.clone(),
        Faults { errors: 1.0, ..late.clone() },
        Faults { drops: 1.0, ..late },
        Faults { drops: 1.0, ..Faults::default() },
    ] {
        let chaos = Chaos::new(faults, 1);
        chaos.switch_on();
        at_every_await(
            || chaos.run("ask", idempotent(|| work(&running, true))),
            |polls| assert_eq!(running.count(), 0, "after {polls} polls"),
        )
        .await;
    }
}

#[cfg(feature = "tower")]
#[tokio::test(start_paused = true)]
async fn a_layer_leaves_no_request_and_no_place() {
    use infra_resilience::layer::Guard;
    use tower::{Layer as _, ServiceExt as _, service_fn};

    let running = Arc::new(Running::default());
    let bulkhead = Bulkhead::new(bulkhead::Options::new(1), clock());
    let working = Arc::clone(&running);
    let service = service_fn(move |(): ()| {
        let working = Arc::clone(&working);
        async move { work(&working, true).await }
    });
    let once = Guard::at_most_once("ask", bulkhead.clone()).layer(service.clone());
    let again = Guard::idempotent("ask", bulkhead.clone()).layer(service);
    for is_once in [true, false] {
        let request = || {
            let (once, again) = (once.clone(), again.clone());
            async move { if is_once { once.oneshot(()).await } else { again.oneshot(()).await } }
        };
        let polls = at_every_await(request, |polls| {
            assert_eq!((running.count(), bulkhead.stats().running), (0, 0), "after {polls} polls");
        })
        .await;
        assert!(3 <= polls, "{polls}");
    }
}

#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn a_pool_closes_what_was_being_opened_or_checked_and_loses_no_slot() {
    use infra_resilience::pool::{Connect, Options, Pool};
    use infra_testkit::clock::ManualClock;

    #[derive(Debug)]
    struct Slow;

    impl Connect for Slow {
        type Connection = ();

        async fn connect(&self) -> Result<()> {
            tokio::time::sleep(MILLI * 2).await;
            Ok(())
        }

        async fn check(&self, (): &mut ()) -> Result<()> {
            tokio::time::sleep(MILLI * 2).await;
            Ok(())
        }
    }

    let clock = ManualClock::new();
    let options = Options::new(1).queue(1, SECOND).check_after(SECOND);
    let pool = Pool::new(Slow, options, Arc::new(clock.clone())).unwrap();
    // Opens, gives back, grows idle, is checked; meanwhile another waits for the only connection.
    let two_take_turns = || async {
        let take = || async {
            let taken = pool.get().await;
            tokio::time::sleep(MILLI).await;
            drop(taken?);
            clock.advance(SECOND * 2);
            Ok::<_, infra_core::Error>(())
        };
        tokio::join!(take(), take())
    };
    let polls = at_every_await(two_take_turns, |polls| {
        let stats = pool.stats();
        assert_eq!((stats.taken, stats.waiting), (0, 0), "after {polls} polls");
        assert!(stats.size <= 1, "{stats:?}");
        assert_eq!(stats.opened - stats.closed, stats.size as u64, "{stats:?}");
    })
    .await;
    assert!(4 <= polls, "{polls}");
    assert!(pool.get().await.is_ok());
}
