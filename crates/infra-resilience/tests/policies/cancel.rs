//! Futures that are dropped at every await, and at random, leak nothing.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context as Task, Poll, Waker},
};

use infra_core::{
    ErrorKind, Result,
    backoff::{Backoff, Jitter},
    random::Random,
};
use infra_resilience::{
    Breaker, Bulkhead, Hedge, Pipeline, Policy as _, Retry, Shedder, State, Timeout, breaker,
    bulkhead, idempotent, shed,
};

use crate::{MILLI, SECOND, clock, fail};

/// Random drops in CI; `INFRA_RESILIENCE_DROPS` sets another number.
fn drops() -> u64 {
    let set = std::env::var("INFRA_RESILIENCE_DROPS").ok().and_then(|text| text.parse().ok());
    set.unwrap_or(10_000)
}

fn half_open(clock: &Arc<dyn infra_core::Clock>) -> Breaker {
    let open = Backoff::fixed(MILLI).jitter(Jitter::None);
    let options = breaker::Options::default().least(1).probes(3).open_for(open);
    let breaker = Breaker::new(options, Arc::clone(clock));
    breaker.admit("ask").unwrap().failure();
    breaker
}

/// Polls a future `polls` times, a millisecond apart, then drops it; true if it came to its end.
async fn poll_and_drop<T>(future: impl Future<Output = T>, polls: u64) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(_end) = future.as_mut().poll(&mut Task::from_waker(Waker::noop())) {
            return true;
        }
        tokio::time::advance(MILLI).await;
    }
    false
}

/// Everything around a call with awaits of its own; half of the calls fail.
async fn work(random: &Random) -> Result<()> {
    for _ in 0..random.below(3) {
        tokio::time::sleep(MILLI).await;
    }
    if random.below(2) == 0 { fail(ErrorKind::Unavailable) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn futures_dropped_at_random_leak_no_permit() {
    let clock = clock();
    let breaker = half_open(&clock);
    tokio::time::advance(MILLI * 2).await;
    let bulkhead = Bulkhead::new(bulkhead::Options::new(2).queue(3), Arc::clone(&clock));
    let retry = Retry::new(3, Backoff::fixed(MILLI * 2), Arc::clone(&clock));
    let options = shed::Options::new(shed::Fixed(2)).queue(3, SECOND);
    let shedder = Shedder::new(options, Arc::clone(&clock));
    let pipeline = Pipeline::new()
        .then(shedder.clone())
        .then(bulkhead.clone())
        .then(retry.random(Arc::new(Random::seeded(1))))
        .then(Hedge::new(0.5, MILLI..=MILLI, Arc::clone(&clock)))
        .then(breaker.clone())
        .then(Timeout::new(MILLI * 3, Arc::clone(&clock)));
    let random = Random::seeded(2);
    for drop in 0..drops() {
        // Sometimes the places are taken, and it is dropped in the line.
        let mut seats = Vec::new();
        let mut permits = Vec::new();
        for _ in 0..random.below(3) {
            permits.push(shedder.enter("hold").await.unwrap());
        }
        for _ in 0..random.below(3) {
            seats.push(bulkhead.enter("hold").await.unwrap());
        }
        let call = pipeline.run("ask", idempotent(|| work(&random)));
        let _ended = poll_and_drop(call, random.below(8)).await;
        std::mem::drop((seats, permits));
        let let_in = shedder.stats();
        assert_eq!((let_in.running, let_in.waiting), (0, 0), "after drop {drop}");
        let left = bulkhead.stats();
        assert_eq!((left.running, left.waiting), (0, 0), "after drop {drop}");
    }
    // However the breaker stands: after its open time all probes are there.
    breaker.reset();
    breaker.force(infra_resilience::Mode::Automatic);
    (0..1).for_each(|_| breaker.admit("ask").unwrap().failure());
    tokio::time::advance(SECOND).await;
    let probes: Vec<_> = (0..3).map(|_| breaker.admit("ask")).collect();
    assert!(probes.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_at_any_await_gives_its_place_back() {
    let clock = clock();
    let breaker = half_open(&clock);
    tokio::time::advance(MILLI * 2).await;
    for polls in 0..100 {
        let call = breaker.run(
            "ask",
            idempotent(|| async {
                for _ in 0..200 {
                    tokio::time::sleep(MILLI).await;
                }
                Ok(())
            }),
        );
        assert!(!poll_and_drop(call, polls).await);
        let probes: Vec<_> = (0..3).map(|_| breaker.admit("ask")).collect();
        assert!(probes.iter().all(Result::is_ok), "after {polls} polls");
        assert_eq!(breaker.state(), State::HalfOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_handed_to_somebody_who_is_gone_goes_to_the_next() {
    let bulkhead = Bulkhead::new(bulkhead::Options::new(1).queue(10), clock());
    let seat = bulkhead.enter("hold").await.unwrap();
    let mut gone = Box::pin(bulkhead.enter("gone"));
    let mut next = Box::pin(bulkhead.enter("next"));
    let mut task = Task::from_waker(Waker::noop());
    assert!(gone.as_mut().poll(&mut task).is_pending());
    assert!(next.as_mut().poll(&mut task).is_pending());
    drop(seat);
    // The place lies ready for the first, which is dropped without looking.
    assert_eq!(bulkhead.stats().running, 1);
    drop(gone);
    let Poll::Ready(Ok(seat)) = next.as_mut().poll(&mut task) else { panic!("it has the place") };
    drop(seat);
    assert_eq!((bulkhead.stats().running, bulkhead.stats().waiting), (0, 0));
}

#[cfg(feature = "pool")]
#[tokio::test(start_paused = true)]
async fn uses_of_a_pool_dropped_at_random_lose_no_connection() {
    use infra_resilience::pool::{Connect, Options, Pool};
    use infra_testkit::clock::ManualClock;

    /// Opens and checks slowly, and fails now and then.
    struct Moody(Random);

    impl Connect for Moody {
        type Connection = ();

        async fn connect(&self) -> Result<()> {
            work(&self.0).await
        }

        async fn check(&self, (): &mut ()) -> Result<()> {
            work(&self.0).await
        }
    }

    let (clock, random) = (ManualClock::new(), Random::seeded(3));
    let options = Options::new(2).overflow(1).queue(2, SECOND).check_after(SECOND);
    let options = options.idle(SECOND * 5).lifetime(SECOND * 9);
    let pool = Pool::new(Moody(Random::seeded(4)), options, Arc::new(clock.clone())).unwrap();
    for drop in 0..drops() {
        let mut held = Vec::new();
        for _ in 0..random.below(4) {
            held.extend(pool.get().await.ok());
        }
        let using = async {
            let taken = pool.get().await?;
            work(&random).await?;
            if random.below(4) == 0 {
                taken.discard();
            }
            Ok::<_, infra_core::Error>(())
        };
        let _ended = poll_and_drop(using, random.below(8)).await;
        if random.below(16) == 0 {
            let _ended = poll_and_drop(pool.reap(), random.below(4)).await;
        }
        std::mem::drop(held);
        clock.advance(MILLI * 300);
        let stats = pool.stats();
        assert_eq!((stats.taken, stats.waiting), (0, 0), "after drop {drop}");
        assert!(stats.size <= 2, "after drop {drop}: {stats:?}");
        assert_eq!(stats.opened - stats.closed, stats.size as u64, "after drop {drop}");
    }
    let mut taken = Vec::new();
    while taken.len() < 3 {
        taken.extend(pool.get().await.ok());
    }
    assert_eq!(pool.stats().taken, 3, "all places are there");
}
