//! What holds of each queue on a server, whatever the server.

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, durability::Durability, id::QueueName, queue::Queue, random::Random};
use infra_messaging::Options;
use infra_testkit::{
    clock::ManualClock,
    contract::queue::LIMIT,
    model::{ModelQueue, Policy},
    server::Server,
};
use proptest::{prelude::ProptestConfig, test_runner::TestRunner};

use crate::{
    LEASE, message, name,
    programs::{Side, Step, steps},
};

/// How many keys the messages have that are published when a server is killed.
const KEYS: u64 = 16;

/// A name that no other test has.
pub(crate) fn own_name() -> QueueName {
    QueueName::new(format!("test-{:x}", Random::from_system().next_u64())).unwrap()
}

/// Answers random programs as the model does: `INFRA_PROGRAMS` of them, 200 for the full run.
pub(crate) fn any_program<F>(open: impl Fn(Options, Arc<dyn Clock>) -> F)
where
    F: Future<Output = Arc<dyn Queue>>,
{
    let cases = std::env::var("INFRA_PROGRAMS").ok().and_then(|text| text.parse().ok());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases.unwrap_or(6)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let said = runner.run(&steps(), |steps| {
        runtime.block_on(program(&steps, &open));
        Ok(())
    });
    said.unwrap();
}

async fn program<F>(steps: &[Step], open: &impl Fn(Options, Arc<dyn Clock>) -> F)
where
    F: Future<Output = Arc<dyn Queue>>,
{
    let clock = ManualClock::new();
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let (capacity, window) = (12, Duration::from_secs(7));
    let policy =
        Policy { capacity, max_failures: LIMIT, max_crashes: LIMIT, window, oldest_every: None };
    let options = Options::new(capacity).dedup_window(window).oldest_every(None);
    let options = options.max_failures(LIMIT).max_crashes(LIMIT);
    let mut model = Side::new(Arc::new(ModelQueue::new(name(), policy, Arc::clone(&shared))));
    let mut server = Side::new(open(options, shared).await);
    for (number, step) in (1..).zip(steps) {
        if let Step::Pass { seconds } = step {
            clock.advance(Duration::from_secs(*seconds));
        }
        let wanted = model.run(step, number).await;
        let patience = if server.n_held() < model.n_held() { 10_000 } else { 60 };
        server.patience(Duration::from_millis(patience));
        let is_drop = matches!(step, Step::Settle { how: 5, .. });
        let found = server.run(step, number).await;
        if !is_drop {
            assert_eq!(found, wanted, "step {number}: {step:?}");
            continue;
        }
        // A dropped delivery is released by a task of its own.
        while server.stats().await != model.stats().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Kills a server under a publisher and starts it again: what was acknowledged is there, in order.
pub(crate) async fn nothing_is_lost<F>(
    mut server: Server,
    durability: Durability,
    open: impl Fn() -> F,
) where
    F: Future<Output = infra_core::Result<Arc<dyn Queue>>>,
{
    let queue = open().await.unwrap();
    let (enough, is_enough) = tokio::sync::oneshot::channel();
    let published = tokio::spawn(async move {
        let (mut taken, mut enough) = (Vec::new(), Some(enough));
        for number in 0..5_000 {
            let keyed = message(number).key(format!("key {}", number % KEYS));
            match queue.publish(vec![keyed], durability).await {
                Ok(_) => taken.push(number),
                Err(_) => break,
            }
            if number == 150 {
                enough.take().unwrap().send(()).unwrap();
            }
        }
        taken
    });
    // It is killed in the middle of its work.
    is_enough.await.unwrap();
    server.kill().unwrap();
    let published = published.await.unwrap();
    server.restart().await.unwrap();
    let queue = loop {
        match open().await {
            Ok(queue) => break queue,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let mut seen = Vec::new();
    while 0 < queue.stats().await.unwrap().ready {
        let mut acks = tokio::task::JoinSet::new();
        for delivery in queue.receive(100, LEASE * 5).await.unwrap() {
            seen.push(delivery.message().payload.decode::<u64>().unwrap());
            acks.spawn(delivery.ack());
        }
        acks.join_all().await.into_iter().collect::<infra_core::Result<Vec<()>>>().unwrap();
    }
    for key in 0..KEYS {
        let of_key: Vec<u64> = seen.iter().copied().filter(|own| own % KEYS == key).collect();
        assert!(of_key.is_sorted(), "order per key");
    }
    seen.sort_unstable();
    // The one that was on its way may be there or not.
    assert!(seen.starts_with(&published) && seen.len() <= published.len() + 1);
}
