//! A cache that stored events keep honest: who waits for an event reads nothing older.

use std::{sync::Arc, time::Duration};

use infra_cache::{Feed, Invalidator, LocalCache, Options as CacheOptions, Rule, Rules};
use infra_core::{
    Clock, SystemClock,
    codec::Payload,
    event::{Append, Direction, EventStore, Filter, NewEvent},
    id::{EventId, EventType, StreamName},
    lifecycle::Shutdown,
    random::Random,
    version::{Expected, Position, Version},
};
use infra_events::{LogEventStore, Options};
use serde_json::{Value, json};

const PLAYERS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(20);

fn stream(player: u64) -> StreamName {
    StreamName::new(format!("player-{player}")).unwrap()
}

/// Gives a player the next score.
async fn score(events: &dyn EventStore, player: u64, score: u64, random: &Random) -> Position {
    let id = EventId::generate(SystemClock::new().wall(), random);
    let payload = Payload::json(1, &json!({"player": player, "score": score})).unwrap();
    let event = NewEvent::new(id, EventType::new("scored").unwrap(), payload);
    let append = Append::to(stream(player), Expected::Any, vec![event]);
    events.append(append).await.unwrap().position
}

/// Returns a player's newest score as the store has it.
async fn stored(events: &dyn EventStore, player: u64) -> u64 {
    let read = events.read_stream(&stream(player), Version::MAX, Direction::Backward, 1).await;
    let last = read.unwrap().pop();
    last.map_or(0, |event| {
        event.event.payload.decode::<Value>().unwrap()["score"].as_u64().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_wait_for_an_event_see_nothing_older_while_others_fill_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LogEventStore::open(Options::new(folder.path())).await.unwrap();
    let events: Arc<dyn EventStore> = Arc::new(log);
    let cache: LocalCache<String, u64> =
        LocalCache::new(CacheOptions::new(1_000), SystemClock::shared());
    let rules = Rules::new([Rule::on("scored").key("score:{player}").unwrap()]).unwrap();
    let (invalidator, _) = Invalidator::new(cache.clone(), rules, SystemClock::shared());
    let (feed, handle) = Feed::new(Arc::clone(&events), Filter::default(), invalidator);
    let shutdown = Shutdown::new();
    shutdown.spawn(feed.run(shutdown.stop()));
    let source = Arc::clone(&events);
    let read = move |player: u64| {
        let (events, cache) = (Arc::clone(&source), cache.clone());
        async move {
            let load = move || async move { Ok(stored(events.as_ref(), player).await) };
            cache.get_or_load(&format!("score:{player}"), load).await.unwrap()
        }
    };
    let stop = shutdown.stop();
    for player in 0..PLAYERS {
        let (read, stop) = (read.clone(), stop.clone());
        shutdown.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.requested() => return,
                    _ = read(player) => tokio::task::yield_now().await,
                }
            }
        });
    }
    let random = Random::seeded(5);
    for number in 1..=100 {
        let player = number % PLAYERS;
        let at = score(events.as_ref(), player, number, &random).await;
        handle.wait_for(at, PATIENCE).await.unwrap();
        assert_eq!(read(player).await, number);
    }
    shutdown.close(PATIENCE).await;
}
