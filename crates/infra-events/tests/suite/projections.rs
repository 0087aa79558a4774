//! Projections inline and in documents, through crashes, poison and rebuilds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result, SystemClock,
    codec::Payload,
    durability::Durability,
    event::{Append, EventStore, RecordedEvent},
    health::{HealthCheck, Status as Health},
    id::Collection,
    lifecycle::Shutdown,
    store::{Batch, Document, DocumentStore, Features, Query, Receipt, Scan},
    version::{Expected, Position},
};
use infra_events::projection::{Inline, Projecting, Projection, Projections, Projector};
use infra_testkit::{model::ModelDocuments, seed::Seed};
use rand::RngExt as _;

use crate::game::{Count, Event, Statistics, append, created, memory, stored, stream};

fn documents() -> Arc<dyn DocumentStore> {
    Arc::new(ModelDocuments::new(SystemClock::shared()))
}

fn projector(
    name: &'static str,
    events: &Arc<dyn EventStore>,
    documents: &Arc<dyn DocumentStore>,
) -> Arc<Projector<Statistics>> {
    let (events, documents) = (Arc::clone(events), Arc::clone(documents));
    Arc::new(Projector::new(Statistics(name), events, documents).unwrap().page(7))
}

const fn count(total: u64, active: i64, completed: u64) -> Count {
    Count { total, active, completed }
}

/// Appends so many events by chance.
async fn play(store: &dyn EventStore, seed: Seed, events: usize) {
    let mut dice = seed.dice();
    for number in 0..events {
        let game = format!("game-{}", dice.random_range(0..9));
        let (one, other) = (dice.random_range(0..5), dice.random_range(5..9));
        let event = match dice.random_range(0..4) {
            0 | 1 => created(&[&format!("p{one}"), &format!("p{other}")]),
            2 => Event::GameCompleted { winner: "p1".into() },
            _ => Event::PhaseChanged { to: number.to_string() },
        };
        append(store, &game, event).await;
    }
}

/// The views as a plain fold over all events has them.
async fn folded(store: &dyn EventStore) -> Vec<(String, Count)> {
    let page = store.read_all(Position::ZERO, &infra_core::event::Filter::default(), 100_000).await;
    let mut views: std::collections::BTreeMap<String, Count> = std::collections::BTreeMap::new();
    for event in page.unwrap().events {
        for key in Statistics("x").keys(&event) {
            Statistics("x").apply(&key, views.entry(key.clone()).or_default(), &event).unwrap();
        }
    }
    views.into_iter().collect()
}

#[tokio::test]
async fn statistics_of_a_game_are_counted_once_however_often_it_is_stepped() {
    let (events, documents) = (memory(), documents());
    append(events.as_ref(), "game-1", created(&["p1", "p2"])).await;
    append(events.as_ref(), "game-1", Event::GameStarted { by: "p1".into() }).await;
    let last =
        append(events.as_ref(), "game-1", Event::GameCompleted { winner: "p1".into() }).await;
    for _ in 0..3 {
        // Another projector is a restarted process.
        let statistics = projector("statistics", &events, &documents);
        statistics.catch_up().await.unwrap();
        assert_eq!(statistics.view("all").await.unwrap(), Some(count(1, 0, 1)));
        for player in ["player/p1", "player/p2"] {
            assert_eq!(statistics.view(player).await.unwrap().unwrap().total, 1, "{player}");
        }
        let status = statistics.status().await.unwrap();
        assert_eq!((status.position, status.lag()), (last, 0));
        assert_eq!(statistics.view("player/p9").await.unwrap(), None);
    }
}

/// A document store that dies at its n-th commit: before it, or after it and before the answer.
#[derive(Debug)]
struct Dying {
    inner: Arc<dyn DocumentStore>,
    left: AtomicI64,
    is_after: bool,
}

#[async_trait]
impl DocumentStore for Dying {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        self.inner.get(collection, key).await
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        self.inner.get_many(collection, keys).await
    }

    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        if 0 < self.left.fetch_sub(1, Ordering::SeqCst) {
            return self.inner.commit(batch).await;
        }
        if self.is_after {
            self.inner.commit(batch).await?;
        }
        Err(Error::new(ErrorKind::Indeterminate, "commit"))
    }

    async fn reach(&self, commit: Position, durability: Durability) -> Result<()> {
        self.inner.reach(commit, durability).await
    }

    async fn scan(&self, collection: &Collection, scan: Scan) -> Result<Vec<Document>> {
        self.inner.scan(collection, scan).await
    }

    async fn query(&self, collection: &Collection, query: Query) -> Result<Vec<Document>> {
        self.inner.query(collection, query).await
    }

    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64> {
        self.inner.count(collection, prefix).await
    }

    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>> {
        self.inner.history(collection, key, limit).await
    }
}

