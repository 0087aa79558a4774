//! Subscriptions as a handler has them.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use infra_core::{
    event::{Append, Direction, EventStore, Filter, Subscription, SubscriptionItem},
    id::EventType,
    version::{Expected, Position, Version},
};
use infra_events::{LogEventStore, Options};
use infra_testkit::seed::Seed;
use rand::RngExt as _;

use crate::game::{Event, append, created, memory, stored, stream};

fn only(event_type: &str) -> Filter {
    Filter { event_types: vec![EventType::new(event_type).unwrap()], ..Filter::default() }
}

/// Returns the next event's stream, or `None` if none comes for a while.
async fn next(subscription: &mut Subscription) -> Option<String> {
    loop {
        let item = tokio::time::timeout(Duration::from_millis(300), subscription.next()).await;
        match item.ok()??.unwrap() {
            SubscriptionItem::Event(event) => return Some(event.stream.to_string()),
            SubscriptionItem::Checkpoint(_) | SubscriptionItem::CaughtUp(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_gets_its_types_once_after_the_commit_and_may_append_itself() {
    let folder = tempfile::tempdir().unwrap();
    let log = LogEventStore::open(Options::new(folder.path())).await.unwrap().0;
    for store in [memory(), Arc::new(log) as Arc<dyn EventStore>] {
        let mut games = store.subscribe(Position::ZERO, only("game_created")).await.unwrap();
        append(store.as_ref(), "game-1", created(&["p1"])).await;
        append(store.as_ref(), "game-1", Event::GameStarted { by: "p1".into() }).await;
        assert_eq!(next(&mut games).await.as_deref(), Some("game-1"));
        // A handler that appends does not wait for itself.
        append(store.as_ref(), "game-2", created(&["p2"])).await;
        assert_eq!(next(&mut games).await.as_deref(), Some("game-2"));
        assert_eq!(next(&mut games).await, None, "other types are not delivered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_dropped_leaves_nothing_and_one_of_a_closed_log_ends() {
    let folder = tempfile::tempdir().unwrap();
    let log = LogEventStore::open(Options::new(folder.path())).await.unwrap().0;
    let dropped = log.subscribe(Position::ZERO, Filter::default()).await.unwrap();
    drop(dropped);
    append(&log, "game-1", created(&["p1"])).await;
    let mut open = log.subscribe(Position::ZERO, Filter::default()).await.unwrap();
    assert_eq!(next(&mut open).await.as_deref(), Some("game-1"));
    log.close().await;
    drop(log);
    let rest = tokio::time::timeout(Duration::from_secs(20), open.count()).await;
    assert!(rest.unwrap() < 3, "only marks may be left");
}

/// How many appends the subscribers watch; set it for a full run.
fn appends() -> u64 {
    let set = std::env::var("INFRA_EVENTS_APPENDS").ok().and_then(|text| text.parse().ok());
    set.unwrap_or(1_600)
}

const WRITERS: u64 = 16;
const SUBSCRIBERS: u64 = 20;

/// Subscribers join at random while writers append, and something is disturbed all the while.
async fn watched(store: Arc<dyn EventStore>, disturb: impl Fn() + Send + Sync + 'static) {
    let total = appends() / WRITERS * WRITERS;
    let (written, progress) = tokio::sync::watch::channel(0_u64);
    let mut subscribers = tokio::task::JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let (store, mut progress) = (Arc::clone(&store), progress.clone());
        subscribers.spawn(async move {
            // The first from the beginning, the others anywhere.
            let joins = Seed(number).dice().random_range(0..total).min(number * total);
            progress.wait_for(|written| joins <= *written).await.unwrap();
            follow(store.as_ref(), total).await
        });
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, written) = (Arc::clone(&store), written.clone());
        writers.spawn(async move {
            for number in 0..total / WRITERS {
                let event = stored(&Event::PhaseChanged { to: number.to_string() });
                let offer = Append::to(stream(&format!("w{writer}")), Expected::Any, vec![event]);
                while let Err(error) = store.append(offer.clone()).await {
                    assert!(error.is_transient(), "{error}");
                }
                written.send_modify(|written| *written += 1);
            }
        });
    }
    // What is disturbed, such as a proxy, is needed to the end.
    let disturb = Arc::new(disturb);
    let kept = Arc::clone(&disturb);
    let disturbing = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            disturb();
        }
    });
    writers.join_all().await;
    disturbing.abort();
    let right: Vec<Position> = {
        let last = store.read_stream(&stream("w0"), Version::MAX, Direction::Backward, 1).await;
        store.wait_for(last.unwrap()[0].position, Duration::from_secs(20)).await.unwrap();
        subscribers.join_next().await.unwrap().unwrap()
    };
    assert_eq!(right.len() as u64, total);
    while let Some(seen) = subscribers.join_next().await {
        assert_eq!(seen.unwrap(), right);
    }
    drop(kept);
}

/// Follows until so many events have come, resuming after errors; each is later than the last.
async fn follow(store: &dyn EventStore, total: u64) -> Vec<Position> {
    let (mut seen, mut after) = (Vec::new(), Position::ZERO);
    while (seen.len() as u64) < total {
        let Ok(mut subscription) = store.subscribe(after, Filter::default()).await else {
            continue;
        };
        while (seen.len() as u64) < total {
            let next = tokio::time::timeout(Duration::from_mins(1), subscription.next()).await;
            match next.expect("nothing comes any more") {
                Some(Ok(SubscriptionItem::Event(event))) => {
                    assert!(after < event.position, "{} after {after}", event.position);
                    after = event.position;
                    seen.push(after);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    assert!(error.is_transient(), "{error}");
                    break;
                }
                None => break,
            }
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_join_at_random_see_each_event_once_in_memory_and_log() {
    watched(memory(), || {}).await;
    let folder = tempfile::tempdir().unwrap();
    let log = LogEventStore::open(Options::new(folder.path())).await.unwrap().0;
    watched(Arc::new(log), || {}).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_see_each_event_once_though_connections_to_postgres_are_cut() {
    use infra_testkit::{
        proxy::FaultProxy,
        server::{Kind, shared},
    };
    let url = shared(Kind::Postgres).unwrap();
    let server = url.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let proxy = FaultProxy::start(server.parse().unwrap()).await.unwrap();
    let through = url.replace(&server, &proxy.addr().to_string());
    let options = crate::postgres::options(&through).poll_interval(Duration::from_millis(50));
    let store = infra_events::PostgresEventStore::open(options).await.unwrap();
    watched(Arc::new(store), move || proxy.cut()).await;
}
