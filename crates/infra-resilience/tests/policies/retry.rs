use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    backoff::{Backoff, Growth, Jitter},
    budget::{CallBudget, Deadline},
    context::Context,
    random::Random,
};
use infra_resilience::{
    Advice, Breaker, Hedge, Latency, Pipeline, Policy as _, Retry, RetryBudget, breaker, idempotent,
};
use parking_lot::Mutex;

use crate::{MILLI, SECOND, clock, fail, kind};

fn retry(attempts: u32, clock: &Arc<dyn Clock>) -> Retry {
    let backoff = Backoff::fixed(MILLI * 100);
    Retry::new(attempts, backoff, Arc::clone(clock)).random(Arc::new(Random::seeded(7)))
}

/// Counts the attempts of a call that always fails like this.
async fn attempts(retry: &Retry, failure: ErrorKind) -> (u32, ErrorKind) {
    let count = AtomicU32::new(0);
    let call = idempotent(|| async {
        count.fetch_add(1, Ordering::SeqCst);
        fail::<()>(failure.clone())
    });
    let result = retry.run("ask", call).await;
    (count.load(Ordering::SeqCst), kind(result))
}

/// Five attempts over a service that fails three times: the waits are 10, 20 and 40 ms.
#[tokio::test(start_paused = true)]
async fn three_failures_are_waited_out_and_the_fourth_attempt_answers() {
    let clock = clock();
    let backoff = Backoff::exponential(MILLI * 10).jitter(Jitter::Within(10));
    let random = Arc::new(Random::seeded(3));
    let retry = Retry::new(5, backoff, Arc::clone(&clock)).random(random);
    let begun = Mutex::new(Vec::new());
    let call = idempotent(|| async {
        begun.lock().push(clock.now());
        if begun.lock().len() < 4 { fail(ErrorKind::Unavailable) } else { Ok(42) }
    });
    assert_eq!(retry.run("ask", call).await.unwrap(), 42);
    let begun = begun.into_inner();
    assert_eq!(begun.len(), 4);
    for (pair, expected) in begun.windows(2).zip([10, 20, 40]) {
        // The timer counts whole milliseconds, rounded up.
        let (least, most) = (MILLI * expected * 9 / 10, MILLI * expected * 11 / 10 + MILLI);
        let waited = pair[1].since(pair[0]);
        assert!(least <= waited && waited <= most, "{waited:?} for {expected} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_real_error_comes_back_with_its_source() {
    let count = AtomicU32::new(0);
    let call = idempotent(|| async {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let cause = std::io::Error::other(format!("attempt {number} failed"));
        Err::<(), _>(Error::new(ErrorKind::Unavailable, "ask").because(cause))
    });
    let error = retry(3, &clock()).run("ask", call).await.unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "attempt 3 failed");
    assert!(error.source().unwrap().is::<std::io::Error>());
}

#[tokio::test(start_paused = true)]
async fn only_transient_failures_are_tried_again() {
    let retry = retry(4, &clock());
    for failure in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Overloaded] {
        assert_eq!(attempts(&retry, failure.clone()).await, (4, failure));
    }
    for failure in
        [ErrorKind::Indeterminate, ErrorKind::Invalid, ErrorKind::Denied, ErrorKind::Poisoned]
    {
        assert_eq!(attempts(&retry, failure.clone()).await, (1, failure));
    }
    let keyed = AtomicU32::new(0);
    let call = idempotent(|| async {
        keyed.fetch_add(1, Ordering::SeqCst);
        Err::<(), _>(Error::new(ErrorKind::Indeterminate, "write").idempotent())
    });
    assert!(retry.run("write", call).await.is_err());
    assert_eq!(keyed.load(Ordering::SeqCst), 4, "a write with an idempotency key may be repeated");
    let stubborn = retry.advise(|error| match error.kind() {
        ErrorKind::Denied => Advice::After(SECOND),
        _ => Advice::GiveUp,
    });
    assert_eq!(attempts(&stubborn, ErrorKind::Denied).await.0, 4, "a function of yours decides");
    assert_eq!(attempts(&stubborn, ErrorKind::Unavailable).await.0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_named_time_is_waited_for_and_a_deadline_is_never_slept_over() {
    let clock = clock();
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
async fn who_would_have_to_wait_for_longer_than_a_server_may_ask_fails_at_once() {
    let clock = clock();
    let throttled = ErrorKind::Throttled { retry_after: SECOND * 61 };
    let begun = clock.now();
    assert_eq!(attempts(&retry(2, &clock), throttled.clone()).await, (1, throttled.clone()));
    assert_eq!(clock.now(), begun);
    let patient = retry(2, &clock).longest_hint(SECOND * 61);
    assert_eq!(attempts(&patient, throttled).await.0, 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_the_shared_budget_refuses_costs_the_call_nothing() {
    let clock = clock();
    let shared = RetryBudget::new(Arc::clone(&clock)).share(0.0).trickle(0);
    let budget = CallBudget::new(5);
    let context = Context::default().budget(budget.clone());
    let refused = retry(3, &clock).budget(shared.clone());
    assert_eq!(context.scope(attempts(&refused, ErrorKind::Unavailable)).await.0, 1);
    assert_eq!(budget.left(), 5);
    let hedge = Hedge::new(0.95, MILLI..=SECOND, Arc::clone(&clock)).budget(shared);
    let slow = idempotent(|| async {
        tokio::time::sleep(SECOND * 100).await;
        Ok(())
    });
    let context = Context::default().budget(budget.clone());
    context.scope(hedge.run("ask", slow)).await.unwrap();
    assert_eq!(budget.left(), 5);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_begun_that_has_less_time_than_attempts_take() {
    let clock = clock();
    let backoff = Backoff::fixed(MILLI * 100).jitter(Jitter::None);
    let plain = Retry::new(9, backoff, Arc::clone(&clock));
    let within = |millis| Context::default().deadline(Deadline::after(clock.now(), MILLI * millis));
    let failure = ErrorKind::Unavailable;
    assert_eq!(within(350).scope(attempts(&plain, failure.clone())).await.0, 4);
    let useful = plain.clone().useful(MILLI * 200);
    assert_eq!(within(350).scope(attempts(&useful, failure.clone())).await.0, 2);
    let latency = Latency::default();
    (0..20).for_each(|_| latency.record(MILLI * 100));
    let useful = plain.useful_by(latency);
    assert_eq!(within(350).scope(attempts(&useful, failure)).await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn retries_around_retries_share_one_budget() {
    let clock = clock();
    let budget = CallBudget::new(5);
    let count = AtomicU32::new(0);
    let pipeline = Pipeline::new().then(retry(10, &clock)).then(retry(10, &clock));
    let call = idempotent(|| async {
        count.fetch_add(1, Ordering::SeqCst);
        fail::<()>(ErrorKind::Unavailable)
    });
    let run = pipeline.run("ask", call);
    assert_eq!(
        kind(Context::default().budget(budget.clone()).scope(run).await),
        ErrorKind::Unavailable
    );
    let expected = (6, 0);
    assert_eq!((count.load(Ordering::SeqCst), budget.left()), expected, "one and five extra");
}

#[tokio::test(start_paused = true)]
async fn callers_share_a_budget_of_retries() {
    let clock = clock();
    let budget = RetryBudget::new(Arc::clone(&clock)).share(0.1).trickle(0);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let retry = retry(10, &clock).budget(budget.clone());
        tasks.spawn(async move { attempts(&retry, ErrorKind::Unavailable).await.0 });
    }
    let made: u32 = tasks.join_all().await.into_iter().sum();
    assert_eq!(made, 110, "a hundred calls, and a tenth more");
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_inside_is_waited_for_not_hammered() {
    let clock = clock();
    let open = Backoff::fixed(SECOND * 5).jitter(Jitter::None);
    let options = breaker::Options::default().least(1).probes(1).open_for(open);
    let breaker = Breaker::new(options, Arc::clone(&clock));
    let pipeline = Pipeline::new().then(retry(4, &clock)).then(breaker.clone());
    let count = AtomicU32::new(0);
    let call = idempotent(|| async {
        if count.fetch_add(1, Ordering::SeqCst) == 0 { fail(ErrorKind::Unavailable) } else { Ok(7) }
    });
    assert_eq!(pipeline.run("ask", call).await.unwrap(), 7);
    assert_eq!((count.load(Ordering::SeqCst), breaker.stats().refused), (2, 1));
}

/// The pauses of a preset, without scatter beyond ten percent.
async fn waits(retry: Retry, clock: &Arc<dyn Clock>) -> Vec<Duration> {
    let begun = Mutex::new(Vec::new());
    let call = idempotent(|| async {
        begun.lock().push(clock.now());
        fail::<()>(ErrorKind::Unavailable)
    });
    let result: Result<()> = retry.random(Arc::new(Random::seeded(1))).run("ask", call).await;
    assert!(result.is_err());
    begun.into_inner().windows(2).map(|pair| pair[1].since(pair[0])).collect()
}

#[tokio::test(start_paused = true)]
async fn each_preset_waits_as_its_name_says() {
    let clock = clock();
    let all = [
        (Retry::standard(Arc::clone(&clock)), vec![1_000, 2_000]),
        (
            Retry::aggressive(Arc::clone(&clock)),
            vec![100, 150, 225, 337, 506, 759, 1_139, 1_708, 2_562],
        ),
        (Retry::conservative(Arc::clone(&clock)), vec![5_000, 15_000]),
        (Retry::linear(Arc::clone(&clock)), vec![2_000, 4_000, 6_000, 8_000]),
    ];
    for (retry, expected) in all {
        let waited = waits(retry, &clock).await;
        assert_eq!(waited.len(), expected.len());
        for (waited, expected) in waited.iter().zip(expected) {
            let (least, most) = (MILLI * expected * 9 / 10, MILLI * expected * 11 / 10 + MILLI);
            assert!(least <= *waited && *waited <= most, "{waited:?} for {expected} ms");
        }
    }
    let text = format!("{:?}", Retry::linear(clock));
    assert!(text.starts_with("Retry { attempts: 5"), "{text}");
}

/// What a retry should do with a plan of failures, written down as plainly as possible: how many
/// attempts, and after how many milliseconds it ends.
fn model(plan: &[Option<u64>], most: u32, deadline: u64, mut extra: u32) -> (u32, u64) {
    let (mut attempts, mut now) = (0, 0);
    loop {
        attempts += 1;
        // Beyond the plan all is well.
        let Some(Some(hint)) = plan.get(attempts as usize - 1) else { return (attempts, now) };
        let pause = (10 * u64::from(attempts)).min(45).max(*hint);
        if most <= attempts || deadline - now <= pause || extra == 0 {
            return (attempts, now);
        }
        (extra, now) = (extra - 1, now + pause);
    }
}

proptest::proptest! {
    /// Any plan of failures with and without hints, under any bounds: the retry does what the model
    /// does, to the attempt and to the millisecond.
    #[test]
    fn it_does_what_the_model_does(
        plan in proptest::collection::vec(proptest::option::weighted(0.9, 0_u64..80), 0..12),
        most in 1_u32..12,
        deadline in 1_u64..500,
        extra in 0_u32..12,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let found = runtime.block_on(async {
            let clock = clock();
            let backoff = Backoff::new(Growth::Linear, MILLI * 10).capped_at(MILLI * 45);
            let retry = Retry::new(most, backoff.jitter(Jitter::None), Arc::clone(&clock));
            let count = AtomicU32::new(0);
            let call = idempotent(|| async {
                let attempt = count.fetch_add(1, Ordering::SeqCst) as usize;
                match plan.get(attempt) {
                    Some(Some(0)) => fail(ErrorKind::Unavailable),
                    Some(Some(hint)) => {
                        fail(ErrorKind::Throttled { retry_after: Duration::from_millis(*hint) })
                    }
                    Some(None) | None => Ok(()),
                }
            });
            let begun = clock.now();
            let time = Duration::from_millis(deadline);
            let context = Context::default()
                .deadline(Deadline::after(begun, time))
                .budget(CallBudget::new(extra));
            let _either = context.scope(retry.run("ask", call)).await;
            let took = clock.now().since(begun).as_millis();
            (count.load(Ordering::SeqCst), u64::try_from(took).unwrap())
        });
        proptest::prop_assert_eq!(found, model(&plan, most, deadline, extra));
    }
}

/// A write that may have been done, and is then refused, cannot be reached, is not begun or is answered.
#[tokio::test(start_paused = true)]
async fn what_may_have_been_done_is_not_hidden_by_a_later_attempt_that_was_not() {
    let retry = retry(3, &clock());
    let doubtful = || Error::new(ErrorKind::Indeterminate, "write").idempotent();
    let after_doubt = async |then: ErrorKind| {
        let asked = AtomicU32::new(0);
        let call = idempotent(|| async {
            let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            if is_first { Err(doubtful()) } else { fail::<()>(then.clone()) }
        });
        (kind(retry.run("write", call).await), asked.load(Ordering::SeqCst))
    };
    for passing in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Overloaded] {
        assert_eq!(after_doubt(passing).await, (ErrorKind::Indeterminate, 3));
    }
    for shut in [ErrorKind::Poisoned, ErrorKind::Closed] {
        assert_eq!(after_doubt(shut).await, (ErrorKind::Indeterminate, 2), "that is no answer");
    }
    for answer in [ErrorKind::Denied, ErrorKind::Invalid] {
        assert_eq!(after_doubt(answer.clone()).await, (answer, 2), "an answer settles it");
    }
}