#[tokio::test]
async fn a_crash_at_any_commit_neither_skips_nor_counts_twice() {
    let events = memory();
    play(events.as_ref(), Seed(1), 60).await;
    let right = folded(events.as_ref()).await;
    for is_after in [false, true] {
        let mut n_steps = 0;
        for step in 0.. {
            let documents = documents();
            let (inner, left) = (Arc::clone(&documents), AtomicI64::new(step));
            let dying: Arc<dyn DocumentStore> = Arc::new(Dying { inner, left, is_after });
            let crashed = projector("statistics", &events, &dying);
            let died = crashed.catch_up().await.is_err() || crashed.rebuild().await.is_err();
            let restarted = projector("statistics", &events, &documents);
            restarted.catch_up().await.unwrap();
            let views = restarted.views("", 1_000).await.unwrap();
            assert_eq!(views, right, "died at {step}: {died}, after the commit: {is_after}");
            restarted.rebuild().await.unwrap();
            assert_eq!(restarted.views("", 1_000).await.unwrap(), right, "rebuilt after {step}");
            if !died {
                break;
            }
            n_steps += 1;
        }
        // Pages, the begin of the rebuild, its pages, its switch, and what is swept behind it.
        assert!(20 <= n_steps, "{n_steps} commits");
    }
}

#[tokio::test]
async fn a_rebuild_clears_wrong_views_serves_the_old_ones_meanwhile_and_leaves_nothing() {
    let (events, documents) = (memory(), documents());
    for game in 0..5 {
        append(events.as_ref(), &format!("game-{game}"), created(&["p1", "p2"])).await;
    }
    let statistics = projector("statistics", &events, &documents);
    statistics.catch_up().await.unwrap();
    // Somebody spoils a view.
    let projections = Collection::new("projections").unwrap();
    let scan = Scan::prefix("v/statistics/", 10);
    let stored = documents.scan(&projections, scan).await.unwrap();
    let all = stored.iter().find(|document| document.key.ends_with(b"/all")).unwrap();
    let text = String::from_utf8(all.payload.body.to_vec()).unwrap();
    let spoilt =
        text.replace("\"total\":5", "\"total\":100").replace("\"active\":5", "\"active\":50");
    let payload = Payload { body: spoilt.into(), ..all.payload.clone() };
    let batch = Batch::new().put(projections.clone(), all.key.clone(), Expected::Exists, payload);
    documents.commit(batch).await.unwrap();
    let restarted = projector("statistics", &events, &documents);
    restarted.begin_rebuild().await.unwrap();
    assert_eq!(restarted.view("all").await.unwrap(), Some(count(100, 50, 0)), "served meanwhile");
    assert_eq!(restarted.status().await.unwrap().rebuilt_to, Some(Position::ZERO));
    restarted.rebuild().await.unwrap();
    assert_eq!(restarted.view("all").await.unwrap(), Some(count(5, 5, 0)));
    assert_eq!(restarted.view("player/p1").await.unwrap().unwrap().total, 5);
    let status = restarted.status().await.unwrap();
    assert_eq!((status.lag(), status.rebuilt_to), (0, None));
    let left = documents.count(&projections, b"v/statistics/").await.unwrap();
    assert_eq!(left, 3, "the views of the generations before are gone");
    append(events.as_ref(), "game-9", created(&["p1"])).await;
    restarted.catch_up().await.unwrap();
    assert_eq!(restarted.view("all").await.unwrap(), Some(count(6, 6, 0)), "nothing is skipped");
}

#[tokio::test]
async fn a_projection_that_is_added_late_sees_what_one_from_the_start_saw() {
    for seed in Seed::each(8) {
        let (events, documents) = (memory(), documents());
        let (early, late) =
            (projector("early", &events, &documents), projector("late", &events, &documents));
        for part in 0..6 {
            play(events.as_ref(), Seed(seed.0 * 100 + part), 9).await;
            early.catch_up().await.unwrap();
        }
        late.catch_up().await.unwrap();
        let right = folded(events.as_ref()).await;
        assert_eq!(early.views("", 1_000).await.unwrap(), right, "{seed}");
        assert_eq!(late.views("", 1_000).await.unwrap(), right, "{seed}");
        early.rebuild().await.unwrap();
        assert_eq!(early.views("", 1_000).await.unwrap(), right, "rebuilt, {seed}");
        assert_eq!(late.views("player/", 2).await.unwrap().len(), 2, "paged by key");
    }
}

