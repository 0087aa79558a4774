//! Routing: the trie against the definition of its dialects, and the router over queues.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{sync::Arc, time::Duration};

use infra_core::{
    ErrorKind, SystemClock,
    codec::Payload,
    durability::Durability,
    id::QueueName,
    queue::{Message, Priority, Queue},
    random::Random,
};
use infra_messaging::{
    MemoryQueue, Mint, Options,
    route::{DESTINATION, Dialect, Routed, Router, Rule, Then, Trie},
};

/// The definition of both dialects, by recursion over tokens.
fn naive(dialect: Dialect, filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        ([">"], rest) if dialect == Dialect::Nats => !rest.is_empty(),
        (["#"], _) if dialect == Dialect::Mqtt => true,
        ([word, filter @ ..], [token, topic @ ..]) => {
            let one = if dialect == Dialect::Nats { "*" } else { "+" };
            (*word == one || word == token) && naive(dialect, filter, topic)
        }
        (filter, topic) => filter.is_empty() && topic.is_empty(),
    }
}

/// `INFRA_MATCHES` pairs; 1,000,000 for the full run.
#[test]
fn the_trie_admits_what_the_definition_says() {
    let n_pairs: u64 =
        std::env::var("INFRA_MATCHES").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let random = Random::seeded(11);
    let draw =
        |words: &[&'static str]| words[usize::try_from(random.below(words.len() as u64)).unwrap()];
    let mut n_admitted = 0;
    for pair in 0..n_pairs {
        let (dialect, separator, one, rest) = if pair % 2 == 0 {
            (Dialect::Nats, ".", "*", ">")
        } else {
            (Dialect::Mqtt, "/", "+", "#")
        };
        let mut filter: Vec<&str> = (0..=random.below(4)).map(|_| draw(&["a", "b", one])).collect();
        if random.below(3) == 0 {
            filter.push(rest);
        }
        let topic: Vec<&str> = (0..=random.below(5)).map(|_| draw(&["a", "b"])).collect();
        let mut trie = Trie::new(dialect);
        trie.insert(&filter.join(separator), ()).unwrap();
        let admitted = !trie.matches(&topic.join(separator)).unwrap().is_empty();
        assert_eq!(admitted, naive(dialect, &filter, &topic), "{filter:?} {topic:?}");
        n_admitted += u64::from(admitted);
    }
    assert!(n_pairs / 20 < n_admitted, "too few pairs match to show anything");
}

#[test]
fn a_hundred_thousand_subscriptions_are_found_as_by_looking_at_each() {
    let mut trie = Trie::new(Dialect::Nats);
    let random = Random::seeded(5);
    let mut filters = Vec::new();
    for number in 0..100_000_u64 {
        let room = random.below(20_000);
        let filter = match number % 4 {
            0 => format!("room.{room}.events"),
            1 => format!("room.{room}.*"),
            2 => format!("room.{room}.>"),
            _ => format!("player.{room}.{}.joined", number % 7),
        };
        trie.insert(&filter, number).unwrap();
        filters.push(filter);
    }
    for room in [0, 77, 19_999] {
        let topic = format!("room.{room}.events");
        let tokens: Vec<&str> = topic.split('.').collect();
        let wanted: Vec<u64> = (0..)
            .zip(&filters)
            .filter(|(_, filter)| {
                naive(Dialect::Nats, &filter.split('.').collect::<Vec<_>>(), &tokens)
            })
            .map(|(number, _)| number)
            .collect();
        let found: Vec<u64> = trie.matches(&topic).unwrap().into_iter().copied().collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn what_is_removed_matches_no_more_and_malformed_filters_are_refused() {
    let mut trie = Trie::new(Dialect::Mqtt);
    for filter in ["a/+/c", "a/#", "a/b/c"] {
        trie.insert(filter, filter).unwrap();
    }
    assert_eq!(trie.matches("a").unwrap(), [&"a/#"], "`#` also stands for no level");
    assert_eq!(trie.remove("a/+/c", |_| true).unwrap(), 1);
    assert_eq!(trie.remove("a/+/c", |_| true).unwrap(), 0);
    assert_eq!(trie.remove("a/#", |_| true).unwrap(), 1);
    assert_eq!(trie.matches("a/b/c").unwrap(), [&"a/b/c"]);
    trie.insert("#", "all").unwrap();
    assert!(trie.matches("$SYS/load").unwrap().is_empty(), "hidden from wildcards");
    for (dialect, filter) in [
        (Dialect::Nats, ""),
        (Dialect::Nats, "a..b"),
        (Dialect::Nats, "a.>.b"),
        (Dialect::Nats, "a*"),
        (Dialect::Mqtt, "a/#/b"),
        (Dialect::Mqtt, "a+/b"),
        (Dialect::Mqtt, "a\u{0}"),
    ] {
        let said = Trie::new(dialect).insert(filter, ()).unwrap_err();
        assert_eq!(*said.kind(), ErrorKind::Invalid, "{filter}");
    }
    assert!(trie.matches("a/+").is_err(), "a topic has no wildcards");
}

fn mint() -> Mint {
    Mint::new(SystemClock::shared(), Random::seeded(1))
}

fn queue(name: &str, capacity: usize) -> Arc<dyn Queue> {
    let name = QueueName::new(name).unwrap();
    Arc::new(MemoryQueue::new(name, Options::new(capacity), SystemClock::shared()))
}

fn router(names: &[&str]) -> (Router, Vec<Arc<dyn Queue>>) {
    let mut router = Router::new(Dialect::Mqtt, mint());
    let queues: Vec<_> = names.iter().map(|name| queue(name, 10)).collect();
    for queue in &queues {
        router.add(Arc::clone(queue)).unwrap();
    }
    (router, queues)
}

async fn sizes(queues: &[Arc<dyn Queue>]) -> Vec<u64> {
    let mut sizes = Vec::new();
    for queue in queues {
        sizes.push(queue.stats().await.unwrap().ready);
    }
    sizes
}

fn message() -> Message {
    mint().message(Payload::json(1, &serde_json::json!({"room": {"id": 7}})).unwrap())
}

fn names(routed: &[Routed]) -> Vec<&str> {
    routed.iter().map(|one| one.destination.as_str()).collect()
}

async fn send(router: &Router, topic: &str) -> Vec<Routed> {
    router.route(topic, &message(), Durability::Applied).await.unwrap()
}

#[tokio::test]
async fn each_destination_gets_an_envelope_of_its_own() {
    let (mut router, queues) = router(&["queue1", "queue2"]);
    for (topic, to) in [("p1", "queue1"), ("p2", "queue2"), ("both", "queue1"), ("both", "queue2")]
    {
        router.topic(topic, to).unwrap();
    }
    router.topic("bo+h", "queue1").unwrap_err();
    router.topic("+", "queue1").unwrap();
    router.remove_topic("+", "queue1").unwrap();
    assert_eq!(names(&send(&router, "p1").await), ["queue1"]);
    assert_eq!(sizes(&queues).await, [1, 0]);
    router.topic("both", "queue1").unwrap();
    assert_eq!(names(&send(&router, "both").await), ["queue1", "queue2"], "once each");
    assert_eq!(sizes(&queues).await, [2, 1]);
    let lease = Duration::from_secs(9);
    let mut one = queues[0].receive(2, lease).await.unwrap();
    let other = queues[1].receive(1, lease).await.unwrap();
    assert_ne!(one[1].message().id, other[0].message().id);
    assert_eq!(one[1].message().payload, other[0].message().payload);
    one.remove(1).ack().await.unwrap();
    drop(other);
    assert_eq!(sizes(&queues).await, [0, 1], "done in one queue, there in the other");
}

#[tokio::test]
async fn a_destination_that_refuses_is_told_and_hinders_no_other() {
    let mut router = Router::new(Dialect::Nats, mint());
    for queue in [queue("full", 0), queue("free", 1)] {
        let name = queue.name().to_string();
        router.add(queue).unwrap();
        router.topic(">", &name).unwrap();
    }
    let sent = send(&router, "any.thing").await;
    let told: Vec<_> =
        sent.iter().map(|one| (one.destination.as_str(), one.result.is_ok())).collect();
    assert_eq!(told, [("free", true), ("full", false)]);
    assert!(router.add(queue("free", 1)).is_err());
}

#[tokio::test]
async fn topics_go_where_their_filters_say() {
    let (mut router, queues) = router(&["game_events", "player_events", "all_events"]);
    router.topic("game/+", "game_events").unwrap();
    router.topic("player/+/joined", "player_events").unwrap();
    router.topic("#", "all_events").unwrap();
    send(&router, "game/started").await;
    assert_eq!(sizes(&queues).await, [1, 0, 1]);
    send(&router, "player/123/joined").await;
    assert_eq!(sizes(&queues).await, [1, 1, 2]);
}

#[tokio::test]
async fn what_no_route_is_for_is_an_error_or_goes_to_the_alternate() {
    let (mut router, queues) = router(&["direct1", "direct2", "rest"]);
    let to = |name: &str| message().header(DESTINATION, name);
    let sent = router.direct(&to("direct1"), Durability::Applied).await.unwrap();
    assert_eq!(names(&sent), ["direct1"]);
    assert_eq!(sizes(&queues).await, [1, 0, 0]);
    for lost in [to("nowhere"), message(), to("")] {
        let said = router.direct(&lost, Durability::Applied).await.unwrap_err();
        assert_eq!(*said.kind(), ErrorKind::NotFound);
    }
    let said = router.route("nowhere", &message(), Durability::Applied).await.unwrap_err();
    assert_eq!(*said.kind(), ErrorKind::NotFound);
    assert!(router.alternate("nowhere").is_err());
    router.alternate("rest").unwrap();
    router.direct(&to("nowhere"), Durability::Applied).await.unwrap();
    send(&router, "nowhere").await;
    assert_eq!(sizes(&queues).await, [1, 0, 2]);
}

#[tokio::test]
async fn rules_are_asked_by_rank_until_one_is_the_last() {
    let (mut router, queues) = router(&["urgent", "room7", "bots", "rest"]);
    let urgent = Rule::AtLeast(Priority::High);
    router.rule(1, Rule::content("/room/id", 7), &["room7"], Then::GoOn).unwrap();
    router.rule(9, urgent, &["urgent"], Then::Stop).unwrap();
    let bots = Rule::All(vec![
        Rule::header("kind", "bot"),
        Rule::Not(Box::new(Rule::Any(vec![Rule::header("name", "x"), Rule::header("name", "y")]))),
    ]);
    router.rule(0, bots, &["bots"], Then::GoOn).unwrap();
    router.topic("#", "rest").unwrap();
    let raw = mint().message(Payload::raw("no JSON"));
    for (message, wanted) in [
        (message(), vec!["room7"]),
        (message().priority(Priority::High), vec!["urgent"]),
        (message().header("kind", "bot"), vec!["bots", "room7"]),
        (message().header("kind", "bot").header("name", "x"), vec!["room7"]),
        (raw, vec!["rest"]),
    ] {
        let sent = router.route("t", &message, Durability::Applied).await.unwrap();
        assert_eq!(names(&sent), wanted);
    }
    assert_eq!(sizes(&queues).await, [1, 3, 1, 1]);
    assert!(router.rule(0, Rule::header("a", "b"), &["nowhere"], Then::GoOn).is_err());
}

#[tokio::test]
async fn a_game_event_reaches_the_subscriber_of_its_topic_with_its_priority() {
    let mut router = Router::new(Dialect::Nats, mint());
    let started = queue("started", 9);
    router.add(Arc::clone(&started)).unwrap();
    router.topic("game.started.*", "started").unwrap();
    let event = message().priority(Priority::High).key("room123").header("game", "game456");
    let sent = router.route("game.started.room123", &event, Durability::Applied).await.unwrap();
    assert_eq!(names(&sent), ["started"]);
    let got = started.receive(1, Duration::from_secs(9)).await.unwrap();
    let got = got[0].message();
    assert_eq!((got.priority, got.key.as_deref()), (Priority::High, Some("room123")));
    let said = router.route("game.paused.room123", &event, Durability::Applied).await;
    assert!(said.is_err(), "what nobody listens to does not count as published");
}
