use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use infra_core::{
    ErrorKind,
    budget::{CallBudget, Priority},
    context::Context,
};
use infra_resilience::{
    Policy as _, Reason, Shedder, at_most_once,
    shed::{Aimd, Fixed, Gradient2, MemoryGauge, Options, Permit, Windows},
};
use tokio::task::JoinSet;

use crate::{MILLI, SECOND, clock, fail, reason};

fn at(priority: Priority) -> Context {
    Context::default().budget(CallBudget::default().priority(priority))
}

#[tokio::test(start_paused = true)]
async fn what_is_above_the_limit_is_refused_at_once_or_waits_in_line() {
    let shedder = Shedder::new(Options::new(Fixed(2)).queue(1, SECOND), clock());
    let places = (shedder.enter("ask").await.unwrap(), shedder.enter("ask").await.unwrap());
    let waiting = tokio::spawn({
        let shedder = shedder.clone();
        async move { shedder.enter("ask").await.map(Permit::ignore) }
    });
    tokio::task::yield_now().await;
    assert_eq!(reason(shedder.enter("ask").await), Some(Reason::QueueFull));
    places.0.record();
    waiting.await.unwrap().unwrap();
    let stats = shedder.stats();
    assert_eq!((stats.running, stats.waiting, stats.admitted, stats.refused), (1, 0, 3, 1));
    assert!(format!("{shedder:?} {:?}", places.1).starts_with("Shedder { stats: Stats { limit: 2"));
}

#[tokio::test(start_paused = true)]
async fn a_reported_load_and_memory_refuse_by_priority_with_one_reason() {
    let gauge = MemoryGauge::new(100 << 20, 200 << 20);
    let options = Options::new(Fixed(100)).memory(gauge.clone()).seed(1);
    let shedder = Shedder::new(options, clock());
    let ask = async |priority| reason(at(priority).scope(shedder.enter("ask")).await);
    assert_eq!(ask(Priority::Low).await, None);
    shedder.report_load(0.9);
    assert_eq!(ask(Priority::Low).await, Some(Reason::Load));
    assert_eq!(ask(Priority::High).await, None);
    shedder.report_load(0.1);
    gauge.set(150 << 20);
    assert_eq!(ask(Priority::Normal).await, Some(Reason::MemorySoft));
    assert_eq!(ask(Priority::High).await, None);
    gauge.set(200 << 20);
    assert_eq!(ask(Priority::Critical).await, Some(Reason::MemoryHard));
    gauge.set(0);
    assert_eq!(ask(Priority::Low).await, None);
}

#[tokio::test(start_paused = true)]
async fn the_limit_learns_from_calls_that_end_and_not_from_dropped_ones() {
    let windows = Windows { length: MILLI * 100, samples: 4 };
    let rule = Aimd::new(MILLI * 50).limits(10, 1, 100);
    let shedder = Shedder::new(Options::new(rule).windows(windows), clock());
    let round = async |calls: usize, time: Duration, kind: Option<ErrorKind>| {
        let mut tasks = JoinSet::new();
        for _ in 0..calls {
            let (shedder, kind) = (shedder.clone(), kind.clone());
            tasks.spawn(async move {
                let call = at_most_once(|| async {
                    tokio::time::sleep(time).await;
                    kind.map_or(Ok(()), fail)
                });
                shedder.run("ask", call).await
            });
        }
        tasks.join_all().await;
        tokio::time::sleep(MILLI * 100).await;
        shedder.stats().limit
    };
    for _ in 0..6 {
        round(10, MILLI * 20, None).await;
    }
    let grown = shedder.stats().limit;
    assert!(10 < grown, "{grown}");
    assert_eq!(round(10, MILLI * 20, Some(ErrorKind::Denied)).await, grown, "says nothing");
    for _ in 0..5 {
        round(10, MILLI * 20, Some(ErrorKind::Timeout)).await;
    }
    let cut = shedder.stats().limit;
    assert!(cut < grown, "{cut}");
    for _ in 0..20 {
        drop(shedder.enter("ask").await.unwrap());
        tokio::time::sleep(MILLI * 100).await;
    }
    assert_eq!(shedder.stats().limit, cut);
}

#[tokio::test(start_paused = true)]
async fn clients_that_wait_take_turns() {
    let options = Options::new(Gradient2::new().limits(1, 1, 1)).queue(10, SECOND);
    let shedder = Shedder::new(options, clock());
    let place = shedder.enter("ask").await.unwrap();
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for client in ["a", "a", "a", "b"] {
        let (shedder, order) = (shedder.client(client), Arc::clone(&order));
        tasks.spawn(async move {
            shedder.enter("ask").await.unwrap().ignore();
            order.lock().push(client);
        });
        tokio::task::yield_now().await;
    }
    place.record();
    tasks.join_all().await;
    assert_eq!(*order.lock(), ["a", "b", "a", "a"]);
}

/// One client asks forty times at once, again and again, for two places and eight in line; another one
/// asks now and then.
#[tokio::test(start_paused = true)]
async fn a_client_that_floods_cannot_starve_an_honest_one() {
    let clock = clock();
    let shedder = Shedder::new(Options::new(Fixed(2)).queue(8, SECOND), Arc::clone(&clock));
    let work = || async {
        tokio::time::sleep(MILLI * 10).await;
        Ok(())
    };
    let (served, shed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut flood = JoinSet::new();
    for _ in 0..40 {
        let shedder = shedder.client("flood");
        let (served, shed) = (Arc::clone(&served), Arc::clone(&shed));
        flood.spawn(async move {
            loop {
                let result = shedder.run("ask", at_most_once(work)).await;
                let count = if result.is_ok() { &served } else { &shed };
                count.fetch_add(1, SeqCst);
                tokio::time::sleep(MILLI).await;
            }
        });
    }
    tokio::time::sleep(MILLI * 100).await;
    let honest = shedder.client("honest");
    for call in 0..100 {
        let asked = clock.now();
        let result = honest.run("ask", at_most_once(work)).await;
        let took = clock.now().since(asked);
        assert!(result.is_ok(), "call {call}: {result:?}");
        // Its own time, one call that was running and one that was ahead in turn; timers round up.
        assert!(took <= MILLI * 33, "call {call} took {took:?}");
        tokio::time::sleep(MILLI * 5).await;
    }
    flood.abort_all();
    let (served, shed) = (served.load(SeqCst), shed.load(SeqCst));
    assert!(100 < served && served < shed, "{served} of the flood were served, {shed} shed");
}
