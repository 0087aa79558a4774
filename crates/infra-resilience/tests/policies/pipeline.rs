use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use infra_core::{
    ErrorKind,
    backoff::{Backoff, Jitter},
};
use infra_resilience::{
    Breaker, Bulkhead, Fallback, Pipeline, Policy as _, Retry, State, Timeout, at_most_once,
    breaker, bulkhead, idempotent,
};

use crate::{MILLI, SECOND, clock, fail, kind};

/// A bulkhead of five around a breaker (three in a row, half a second) around retries (three, from
/// 100 ms) around a service that fails its first ten calls; twenty calls, 100 ms apart.
#[tokio::test(start_paused = true)]
async fn a_failing_service_opens_the_breaker_once_and_recovers() {
    let clock = clock();
    let open = Backoff::fixed(SECOND / 2).jitter(Jitter::None);
    let options = breaker::Options::default().consecutive(NonZeroU32::new(3).unwrap()).probes(1);
    let breaker = Breaker::new(options.open_for(open), Arc::clone(&clock));
    let backoff = Backoff::exponential(MILLI * 100).jitter(Jitter::None);
    let pipeline = Pipeline::new()
        .then(Bulkhead::new(bulkhead::Options::new(5), Arc::clone(&clock)))
        .then(breaker.clone())
        .then(Retry::new(3, backoff, Arc::clone(&clock)));
    let made = AtomicU32::new(0);
    let service = idempotent(|| async {
        if made.fetch_add(1, Ordering::SeqCst) < 10 { fail(ErrorKind::Unavailable) } else { Ok(()) }
    });
    let mut results = Vec::new();
    for _ in 0..20 {
        results.push(pipeline.run("ask", &service).await.is_ok());
        tokio::time::sleep(MILLI * 100).await;
    }
    let changes: Vec<_> = breaker.history().into_iter().map(|change| change.to).collect();
    assert_eq!(changes, [State::Open, State::HalfOpen, State::Closed]);
    // Three calls of three attempts open it, four are refused, the probe needs a second attempt.
    let refused = usize::try_from(breaker.stats().refused).unwrap();
    assert_eq!(results.iter().position(|is_ok| *is_ok), Some(3 + refused));
    assert_eq!((refused, made.load(Ordering::SeqCst)), (4, 9 + 2 + 12));
    assert!(results[3 + refused..].iter().all(|is_ok| *is_ok));
}

#[tokio::test(start_paused = true)]
async fn policies_act_in_the_order_in_which_they_are_written() {
    let clock = clock();
    let sleepy = || async {
        tokio::time::sleep(MILLI * 30).await;
        fail::<()>(ErrorKind::Unavailable)
    };
    let retry = Retry::new(5, Backoff::fixed(MILLI), Arc::clone(&clock));
    let timeout = Timeout::new(MILLI * 70, Arc::clone(&clock));
    let begun = clock.now();
    let inside = Pipeline::new().then(retry.clone()).then(timeout.clone());
    assert_eq!(kind(inside.run("ask", idempotent(sleepy)).await), ErrorKind::Unavailable);
    assert!(MILLI * 150 <= clock.now().since(begun), "five attempts, none too late");
    let begun = clock.now();
    let outside = Pipeline::new().then(timeout).then(retry);
    assert!(outside.run("ask", idempotent(sleepy)).await.is_err());
    assert!(clock.now().since(begun) <= MILLI * 70, "all attempts within the one time");
}

#[tokio::test]
async fn a_fallback_answers_for_what_it_applies_to() {
    let fallback = Fallback::new(|_| async { Ok(0) });
    let down = || at_most_once(|| async { fail::<u32>(ErrorKind::Unavailable) });
    let denied = || at_most_once(|| async { fail::<u32>(ErrorKind::Denied) });
    let answer = || at_most_once(|| async { Ok(7) });
    assert_eq!(fallback.run("ask", down()).await.unwrap(), 0);
    assert_eq!(fallback.run("ask", answer()).await.unwrap(), 7);
    assert_eq!(kind(fallback.run("ask", denied()).await), ErrorKind::Denied);
    let fallback = fallback.when(|error| *error.kind() == ErrorKind::Denied);
    assert_eq!(fallback.run("ask", denied()).await.unwrap(), 0);
    assert_eq!(kind(fallback.run("ask", down()).await), ErrorKind::Unavailable);
    assert_eq!(format!("{fallback:?}"), "Fallback");
}
