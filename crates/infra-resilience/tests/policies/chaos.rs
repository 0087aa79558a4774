use std::{num::NonZeroU32, sync::Arc};

use infra_core::{
    ErrorKind, SystemClock,
    backoff::{Backoff, Jitter},
    random::Random,
};
use infra_resilience::{
    Breaker, Bulkhead, Pipeline, Policy as _, Retry, State, breaker, bulkhead,
    chaos::{Chaos, Faults},
    idempotent,
};
use infra_testkit::server::{Kind, Server};

use crate::{MILLI, SECOND, clock, kind, reason};

async fn slow() -> infra_core::Result<u32> {
    tokio::time::sleep(MILLI * 10).await;
    Ok(7)
}

#[tokio::test(start_paused = true)]
async fn a_seed_gives_the_same_faults_and_a_switch_ends_them() {
    let faults = || Faults {
        errors: 0.2,
        kind: ErrorKind::Overloaded,
        delays: 0.3,
        delay: MILLI * 100,
        panics: 0.0,
        drops: 0.2,
    };
    let plan = async |seed| {
        let (chaos, clock) = (Chaos::new(faults(), seed), clock());
        chaos.switch_on();
        let mut seen = Vec::new();
        for _ in 0..500 {
            let begun = clock.now();
            let result = chaos.run("ask", idempotent(slow)).await;
            seen.push((result.err().map(|error| error.kind().clone()), clock.now().since(begun)));
        }
        seen
    };
    let (one, same, other) = (plan(3).await, plan(3).await, plan(4).await);
    assert!(one == same && one != other);
    let share = |kind| one.iter().filter(|(seen, _)| *seen == kind).count();
    for (kind, around) in
        [(Some(ErrorKind::Overloaded), 100), (Some(ErrorKind::Indeterminate), 80), (None, 320)]
    {
        let seen = share(kind.clone());
        assert!(seen.abs_diff(around) < 40, "{kind:?}: {seen}");
    }
    assert!(one.iter().any(|(_, took)| MILLI * 60 < *took), "some are late");
    let chaos = Chaos::new(Faults { errors: 1.0, ..Faults::default() }, 1);
    chaos.switch_on();
    assert_eq!(kind(chaos.run("ask", idempotent(slow)).await), ErrorKind::Unavailable);
    chaos.switch_off();
    assert_eq!(chaos.run("ask", idempotent(slow)).await.unwrap(), 7);
    let dropping = Chaos::new(Faults { drops: 1.0, ..Faults::default() }, 1);
    dropping.switch_on();
    let ready = idempotent(|| async { Ok(7) });
    assert_eq!(dropping.run("ask", ready).await.unwrap(), 7, "it never waited");
}

#[tokio::test(start_paused = true)]
async fn panics_and_drops_inside_leak_nothing_of_what_is_around() {
    let clock = clock();
    let bulkhead = Bulkhead::new(bulkhead::Options::new(2), Arc::clone(&clock));
    let breaker = Breaker::new(breaker::Options::default().failures(2.0), Arc::clone(&clock));
    let faults = Faults { panics: 0.3, drops: 0.3, errors: 0.2, ..Faults::default() };
    let chaos = Chaos::new(faults, 5);
    chaos.switch_on();
    let pipeline = Pipeline::new().then(bulkhead.clone()).then(breaker.clone()).then(chaos);
    let mut panicked = 0;
    for _ in 0..200 {
        let pipeline = pipeline.clone();
        let task = tokio::spawn(async move { pipeline.run("ask", idempotent(slow)).await });
        panicked += u32::from(task.await.is_err());
    }
    assert!((30..90).contains(&panicked), "{panicked}");
    let stats = bulkhead.stats();
    assert_eq!((stats.running, stats.waiting, stats.admitted), (0, 0, 200));
    assert_eq!(breaker.stats().unknown, u64::from(panicked));
}

/// A real Redis that is frozen for a while, with a breaker in front.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_opens_the_breaker_and_its_return_closes_it() {
    let clock = SystemClock::shared();
    let server = Server::start(Kind::Redis).await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let open = Backoff::fixed(MILLI * 100).jitter(Jitter::None);
    let options = breaker::Options::default().consecutive(NonZeroU32::new(3).unwrap()).probes(1);
    let breaker = Breaker::new(options.open_for(open), Arc::clone(&clock));
    let retry = Retry::new(2, Backoff::fixed(MILLI), Arc::clone(&clock));
    let pipeline = Pipeline::new()
        .then(Bulkhead::new(bulkhead::Options::new(5), Arc::clone(&clock)))
        .then(breaker.clone())
        .then(retry.random(Arc::new(Random::seeded(1))));
    let ping = idempotent(|| {
        let mut connection = connection.clone();
        async move {
            let failed =
                |cause| infra_core::Error::new(ErrorKind::Unavailable, "ping").because(cause);
            let command = redis::cmd("PING");
            let asked = command.query_async::<String>(&mut connection);
            match tokio::time::timeout(MILLI * 200, asked).await {
                Ok(pong) => pong.map_err(failed),
                Err(_) => Err(infra_core::Error::new(ErrorKind::Timeout, "ping")),
            }
        }
    });
    assert_eq!(pipeline.run("ping", &ping).await.unwrap(), "PONG");
    server.freeze().unwrap();
    while breaker.state() == State::Closed {
        assert!(pipeline.run("ping", &ping).await.is_err());
    }
    let refused = reason(pipeline.run("ping", &ping).await);
    assert!(refused.is_some() || breaker.state() != State::Open);
    server.thaw().unwrap();
    while pipeline.run("ping", &ping).await.is_err() {
        tokio::time::sleep(MILLI * 20).await;
    }
    assert_eq!(breaker.state(), State::Closed);
    let changes: Vec<_> = breaker.history().into_iter().map(|change| change.to).collect();
    assert_eq!(changes[0], State::Open);
    assert_eq!(changes[changes.len() - 2..], [State::HalfOpen, State::Closed]);
    assert!(changes.len() < 16, "it did not flap: {changes:?}");
    tokio::time::timeout(SECOND * 5, pipeline.run("ping", &ping)).await.unwrap().unwrap();
}
