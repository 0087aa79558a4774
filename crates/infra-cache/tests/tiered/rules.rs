//! Invalidation by rules: at once, later, from time to time, by what holds, through each other, by stored events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use infra_cache::{
    Feed, FeedHandle, Glob, Handled, Invalidator, Loaded, LocalCache, Options, Purge, Rule, Rules,
    Signal, Tiered,
};
use infra_core::{
    Clock as _, Error, ErrorKind, Result, SystemClock,
    codec::Payload,
    event::{Append, EventStore, Filter, NewEvent},
    id::{EventId, EventType, StreamName},
    lifecycle::Shutdown,
    random::Random,
    version::{Expected, Position},
};
use infra_testkit::model::ModelEvents;
use serde_json::{Value, json};

use super::{SECOND, over, remote};

type Names = LocalCache<String, u64>;

fn filled(keys: &[&str]) -> Names {
    let names = LocalCache::new(Options::new(1_000), SystemClock::shared());
    put(&names, keys);
    names
}

fn put(names: &Names, keys: &[&str]) {
    for key in keys {
        names.put((*key).to_owned(), 1);
    }
}

fn left(names: &Names) -> Vec<String> {
    let mut keys: Vec<String> = names.entries().into_iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys
}

fn invalidator(names: &Names, rules: impl IntoIterator<Item = Rule>) -> Invalidator {
    Invalidator::new(names.clone(), Rules::new(rules).unwrap(), SystemClock::shared()).0
}

async fn handle(invalidator: &Invalidator, name: &str, fields: Value) -> Result<Handled> {
    invalidator.handle(&Signal::new(name, fields)).await
}

#[tokio::test]
async fn a_rule_removes_the_key_that_a_signal_names_and_nothing_else() {
    let names = filled(&["user:1", "user:2", "post:1:user:1", "user:*"]);
    let by_key = Rule::on("user_updated").key("user:{user_id}").unwrap();
    let nested = Rule::on("post_deleted").key("post:{post.id}:user:{post.author.0}").unwrap();
    let invalidator = invalidator(&names, [by_key, nested]);
    let handled = handle(&invalidator, "user_updated", json!({"user_id": 1})).await.unwrap();
    assert_eq!((handled.removed, handled.triggered), (1, 1));
    assert_eq!(left(&names), ["post:1:user:1", "user:*", "user:2"]);
    let again = handle(&invalidator, "user_updated", json!({"user_id": 1})).await.unwrap();
    assert_eq!(again.removed, 0, "it counts what was there");
    let star = handle(&invalidator, "user_updated", json!({"user_id": "*"})).await.unwrap();
    assert_eq!((star.removed, left(&names)), (1, vec!["post:1:user:1".into(), "user:2".into()]));
    let error = handle(&invalidator, "user_updated", json!({"id": 1})).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid, "a missing field is no empty text");
    let post = json!({"post": {"id": 1, "author": [1]}});
    assert_eq!(handle(&invalidator, "post_deleted", post).await.unwrap().removed, 1);
    assert_eq!(handle(&invalidator, "unknown", json!({})).await.unwrap(), Handled::default());
    assert_eq!(left(&names), ["user:2"]);
}

#[tokio::test]
async fn a_rule_removes_by_pattern_and_tag_in_both_tiers_and_a_field_is_no_wildcard() {
    let second = remote();
    let (one, two): (Tiered<u64>, Tiered<u64>) = (over(&second).build(), over(&second).build());
    for key in ["user:1", "user:2", "post:1", "post:2", "a*:1", "ab:1"] {
        one.put(key, Loaded::new(1).tagged("all")).await.unwrap();
    }
    let rules = [
        Rule::on("users_cleared").matching("user:*").unwrap(),
        Rule::on("left").matching("{who}:?").unwrap(),
        Rule::on("closed").tag("{tag}").unwrap(),
    ];
    let rules = Rules::new(rules).unwrap();
    let (invalidator, _) = Invalidator::new(one, rules, SystemClock::shared());
    assert_eq!(handle(&invalidator, "users_cleared", Value::Null).await.unwrap().removed, 2);
    assert_eq!(two.get("user:1").await.unwrap(), None);
    assert_eq!(two.get("post:1").await.unwrap(), Some(1));
    assert_eq!(handle(&invalidator, "left", json!({"who": "a*"})).await.unwrap().removed, 1);
    assert_eq!(two.get("ab:1").await.unwrap(), Some(1));
    assert_eq!(handle(&invalidator, "closed", json!({"tag": "all"})).await.unwrap().removed, 3);
}