/// Final scores of each game, beside the statistics of another projection.
#[derive(Debug)]
struct Winners;

impl Projection for Winners {
    type View = Option<String>;

    fn name(&self) -> &'static str {
        "winners"
    }

    fn keys(&self, event: &RecordedEvent) -> Vec<String> {
        vec![event.stream.to_string()]
    }

    fn apply(&self, _key: &str, view: &mut Self::View, event: &RecordedEvent) -> Result<()> {
        if let Event::GameCompleted { winner } = event.event.payload.decode()? {
            *view = Some(winner);
        }
        Ok(())
    }
}

#[tokio::test]
async fn projections_of_one_store_do_not_see_each_other() {
    let (events, documents) = (memory(), documents());
    let statistics = projector("statistics", &events, &documents);
    let winners = Projector::new(Winners, Arc::clone(&events), Arc::clone(&documents)).unwrap();
    append(events.as_ref(), "game-1", created(&["ann", "bob"])).await;
    append(events.as_ref(), "game-1", Event::GameCompleted { winner: "ann".into() }).await;
    statistics.catch_up().await.unwrap();
    winners.catch_up().await.unwrap();
    assert_eq!(winners.view("game-1").await.unwrap(), Some(Some("ann".to_owned())));
    assert_eq!(winners.views("", 100).await.unwrap().len(), 1);
    assert_eq!(statistics.views("", 100).await.unwrap().len(), 3);
    winners.rebuild().await.unwrap();
    assert_eq!(winners.view("game-1").await.unwrap(), Some(Some("ann".to_owned())));
    assert_eq!(statistics.view("all").await.unwrap(), Some(count(1, 0, 1)));
    let slash = Projector::new(Statistics("a/b"), events, documents);
    assert_eq!(*slash.unwrap_err().kind(), ErrorKind::Invalid);
}

/// Counts events by stream; it cannot take the payload "poison" unless it was cured, and it
/// panics at "panic".
#[derive(Debug)]
struct Fragile(Arc<std::sync::atomic::AtomicBool>);

impl Projection for Fragile {
    type View = u64;

