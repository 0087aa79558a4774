use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock, ErrorKind, Result,
    budget::{CallBudget, Deadline},
    context::Context,
    random::Random,
};
use infra_resilience::{Hedge, Latency, Policy as _, RetryBudget, idempotent};

use crate::{MILLI, SECOND, clock, fail, kind};

fn hedge(clock: &Arc<dyn Clock>) -> Hedge {
    Hedge::new(0.9, MILLI * 5..=MILLI * 100, Arc::clone(clock))
}

/// Counts attempts that began and that came to their end.
#[derive(Default)]
struct Attempts {
    begun: AtomicU32,
    ended: AtomicU32,
}

impl Attempts {
    /// The attempt answers its number after its time; `Err` fails after it.
    async fn next(&self, plan: &[Result<u32, u32>]) -> Result<u32> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst);
        let end = plan[number as usize];
        let (Ok(millis) | Err(millis)) = end;
        tokio::time::sleep(MILLI * millis).await;
        self.ended.fetch_add(1, Ordering::SeqCst);
        if end.is_ok() { Ok(number + 1) } else { fail(ErrorKind::Unavailable) }
    }

    fn counts(&self) -> (u32, u32) {
        (self.begun.load(Ordering::SeqCst), self.ended.load(Ordering::SeqCst))
    }
}

/// When attempts end, the answer, after how long, and how many began and ended.
type Case = (&'static [Result<u32, u32>], Result<u32, ()>, u32, (u32, u32));

#[tokio::test(start_paused = true)]
async fn the_first_answer_counts_and_the_other_attempt_is_dropped() {
    let clock = clock();
    let cases: [Case; 6] = [
        (&[Ok(50)], Ok(1), 50, (1, 1)),
        (&[Ok(1_000), Ok(20)], Ok(2), 120, (2, 1)),
        (&[Ok(150), Ok(200)], Ok(1), 150, (2, 1)),
        (&[Err(150), Ok(200)], Ok(2), 300, (2, 2)),
        (&[Ok(500), Err(50)], Ok(1), 500, (2, 2)),
        (&[Err(150), Err(200)], Err(()), 300, (2, 2)),
    ];
    for (plan, expected, millis, counts) in cases {
        let attempts = Attempts::default();
        let begun = clock.now();
        let result = hedge(&clock).run("ask", idempotent(|| attempts.next(plan))).await;
        assert_eq!(result.map_err(drop), expected, "{plan:?}");
        assert_eq!(clock.now().since(begun), MILLI * millis, "{plan:?}");
        assert_eq!(attempts.counts(), counts, "{plan:?}");
    }
    let attempts = Attempts::default();
    let failed = hedge(&clock).run("ask", idempotent(|| attempts.next(&[Err(10)]))).await;
    assert_eq!((kind(failed), attempts.counts()), (ErrorKind::Unavailable, (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn the_delay_follows_the_latencies_of_late_within_its_bounds() {
    let clock = clock();
    let latency = Latency::new(100);
    let hedge = hedge(&clock).latency(latency.clone());
    assert_eq!(hedge.delay(), MILLI * 100, "nothing is known");
    for _ in 0..50 {
        let attempts = Attempts::default();
        hedge.run("ask", idempotent(|| attempts.next(&[Ok(20)]))).await.unwrap();
    }
    let delay = hedge.delay();
    assert!(MILLI * 20 <= delay && delay <= MILLI * 23, "{delay:?}");
    (0..1_000).for_each(|_| latency.record(Duration::from_micros(10)));
    assert_eq!(hedge.delay(), MILLI * 5);
    (0..1_000).for_each(|_| latency.record(SECOND));
    assert_eq!(hedge.delay(), MILLI * 100);
}

/// Nine of ten attempts take up to 100 ms, one takes ten seconds.
#[tokio::test(start_paused = true)]
async fn as_many_calls_are_hedged_as_the_quantile_says() {
    let (clock, random) = (clock(), Random::seeded(5));
    let hedge = Hedge::new(0.9, MILLI..=SECOND * 20, Arc::clone(&clock));
    let (mut calls, mut attempts) = (0, 0);
    for call in 0..3_000 {
        let begun = AtomicU32::new(0);
        let work = idempotent(|| async {
            begun.fetch_add(1, Ordering::SeqCst);
            let is_slow = random.below(10) == 0;
            let millis = if is_slow { 10_000 } else { random.below(100) };
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(())
        });
        hedge.run("ask", work).await.unwrap();
        if 1_000 <= call {
            (calls, attempts) = (calls + 1, attempts + begun.load(Ordering::SeqCst));
        }
    }
    let hedged = f64::from(attempts - calls) / f64::from(calls);
    // The quantile's buckets are an eighth wide, so it may be fewer, but not half as many again.
    assert!((0.05..0.15).contains(&hedged), "{hedged}, by a delay of {:?}", hedge.delay());
}

#[tokio::test(start_paused = true)]
async fn no_second_attempt_is_begun_that_could_not_end_in_time() {
    let clock = clock();
    let latency = Latency::new(1_000);
    (0..100).for_each(|_| latency.record(MILLI * 20));
    let hedge = Hedge::new(0.9, MILLI * 100..=MILLI * 100, Arc::clone(&clock)).latency(latency);
    for (time, wanted) in [(110, 1), (200, 2)] {
        let attempts = Attempts::default();
        let deadline = Deadline::after(clock.now(), Duration::from_millis(time));
        let call = idempotent(|| attempts.next(&[Ok(300), Ok(300)]));
        let _late = Context::default().deadline(deadline).scope(hedge.run("ask", call)).await;
        assert_eq!(attempts.counts().0, wanted, "of {time} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn without_budget_the_first_attempt_goes_on_alone() {
    let clock = clock();
    let plan: &[_] = &[Ok(300), Ok(10)];
    let attempts = Attempts::default();
    let call = idempotent(|| attempts.next(plan));
    let none = Context::default().budget(CallBudget::new(0));
    assert_eq!(none.scope(hedge(&clock).run("ask", &call)).await.unwrap(), 1);
    assert_eq!(attempts.counts(), (1, 1));
    let budget = RetryBudget::new(Arc::clone(&clock)).share(0.5).trickle(0);
    let hedged = hedge(&clock).budget(budget.clone());
    let mut begun = 0;
    for _ in 0..10 {
        let attempts = Attempts::default();
        hedged.run("ask", idempotent(|| attempts.next(plan))).await.unwrap();
        begun += attempts.counts().0;
    }
    assert_eq!(begun, 15, "ten calls and half as many more");
    let unpaid = hedge(&clock).budget_of_retry(budget.clone());
    unpaid.run("ask", idempotent(|| async { Ok(1) })).await.unwrap();
    assert_eq!(budget.saved(), 0, "the retry around it pays");
}