#[tokio::test]
async fn a_condition_decides_whether_a_rule_holds_and_the_counts_say_so() {
    let names = filled(&["premium:user:1", "basic:user:2"]);
    let rule = Rule::on("user_updated").key("{tier}:user:{user_id}").unwrap();
    let rule = rule
        .when(|signal| signal.is("tier", "premium"))
        .when(|signal| signal.get("user_id").is_some());
    let invalidator = invalidator(&names, [rule]);
    let first = handle(&invalidator, "user_updated", json!({"user_id": 1, "tier": "premium"}));
    let first = first.await.unwrap();
    let second = handle(&invalidator, "user_updated", json!({"user_id": 2, "tier": "basic"}));
    let second = second.await.unwrap();
    assert_eq!((first.removed, first.triggered), (1, 1));
    assert_eq!((second.removed, second.triggered), (0, 0));
    assert_eq!(left(&names), ["basic:user:2"]);
    let missing = handle(&invalidator, "user_updated", json!({"tier": "premium"})).await.unwrap();
    assert_eq!(missing.triggered, 0, "what does not hold needs no fields");
}

#[tokio::test]
async fn rules_follow_one_another_through_conditions_and_a_circle_ends() {
    let names = filled(&["a:1", "b:1", "c:1", "d:1", "e:1"]);
    let on = |name: &str, key: &str| Rule::on(name).key(key).unwrap();
    let invalidator = invalidator(
        &names,
        [
            on("a", "a:{id}").then("b").then("never"),
            on("b", "b:{id}").then("c"),
            on("c", "c:{id}")
                .when(|signal| signal.is("deep", "true"))
                .then("a")
                .then("b")
                .then("d"),
            on("d", "d:{id}").when(|signal| signal.is("deeper", "true")).then("e"),
            on("e", "e:{id}"),
        ],
    );
    let shallow = handle(&invalidator, "a", json!({"id": 1})).await.unwrap();
    assert_eq!((shallow.removed, shallow.triggered), (2, 2));
    assert_eq!(left(&names), ["c:1", "d:1", "e:1"]);
    let deep = handle(&invalidator, "a", json!({"id": 1, "deep": true})).await.unwrap();
    assert_eq!((deep.removed, deep.triggered), (1, 3), "through the circle once");
    assert_eq!(left(&names), ["d:1", "e:1"]);
}