    fn name(&self) -> &'static str {
        "fragile"
    }

    fn keys(&self, event: &RecordedEvent) -> Vec<String> {
        vec![event.stream.to_string()]
    }

    fn apply(&self, key: &str, view: &mut u64, event: &RecordedEvent) -> Result<()> {
        *view += 1;
        let is_cured = self.0.load(Ordering::SeqCst);
        match event.event.payload.decode::<Event>()? {
            Event::PhaseChanged { to } if to == "poison" && !is_cured => {
                Err(Error::invalid("apply event", format!("poison in {key}")))
            }
            Event::PhaseChanged { to } if to == "panic" && !is_cured => panic!("it panics"),
            Event::GameCreated { .. }
            | Event::GameStarted { .. }
            | Event::PhaseChanged { .. }
            | Event::GameCompleted { .. } => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_poisoned_key_is_parked_with_its_cause_and_released_in_order() {
    let (events, documents) = (memory(), documents());
    let say = async |game: &str, word: &str| {
        append(events.as_ref(), game, Event::PhaseChanged { to: word.to_owned() }).await
    };
    let mut poison = Position::ZERO;
    for (game, word) in [
        ("a", "x"),
        ("b", "x"),
        ("a", "poison"),
        ("a", "x"),
        ("b", "x"),
        ("c", "panic"),
        ("a", "x"),
    ] {
        let position = say(game, word).await;
        poison = if word == "poison" { position } else { poison };
    }
    let cure = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let make = || {
        let fragile = Fragile(Arc::clone(&cure));
        let fragile = Projector::new(fragile, Arc::clone(&events), Arc::clone(&documents));
        Arc::new(fragile.unwrap().page(2))
    };
    let fragile = make();
    fragile.catch_up().await.unwrap();
    assert_eq!(fragile.view("a").await.unwrap(), Some(1), "as before the poison");
    assert_eq!(fragile.view("b").await.unwrap(), Some(2), "others go on");
    let status = make().status().await.unwrap();
    assert_eq!(status.lag(), 0);
    let parked: Vec<_> = status.parked.iter().map(|one| (one.key.as_str(), one.waiting)).collect();
    assert_eq!(parked, [("a", 2), ("c", 0)]);
    assert_eq!(status.parked[0].position, poison);
    assert!(status.parked[0].cause.contains("poison in a"), "{:?}", status.parked);
    assert!(status.parked[1].cause.contains("panicked"), "{:?}", status.parked);
    let set = Projections::new().with(Arc::clone(&fragile));
    let finding = set.check().await;
    assert_eq!(
        (finding.status, finding.detail.as_str()),
        (Health::Degraded, "2 keys of fragile are parked")
    );
    assert!(!fragile.retry("a").await.unwrap(), "it is as poisonous as before");
    cure.store(true, Ordering::SeqCst);
    assert!(fragile.retry("a").await.unwrap());
    assert!(fragile.retry("c").await.unwrap());
    assert!(fragile.retry("nobody").await.unwrap());
    assert_eq!(fragile.view("a").await.unwrap(), Some(4), "every event once");
    say("a", "x").await;
    fragile.catch_up().await.unwrap();
    assert_eq!(fragile.view("a").await.unwrap(), Some(5));
    assert_eq!(fragile.view("c").await.unwrap(), Some(1));
    assert_eq!(fragile.status().await.unwrap().parked, []);
    assert_eq!(set.check().await.status, Health::Up);
}

/// Never reads, for its filter is refused.
#[derive(Debug)]
struct Broken(Arc<dyn EventStore>);

#[async_trait]
impl EventStore for Broken {
    async fn append(&self, append: Append) -> Result<infra_core::event::Appended> {
        self.0.append(append).await
    }

    async fn read_stream(
        &self,
        stream: &infra_core::id::StreamName,
        from: infra_core::version::Version,
        direction: infra_core::event::Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        self.0.read_stream(stream, from, direction, limit).await
    }

    async fn read_all(
        &self,
        _after: Position,
        _filter: &infra_core::event::Filter,
        _limit: usize,
    ) -> Result<infra_core::event::EventPage> {
        Err(Error::new(ErrorKind::Corrupt, "read events"))
    }

    async fn subscribe(
        &self,
        after: Position,
        filter: infra_core::event::Filter,
    ) -> Result<infra_core::event::Subscription> {
        self.0.subscribe(after, filter).await
    }

    async fn stream_info(
        &self,
        stream: &infra_core::id::StreamName,
    ) -> Result<Option<infra_core::event::StreamInfo>> {
        self.0.stream_info(stream).await
    }

    async fn stable_head(&self) -> Result<Position> {
        self.0.stable_head().await
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        self.0.wait_for(position, patience).await
    }

    async fn truncate_before(
        &self,
        stream: &infra_core::id::StreamName,
        before: infra_core::version::Version,
    ) -> Result<()> {
        self.0.truncate_before(stream, before).await
    }

    async fn tombstone(
        &self,
        stream: &infra_core::id::StreamName,
        expected: Expected,
    ) -> Result<()> {
        self.0.tombstone(stream, expected).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projections_run_side_by_side_converge_and_survive_one_that_ends() {
    let (events, documents) = (memory(), documents());
    for (game, pair) in [["p0", "p1"], ["p1", "p2"], ["p2", "p3"]].into_iter().enumerate() {
        append(events.as_ref(), &format!("game-{game}"), created(&pair)).await;
    }
    let projectors: Vec<_> =
        ["one", "two", "three"].map(|name| projector(name, &events, &documents)).into();
    let broken: Arc<dyn EventStore> = Arc::new(Broken(Arc::clone(&events)));
    let ending = projector("ending", &broken, &documents);
    let mut set = Projections::new().with(ending);
    for one in &projectors {
        set = set.with(Arc::clone(one));
    }
    assert!(set.rebuild_all().await.is_err(), "the broken one is told");
    assert_eq!(
        projectors[2].view("all").await.unwrap(),
        Some(count(3, 3, 0)),
        "others are rebuilt"
    );
    assert_eq!(projectors[0].views("player/", 100).await.unwrap().len(), 4);
    let shutdown = Shutdown::new();
    set.start(&shutdown);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let events = Arc::clone(&events);
        writers.spawn(async move { play(events.as_ref(), Seed(writer), 50).await });
    }
    writers.join_all().await;
    let head = events.stable_head().await.unwrap();
    let right = folded(events.as_ref()).await;
    for one in &projectors {
        one.wait_for(head, Duration::from_secs(20)).await.unwrap();
        assert_eq!(one.views("", 1_000).await.unwrap(), right, "{}", one.name());
    }
    assert_eq!(set.failure("ending").map(|error| error.kind().clone()), Some(ErrorKind::Corrupt));
    assert_eq!(set.check().await.status, Health::Down);
    let ended = shutdown.close(Duration::from_secs(20)).await;
    assert_eq!((ended.panicked, ended.aborted), (0, 0), "all stop when they are told");
    let before = projectors[0].status().await.unwrap().position;
    append(events.as_ref(), "game-x", created(&["p1"])).await;
    let status = set.status().await.unwrap();
    assert!(
        status.iter().skip(1).all(|one| one.position == before && one.lag() == 1),
        "{status:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_projection_goes_on_when_its_documents_can_be_written_again() {
    let (events, inner) = (memory(), documents());
    let dying = Arc::new(Dying { inner, left: AtomicI64::new(0), is_after: false });
    let projector = Projector::new(
        Statistics("statistics"),
        Arc::clone(&events),
        Arc::<Dying>::clone(&dying) as Arc<dyn DocumentStore>,
    );
    let projector = projector.unwrap().workers(2).poll_interval(Duration::from_secs(5));
    let projector = Arc::new(projector.collection(Collection::new("views").unwrap()));
    let set = Projections::new().with(Arc::clone(&projector));
    let shutdown = Shutdown::new();
    let last = append(events.as_ref(), "game-1", created(&["p1"])).await;
    set.start(&shutdown);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(dying.left.load(Ordering::SeqCst) < -3, "it is tried again and again");
    assert_eq!(projector.view("all").await.unwrap(), None);
    assert!(set.failure("statistics").is_none(), "an outage ends no projection");
    dying.left.store(i64::MAX, Ordering::SeqCst);
    projector.wait_for(last, Duration::from_mins(1)).await.unwrap();
    assert_eq!(projector.view("all").await.unwrap(), Some(count(1, 1, 0)));
    // It sees the next one as well, once it has idled.
    tokio::time::sleep(Duration::from_mins(1)).await;
    let last = append(events.as_ref(), "game-2", created(&["p1"])).await;
    projector.wait_for(last, Duration::from_mins(1)).await.unwrap();
    assert_eq!(set.status().await.unwrap()[0].lag(), 0);
    assert_eq!((set.name(), set.check().await.status), ("projections", Health::Up));
    assert_eq!(shutdown.close(Duration::from_secs(20)).await.panicked, 0);
    let elsewhere = Scan::prefix("", 10);
    let views = Collection::new("projections").unwrap();
    assert_eq!(dying.scan(&views, elsewhere).await.unwrap(), [], "it has its own collection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inline_view_has_seen_an_append_when_it_is_acknowledged() {
    let events = memory();
    append(events.as_ref(), "game-0", created(&["p1"])).await;
    let inline = Arc::new(Inline::new(Statistics("inline")));
    let store = Projecting::new(Arc::clone(&events)).with(Arc::clone(&inline)).await.unwrap();
    assert_eq!(inline.view("all"), count(1, 1, 0), "what was there before");
    let store = Arc::new(store);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_u64 {
        let (store, inline) = (Arc::clone(&store), Arc::clone(&inline));
        writers.spawn(async move {
            let player = format!("w{writer}");
            for round in 1..=20 {
                append(store.as_ref(), &format!("g{writer}"), created(&[&player])).await;
                let seen =
                    inline.with(&format!("player/{player}"), |view| view.map(|view| view.total));
                assert_eq!(seen, Some(round));
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    assert_eq!(inline.view("all"), count(161, 161, 0));
    let views: Vec<_> =
        inline.keys().into_iter().map(|key| (key.clone(), inline.view(&key))).collect();
    assert_eq!(views, folded(events.as_ref()).await);
    let mut poison = stored(&created(&[]));
    poison.payload = Payload::json(1, "nobody knows this").unwrap();
    store.append(Append::to(stream("bad"), Expected::Any, vec![poison])).await.unwrap();
    let parked: Vec<_> = inline.parked().into_iter().map(|one| one.key).collect();
    assert_eq!(parked, ["stream/bad"]);
    assert_eq!(inline.position(), events.stable_head().await.unwrap());
}
