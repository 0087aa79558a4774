//! The live stream.

use std::{sync::Arc, time::Duration};

use infra_core::{ErrorKind, SystemClock, context::Context, id::CorrelationId, random::Random};
use infra_observability::live::{Draft, Event, Filter, Item, Options, Stream};
use proptest::prelude::*;
use serde_json::json;

use crate::support::clock;

fn stream(options: Options) -> Stream {
    Stream::new(options, clock().1)
}

fn number(item: Option<Item>) -> u64 {
    match item {
        Some(Item::Event(event)) => event.sequence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn history_is_the_last_events_without_a_hole_under_concurrent_publishers() {
    let stream = stream(Options::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..3_000).for_each(|_| _ = stream.publish(Draft::new("tick"))));
        }
    });
    let history = stream.history(&Filter::default(), 0, usize::MAX);
    let numbers: Vec<u64> = history.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (2_001..=12_000).collect::<Vec<_>>());
    let after = stream.history(&Filter::default(), 11_990, 3);
    assert_eq!(after.iter().map(|e| e.sequence).collect::<Vec<_>>(), [11_998, 11_999, 12_000]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_holds_up_nobody_and_is_told_what_it_missed() {
    let stream = Stream::new(Options::default().queue(1_000).subscribers(2), SystemClock::shared());
    let mut slow = stream.subscribe("slow", Filter::default()).unwrap();
    let mut quick = stream.subscribe("quick", Filter::kinds(&["last"])).unwrap();
    let full = stream.subscribe("third", Filter::default()).unwrap_err();
    assert_eq!(full.kind(), &ErrorKind::Overloaded);
    (0..1_500).for_each(|_| _ = stream.publish(Draft::new("tick")));
    stream.publish(Draft::new("last"));
    assert_eq!(number(quick.next().await), 1_501);
    let stats = stream.stats();
    assert_eq!((stats.published, stats.by_kind["tick"]), (1_501, 1_500));
    let of = |place: usize| (stats.subscribers[place].queued, stats.subscribers[place].dropped);
    assert_eq!((of(0), of(1)), ((1_000, 501), (0, 0)));
    assert_eq!(slow.next().await, Some(Item::Gap(501)));
    assert_eq!(number(slow.next().await), 502);
    drop(quick);
    assert_eq!(stream.stats().subscribers.len(), 1, "who is dropped has unsubscribed");
    stream.close();
    for wanted in 503..=1_501 {
        assert_eq!(number(slow.next().await), wanted);
    }
    assert_eq!(slow.next().await, None, "the end closes the stream");
    assert_eq!(stream.subscribe("late", Filter::default()).unwrap_err().kind(), &ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_filter_lets_through_its_kinds_and_nothing_more_comes() {
    let stream = Stream::new(Options::default(), SystemClock::shared());
    let wanted = Filter::kinds(&["game.started", "game.ended"]);
    let mut subscription = stream.subscribe("test", wanted).unwrap();
    for kind in ["game.started", "player.joined", "game.ended"] {
        stream.publish(Draft::new(kind));
    }
    assert_eq!(number(subscription.next().await), 1);
    assert_eq!(number(subscription.next().await), 3);
    let third = tokio::time::timeout(Duration::from_millis(100), subscription.next()).await;
    assert!(third.is_err());
}

fn correlation(seed: u8) -> CorrelationId {
    CorrelationId::generate(infra_core::clock::Timestamp::EPOCH, &Random::seeded(u64::from(seed)))
}

proptest! {
    #[test]
    fn five_dimensions_filter_as_the_naive_model_does(
        events in proptest::collection::vec((0..2_u8, 0..2_u8, 0..2_u8, 0..2_u8, 0..2_u8), 1..30),
        wanted in proptest::array::uniform5(proptest::option::of(0..2_u8)),
    ) {
        let kinds = ["a", "b"];
        let stream = stream(Options::default());
        for (kind, game, room, player, id) in &events {
            let draft = Draft::new(kinds[usize::from(*kind)])
                .game(&game.to_string())
                .room(&room.to_string())
                .player(&player.to_string());
            let context = Context::default().correlation(correlation(*id));
            context.sync_scope(|| stream.publish(draft));
        }
        let [kind, game, room, player, id] = wanted;
        let filter = Filter {
            kinds: kind.map(|kind| kinds[usize::from(kind)].to_owned()).into_iter().collect(),
            game: game.map(|game| game.to_string()),
            room: room.map(|room| room.to_string()),
            player: player.map(|player| player.to_string()),
            correlation: id.map(correlation),
        };
        let same = |wanted: Option<u8>, is: u8| wanted.is_none_or(|wanted| wanted == is);
        let model: Vec<u64> = events
            .iter()
            .zip(1..)
            .filter(|((k, g, r, p, c), _)| {
                same(kind, *k) && same(game, *g) && same(room, *r) && same(player, *p) && same(id, *c)
            })
            .map(|(_, number)| number)
            .collect();
        let found: Vec<u64> =
            stream.history(&filter, 0, 100).iter().map(|event: &Arc<Event>| event.sequence).collect();
        prop_assert_eq!(found, model);
    }
}

#[test]
fn an_event_for_a_browser_is_one_line_of_json_without_secrets() {
    let stream = stream(Options::default());
    let data = json!({"players": 4, "hand": ["R1"], "deep": [{"resume_token": "x\ny"}]});
    stream.publish(Draft::new("game.started").game("game123").room(&"r".repeat(100)).data(data));
    let event = stream.history(&Filter::default(), 0, 1).remove(0);
    assert_eq!(event.room.as_deref().map(str::len), Some(64));
    let text = event.to_sse();
    assert!(text.starts_with("id: 1\nevent: game.started\ndata: {") && text.ends_with("}\n\n"));
    assert_eq!(text.matches('\n').count(), 4);
    assert!(text.contains("\"players\":4") && !text.contains("R1") && !text.contains("x\\ny"));
    assert_eq!(Item::Gap(3).to_sse(), "event: gap\ndata: {\"missed\":3}\n\n");
}
