//! The contracts of the stores behind policies, and what the policies do when a store fails.

use std::{
    future::Ready,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use infra_core::{
    Error, ErrorKind, SystemClock,
    budget::{CallBudget, Deadline},
    clock::Timestamp,
    codec::Payload,
    context::Context,
    event::{
        Append, Appended, Direction, EventPage, Filter, NewEvent, RecordedEvent, StreamInfo,
        Subscription,
    },
    health::Status,
    id::{Collection, EventId, EventType, StreamName},
    pubsub::{Item, Pattern, Subject, Subscription as Listening},
    random::Random,
    store::Batch,
    version::{Expected, Position, Version},
};
use infra_events::MemoryEventStore;
use infra_messaging::MemoryPubSub;
use infra_observability::{
    exporter::Exporter,
    trace::{Buffer, Finished, Sampler, Spans, Status as SpanStatus, context_of, traced},
};
use infra_persistence::Archive;
use tracing_subscriber::{Registry, layer::SubscriberExt as _};

use super::*;

const PATIENCE: Duration = Duration::from_secs(2);

fn guarded_over(events: Arc<dyn EventStore>) -> Guarded {
    with_bus(events, Arc::new(MemoryPubSub::new(100)))
}

fn with_bus(events: Arc<dyn EventStore>, bus: Arc<dyn PubSub>) -> Guarded {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let documents = Arc::new(infra_persistence::memory(Arc::clone(&clock)).unwrap());
    Guarded::new((events, documents, Arc::new(Archive::in_memory())), bus, PATIENCE, &clock)
}

fn guarded() -> Guarded {
    guarded_over(Arc::new(MemoryEventStore::new(SystemClock::shared())))
}

fn events() -> Ready<Arc<dyn EventStore>> {
    std::future::ready(guarded().events)
}

fn documents() -> Ready<Arc<dyn DocumentStore>> {
    std::future::ready(guarded().documents)
}

fn archive() -> Ready<Arc<dyn ArchiveStore>> {
    std::future::ready(guarded().archive)
}

fn bus() -> Ready<Arc<dyn PubSub>> {
    std::future::ready(guarded().bus)
}

mod guarded_events_keep {
    infra_testkit::event_store_contract!(super::events());
}

mod guarded_documents_keep {
    infra_testkit::document_store_contract!(super::documents());
}

mod guarded_archive_keeps {
    infra_testkit::archive_store_contract!(super::archive());
}

mod guarded_bus_keeps {
    infra_testkit::pubsub_contract!(super::bus());
}

/// Fails or hangs so many times, then serves.
#[derive(Debug)]
struct Failing {
    store: MemoryEventStore,
    failures: AtomicU32,
    asked: AtomicU32,
    hangs: bool,
}

impl Failing {
    fn new(failures: u32, hangs: bool) -> Arc<Self> {
        Arc::new(Self {
            store: MemoryEventStore::new(SystemClock::shared()),
            failures: AtomicU32::new(failures),
            asked: AtomicU32::new(0),
            hangs,
        })
    }

    async fn fail(&self) -> Result<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let is_failing = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match is_failing {
            Ok(_) if self.hangs => std::future::pending().await,
            Ok(_) => Err(Error::new(ErrorKind::Unavailable, "ask store")),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl EventStore for Failing {
    async fn append(&self, append: Append) -> Result<Appended> {
        self.fail().await?;
        self.store.append(append).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        self.fail().await?;
        self.store.read_stream(stream, from, direction, limit).await
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        self.store.read_all(after, filter, limit).await
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        self.fail().await?;
        self.store.subscribe(after, filter).await
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        self.store.stream_info(stream).await
    }

    async fn stable_head(&self) -> Result<Position> {
        self.fail().await?;
        self.store.stable_head().await
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        self.store.wait_for(position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        self.store.truncate_before(stream, before).await
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        self.fail().await?;
        self.store.tombstone(stream, expected).await
    }
}

#[tokio::test(start_paused = true)]
async fn reads_are_tried_again_and_what_must_be_made_once_is_not() {
    let failing = Failing::new(2, false);
    let guarded = guarded_over(Arc::<Failing>::clone(&failing));
    assert_eq!(guarded.events.stable_head().await.unwrap(), Position::ZERO);
    assert_eq!(failing.asked.load(Ordering::SeqCst), 3);
    let failing = Failing::new(1, false);
    let guarded = guarded_over(Arc::<Failing>::clone(&failing));
    let refused = guarded.events.subscribe(Position::ZERO, Filter::default()).await;
    assert_eq!(*refused.err().unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(failing.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up_left_alone_and_asked_again() {
    let failing = Failing::new(6, true);
    let guarded = guarded_over(Arc::<Failing>::clone(&failing));
    assert_eq!(guarded.health.check().await.status, Status::Up);
    let clock = SystemClock::shared();
    let begun = clock.now();
    for _ in 0..2 {
        let given_up = guarded.events.stable_head().await.unwrap_err();
        assert!(given_up.is_transient(), "{given_up}");
    }
    assert_eq!(failing.asked.load(Ordering::SeqCst), 5, "then the breaker is open");
    assert!(clock.now().since(begun) < PATIENCE * 6, "{:?}", clock.now().since(begun));
    let finding = guarded.health.check().await;
    assert_eq!((finding.status, &*finding.detail), (Status::Degraded, "events: open"));
    let begun = clock.now();
    let left_alone = guarded.events.stable_head().await.unwrap_err();
    assert!(
        Refused::of(&left_alone).is_some() && clock.now().since(begun).is_zero(),
        "{left_alone}"
    );
    // One probe hangs as well; after the longest pause the next one closes it.
    let mut tries = 0;
    while guarded.events.stable_head().await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        tries += 1;
        assert!(tries < 100, "it is never asked again: {:?}", clock.now().since(begun));
    }
    assert!(
        clock.now().since(begun) < PATIENCE + LONGEST_PAUSE * 3,
        "{tries} tries, {:?}",
        clock.now().since(begun)
    );
    assert_eq!(guarded.health.check().await.status, Status::Up);
}

/// A bus that takes what is said and hangs then, or refuses.
#[derive(Debug)]
struct Stuck {
    bus: MemoryPubSub,
    asked: AtomicU32,
    hangs: bool,
}

#[async_trait]
impl PubSub for Stuck {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.bus.publish(subject, payload).await?;
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Err(Error::new(ErrorKind::Unavailable, "publish message"))
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Listening> {
        if self.asked.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(Error::new(ErrorKind::Unavailable, "subscribe to messages"));
        }
        self.bus.subscribe(pattern).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_published_once_whatever_is_known_of_it_and_a_bus_that_is_stuck_is_left_alone()
{
    for (hangs, fate) in [(true, ErrorKind::Indeterminate), (false, ErrorKind::Unavailable)] {
        let bus = MemoryPubSub::new(100);
        let stuck = Arc::new(Stuck { bus: bus.clone(), asked: AtomicU32::new(0), hangs });
        let events = Arc::new(MemoryEventStore::new(SystemClock::shared()));
        let guarded = with_bus(events, Arc::<Stuck>::clone(&stuck));
        let (subject, all) = (Subject::new("room").unwrap(), Pattern::new(">").unwrap());
        let mut heard = guarded.bus.subscribe(&all).await.unwrap();
        assert_eq!(stuck.asked.swap(0, Ordering::SeqCst), 3, "a subscription is begun again");
        for number in 0..5 {
            let said = guarded.bus.publish(&subject, Bytes::from(vec![number])).await.unwrap_err();
            assert_eq!(*said.kind(), fate, "{said}");
        }
        let left_alone = guarded.bus.publish(&subject, Bytes::new()).await.unwrap_err();
        assert!(Refused::of(&left_alone).is_some(), "{left_alone}");
        assert_eq!(guarded.health.check().await.detail, "bus: open");
        // Each of the five was said once, and the sixth was not.
        assert_eq!(stuck.asked.load(Ordering::SeqCst), 5);
        for number in 0..5 {
            let Some(Item::Message { payload, .. }) = heard.next().await else { panic!("a gap") };
            assert_eq!(payload, vec![number]);
        }
        tokio::time::advance(LONGEST_PAUSE).await;
        let probe = guarded.bus.publish(&subject, Bytes::new()).await.unwrap_err();
        assert_eq!((probe.kind(), stuck.asked.load(Ordering::SeqCst)), (&fate, 6), "{probe}");
    }
}

fn append() -> Append {
    let random = Random::seeded(4);
    let event = NewEvent::new(
        EventId::generate(Timestamp::EPOCH, &random),
        EventType::new("said").unwrap(),
        Payload::json(1, "hello").unwrap(),
    );
    Append::to(StreamName::new("room-1").unwrap(), Expected::Absent, vec![event])
}

#[tokio::test(start_paused = true)]
async fn an_action_takes_no_more_time_of_the_stores_than_it_has() {
    let clock = SystemClock::shared();
    let failing = Failing::new(9, true);
    let guarded = guarded_over(Arc::<Failing>::clone(&failing));
    let (begun, patience) = (clock.now(), Duration::from_secs(3));
    let action = Context::default().deadline(Deadline::after(begun, patience));
    let unknown = action.clone().scope(guarded.events.append(append())).await.unwrap_err();
    assert_eq!(*unknown.kind(), ErrorKind::Indeterminate, "it may have been done");
    let took = clock.now().since(begun);
    assert!(patience <= took && took < patience + Duration::from_millis(5), "{took:?}");
    assert_eq!(failing.asked.load(Ordering::SeqCst), 2, "for two seconds, and for what was left");
    for _ in 0..9 {
        let late = action.clone().scope(guarded.events.append(append())).await.unwrap_err();
        assert_eq!(*late.kind(), ErrorKind::Timeout, "it was not begun");
    }
    assert_eq!((failing.asked.load(Ordering::SeqCst), clock.now().since(begun)), (2, took));
    // What was not begun says nothing of the store.
    assert_eq!(guarded.health.check().await.status, Status::Up);
}

#[tokio::test(start_paused = true)]
async fn an_action_takes_no_more_attempts_of_the_stores_than_it_has() {
    let failing = Failing::new(4, false);
    let guarded = guarded_over(Arc::<Failing>::clone(&failing));
    let action = Context::default().budget(CallBudget::new(1));
    let first = action.clone().scope(guarded.events.stable_head()).await;
    assert_eq!((first.is_err(), failing.asked.load(Ordering::SeqCst)), (true, 2));
    let second = action.scope(guarded.events.append(append())).await;
    assert_eq!((second.is_err(), failing.asked.load(Ordering::SeqCst)), (true, 3));
    // Who has no budget of its own has that of the server.
    guarded.events.append(append()).await.unwrap();
    assert_eq!(failing.asked.load(Ordering::SeqCst), 5);
}

// In real time: the documents have a thread of their own.
#[tokio::test]
async fn each_call_of_a_store_is_a_span_of_the_trace_it_is_made_for_and_of_none_otherwise() {
    let (spans, random) = (Buffer::new(99), Arc::new(Random::seeded(1)));
    let layer = Spans::new(Sampler::all(), SystemClock::shared(), random, spans.clone());
    let _default = tracing::subscriber::set_default(Registry::default().with(layer));
    let guarded = guarded_over(Failing::new(1, false));
    let batch = || {
        let collection = Collection::new("players").unwrap();
        Batch::new().put(collection, "ann", Expected::Absent, Payload::json(1, &7).unwrap())
    };
    guarded.archive.list("games", "", 9).await.unwrap();
    assert!(spans.is_empty(), "nobody asked for it");
    let asked = tracing::info_span!("asked");
    let trace = context_of(&asked).unwrap();
    traced(asked, async {
        // The first attempt fails; both are one span.
        guarded.events.stable_head().await.unwrap();
        guarded.documents.commit(batch()).await.unwrap();
        let conflict = guarded.documents.commit(batch()).await;
        assert!(matches!(conflict.unwrap_err().kind(), ErrorKind::Conflict { .. }));
        guarded.archive.create("games/a", "b".into()).await.unwrap();
        guarded.bus.publish(&Subject::new("room").unwrap(), Bytes::new()).await.unwrap();
    })
    .await;
    // Without those that the stores make themselves.
    let own = |span: &Finished| span.name == "asked" || span.attribute("store").is_some();
    let spans: Vec<Finished> = spans.take(99).into_iter().filter(own).collect();
    let told: Vec<_> = spans
        .iter()
        .map(|span| {
            let store = span.attribute("store").unwrap_or_default();
            (span.name.as_str(), store, span.status == SpanStatus::Ok)
        })
        .collect();
    let wanted = [
        ("read stable head", "events", true),
        ("commit documents", "documents", true),
        ("commit documents", "documents", false),
        ("create object", "archive", true),
        ("publish message", "bus", true),
        ("asked", "", true),
    ];
    assert_eq!(told, wanted.map(|(name, store, is_ok)| (name, store.to_owned(), is_ok)));
    assert!(spans.iter().take(5).all(|span| span.parent == Some(trace.span_id())));
}

#[test]
fn the_metrics_tell_which_store_is_left_alone_and_how_many_breakers_are_open() {
    let exporter = Exporter::new(&crate::server::declarations());
    let told = |line: &str| {
        let text = exporter.render();
        assert!(text.lines().any(|told| told == line), "{line} is not in {text}");
    };
    let story = async {
        let guarded = guarded_over(Failing::new(9, false));
        told("infra_game_store_breaker{store=\"events\"} 0");
        told("infra_resilience_breakers{state=\"closed\"} 4");
        let mut left_alone = None;
        while left_alone.is_none() {
            let error = guarded.events.stable_head().await.unwrap_err();
            left_alone = Refused::of(&error).copied();
        }
        told("infra_game_store_breaker{store=\"events\"} 2");
        told("infra_game_store_breaker{store=\"documents\"} 0");
        told("infra_game_store_breaker{store=\"bus\"} 0");
        told("infra_resilience_breakers{state=\"closed\"} 3");
        told("infra_resilience_breakers{state=\"open\"} 1");
        drop(guarded);
        told("infra_resilience_breakers{state=\"open\"} 0");
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.unwrap();
    metrics::with_local_recorder(&exporter, || runtime.block_on(story));
}