#[tokio::test(start_paused = true)]
async fn delayed_removals_are_done_at_their_time_in_their_order() {
    let names = filled(&["a", "b", "c", "d"]);
    let rules = [
        Rule::on("it").key("b").unwrap().after(SECOND * 2),
        Rule::on("it").key("a").unwrap().after(SECOND),
        // The way that is sooner counts.
        Rule::on("it").after(SECOND * 5).then("then"),
        Rule::on("it").after(SECOND).then("then"),
        Rule::on("then").key("c").unwrap().after(SECOND * 2),
    ];
    let rules = Rules::new(rules).unwrap();
    let (invalidator, scheduler) = Invalidator::new(names.clone(), rules, SystemClock::shared());
    let shutdown = Shutdown::new();
    shutdown.spawn(scheduler.run(shutdown.stop()));
    let handled = handle(&invalidator, "it", Value::Null).await.unwrap();
    assert_eq!((handled.removed, handled.delayed, handled.triggered), (0, 3, 5));
    let expected = ["abcd", "bcd", "cd"];
    for letters in expected {
        tokio::time::sleep(Duration::from_millis(990)).await;
        assert_eq!(left(&names).concat(), letters);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(left(&names), ["d"]);
    shutdown.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn rules_of_time_hold_each_period_and_bring_others_about() {
    let names = filled(&["board:1", "board:2", "user:1"]);
    let rules = [
        Rule::every(SECOND * 10).matching("board:*").unwrap().then("boards_cleared"),
        Rule::on("boards_cleared").key("user:1").unwrap().after(SECOND),
    ];
    let rules = Rules::new(rules).unwrap();
    let (_invalidator, scheduler) = Invalidator::new(names.clone(), rules, SystemClock::shared());
    let shutdown = Shutdown::new();
    shutdown.spawn(scheduler.run(shutdown.stop()));
    let start = tokio::time::sleep(Duration::ZERO).deadline();
    for period in 1..4 {
        let at = |millis| {
            tokio::time::sleep_until(start + SECOND * 10 * period + Duration::from_millis(millis))
        };
        at(0).await;
        at(10).await;
        assert_eq!(left(&names), ["user:1"]);
        at(990).await;
        assert_eq!(left(&names), ["user:1"]);
        at(1_010).await;
        assert!(left(&names).is_empty());
        put(&names, &["board:1", "board:2", "user:1"]);
        at(9_990).await;
        assert_eq!(left(&names).len(), 3, "not before the next period");
    }
    shutdown.close(SECOND).await;
}

#[test]
fn rules_of_time_that_cannot_hold_are_refused() {
    for rule in [
        Rule::every(SECOND).key("{field}").unwrap(),
        Rule::every(SECOND).tag("a").unwrap().when(|_| true),
        Rule::every(SECOND).tag("a").unwrap().after(SECOND),
        Rule::every(Duration::ZERO).tag("a").unwrap(),
    ] {
        let shown = format!("{rule:?}");
        assert_eq!(*Rules::new([rule]).unwrap_err().kind(), ErrorKind::Invalid, "{shown}");
    }
    assert!(Rule::on("a").key("{").is_err() && Rule::on("a").tag("}").is_err());
}

/// A cache that fails as often as it is told to, and counts what it is asked.
#[derive(Debug, Clone, Default)]
struct Frail {
    failures: Arc<AtomicU64>,
    keys: Arc<AtomicU64>,
    clears: Arc<AtomicU64>,
}

impl Frail {
    fn step(&self, count: &AtomicU64) -> Result<u64> {
        let failing =
            self.failures.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if failing.is_ok() {
            return Err(Error::new(ErrorKind::Unavailable, "purge"));
        }
        Ok(count.fetch_add(1, Ordering::SeqCst))
    }
}

#[async_trait]
impl Purge for Frail {
    async fn purge_key(&self, _key: &str) -> Result<u64> {
        self.step(&self.keys).map(|_| 1)
    }

    async fn purge_matching(&self, _pattern: &Glob) -> Result<u64> {
        self.step(&self.keys)
    }

    async fn purge_tag(&self, _tag: &str) -> Result<u64> {
        self.step(&self.keys)
    }

    async fn purge_everything(&self) -> Result<()> {
        self.step(&self.clears).map(drop)
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_the_cache_fails_is_tried_again_until_it_is_done() {
    let frail = Frail::default();
    let rules = [
        Rule::on("it").key("a").unwrap().after(SECOND),
        Rule::every(SECOND * 30).tag("t").unwrap(),
    ];
    let rules = Rules::new(rules).unwrap();
    let (invalidator, scheduler) = Invalidator::new(frail.clone(), rules, SystemClock::shared());
    let shutdown = Shutdown::new();
    shutdown.spawn(scheduler.run(shutdown.stop()));
    frail.failures.store(5, Ordering::SeqCst);
    handle(&invalidator, "it", Value::Null).await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(frail.keys.load(Ordering::SeqCst), 0, "no tight loop");
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(frail.keys.load(Ordering::SeqCst), 1);
    frail.failures.store(2, Ordering::SeqCst);
    tokio::time::sleep(SECOND * 20).await;
    assert_eq!(frail.keys.load(Ordering::SeqCst), 2, "the rule of time as well");
    shutdown.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn removals_that_are_due_together_are_done_together() {
    let frail = Frail::default();
    let rules = Rules::new([Rule::on("it").key("{n}").unwrap().after(SECOND)]).unwrap();
    let (invalidator, scheduler) = Invalidator::new(frail.clone(), rules, SystemClock::shared());
    let shutdown = Shutdown::new();
    shutdown.spawn(scheduler.run(shutdown.stop()));
    for n in 0..1_000 {
        handle(&invalidator, "it", json!({"n": n})).await.unwrap();
    }
    tokio::time::sleep(SECOND + Duration::from_millis(10)).await;
    assert_eq!(frail.keys.load(Ordering::SeqCst), 1_000);
    shutdown.close(SECOND).await;
}

#[tokio::test]
async fn more_delayed_removals_than_are_kept_are_done_at_once() {
    let frail = Frail::default();
    let rules = Rules::new([Rule::on("it").key("{n}").unwrap().after(SECOND)]).unwrap();
    let (invalidator, _scheduler) = Invalidator::new(frail.clone(), rules, SystemClock::shared());
    let mut done = 0;
    for n in 0..10_005 {
        done += handle(&invalidator, "it", json!({"n": n})).await.unwrap().removed;
    }
    assert_eq!((done, frail.keys.load(Ordering::SeqCst)), (5, 5));
}

// --- stored events ---

struct Log {
    events: Arc<ModelEvents>,
    random: Random,
}

impl Log {
    fn new() -> Self {
        Self {
            events: Arc::new(ModelEvents::new(SystemClock::shared())),
            random: Random::seeded(1),
        }
    }

    async fn append(&self, name: &str, payload: Payload) -> Position {
        let id = EventId::generate(SystemClock::new().wall(), &self.random);
        let event = NewEvent::new(id, EventType::new(name).unwrap(), payload).with("by", "Ann");
        let stream = StreamName::new("players").unwrap();
        let append = Append::to(stream, Expected::Any, vec![event]);
        self.events.append(append).await.unwrap().position
    }

    async fn json(&self, name: &str, fields: Value) -> Position {
        self.append(name, Payload::json(1, &fields).unwrap()).await
    }

    fn feed(
        &self,
        cache: impl Purge + 'static,
        rules: impl IntoIterator<Item = Rule>,
    ) -> (Feed, FeedHandle) {
        let (invalidator, _) =
            Invalidator::new(cache, Rules::new(rules).unwrap(), SystemClock::shared());
        Feed::new(Arc::clone(&self.events) as _, Filter::default(), invalidator)
    }
}

fn player_rules() -> Vec<Rule> {
    vec![
        Rule::on("renamed").key("player:{id}").unwrap(),
        Rule::on("banned").key("by:{@metadata.by}:{@stream}").unwrap(),
        Rule::on("counted").key("{value}").unwrap(),
    ]
}

#[tokio::test(start_paused = true)]
async fn stored_events_remove_what_they_are_about_and_a_reader_can_wait_for_that() {
    let log = Log::new();
    log.json("renamed", json!({"id": 2})).await;
    let names = filled(&["player:1", "player:2", "by:Ann:players", "7"]);
    let (feed, handle) = log.feed(names.clone(), player_rules());
    let shutdown = Shutdown::new();
    shutdown.spawn(feed.run(shutdown.stop()));
    handle.wait_for(Position::new(1), SECOND).await.unwrap();
    assert!(left(&names).is_empty(), "nobody told what happened before");
    put(&names, &["player:1", "player:2", "by:Ann:players", "7"]);
    let at = log.json("renamed", json!({"id": 1})).await;
    handle.wait_for(at, SECOND).await.unwrap();
    assert_eq!(left(&names), ["7", "by:Ann:players", "player:2"]);
    log.json("banned", json!({})).await;
    let at = log.json("counted", json!(7)).await;
    handle.wait_for(at, SECOND).await.unwrap();
    assert_eq!((left(&names), handle.position()), (vec!["player:2".to_owned()], at));
    // One that no rule is about, even if nobody can read it.
    let at = log.append("other", Payload::raw("?")).await;
    handle.wait_for(at, SECOND).await.unwrap();
    assert_eq!(left(&names), ["player:2"]);
    // Those that may be about anything.
    for (name, payload) in [
        ("renamed", Payload::raw("?")),
        ("renamed", Payload::json(1, &json!({"nobody": 1})).unwrap()),
    ] {
        names.put("player:2".to_owned(), 1);
        let at = log.append(name, payload).await;
        handle.wait_for(at, SECOND).await.unwrap();
        assert!(left(&names).is_empty());
    }
    let late = handle.wait_for(Position::new(99), SECOND).await.unwrap_err();
    assert_eq!(*late.kind(), ErrorKind::Timeout);
    shutdown.close(SECOND).await;
    let closed = handle.wait_for(Position::new(99), SECOND).await.unwrap_err();
    assert_eq!(*closed.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_goes_on_where_another_ended_skips_nothing_and_clears_nothing() {
    let log = Log::new();
    let first = log.json("renamed", json!({"id": 1})).await;
    let second = log.json("renamed", json!({"id": 2})).await;
    let names = filled(&["player:1", "player:2", "player:3"]);
    let (feed, handle) = log.feed(names.clone(), player_rules());
    let shutdown = Shutdown::new();
    let feed = feed.after(first);
    assert_eq!(handle.position(), first, "also before it runs");
    shutdown.spawn(feed.run(shutdown.stop()));
    handle.wait_for(second, SECOND).await.unwrap();
    assert_eq!(left(&names), ["player:1", "player:3"]);
    shutdown.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_is_applied_though_the_cache_fails_at_first() {
    let (log, frail) = (Log::new(), Frail::default());
    frail.failures.store(3, Ordering::SeqCst);
    let (feed, handle) = log.feed(frail.clone(), player_rules());
    let shutdown = Shutdown::new();
    shutdown.spawn(feed.run(shutdown.stop()));
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!(frail.clears.load(Ordering::SeqCst), 1, "at last it could begin");
    frail.failures.store(4, Ordering::SeqCst);
    let at = log.json("renamed", json!({"id": 1})).await;
    let next = log.json("renamed", json!({"id": 2})).await;
    assert!(handle.wait_for(at, Duration::from_millis(50)).await.is_err());
    handle.wait_for(next, SECOND * 60).await.unwrap();
    assert_eq!(frail.keys.load(Ordering::SeqCst), 2);
    shutdown.close(SECOND).await;
}

/// Writers change the truth and append what they changed; whoever waits for his event sees nothing older.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_an_event_is_applied_no_read_is_older_than_it() {
    let log = Arc::new(Log::new());
    let names = filled(&[]);
    let (feed, handle) = log.feed(names.clone(), [Rule::on("set").key("k").unwrap()]);
    let shutdown = Shutdown::new();
    shutdown.spawn(feed.run(shutdown.stop()));
    let (truth, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let reader = tokio::spawn({
        let (names, truth, is_over) = (names.clone(), Arc::clone(&truth), Arc::clone(&is_over));
        async move {
            while !is_over.load(Ordering::SeqCst) {
                let truth = Arc::clone(&truth);
                let load = || async move { Ok(truth.load(Ordering::SeqCst)) };
                names.get_or_load(&"k".to_owned(), load).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for value in 1..300 {
        truth.store(value, Ordering::SeqCst);
        let at = log.json("set", json!({})).await;
        handle.wait_for(at, SECOND * 10).await.unwrap();
        let seen = truth.load(Ordering::SeqCst);
        let load = || async move { Ok(seen) };
        assert_eq!(names.get_or_load(&"k".to_owned(), load).await.unwrap(), value);
    }
    is_over.store(true, Ordering::SeqCst);
    reader.await.unwrap();
    shutdown.close(SECOND).await;
}
