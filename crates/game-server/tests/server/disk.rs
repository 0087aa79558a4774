//! A disk that fails under the running server: nothing is told that is not saved.

use std::sync::Arc;

use async_trait::async_trait;
use game_server::{
    config::{Options, Settings},
    exporter,
    server::{Backends, Server},
};
use infra_core::{
    Clock, Result, SystemClock,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, RecordedEvent, StreamInfo,
        Subscription,
    },
    id::StreamName,
    version::{Expected, Position, Version},
};
use infra_testkit::disk::{DiskFaults, Fault, Operation};
use serde_json::{Value, json};

use crate::{
    faulty_disk::FaultyDisk,
    player::{number, text},
    raw,
    support::{Host, act, eventually, options, start_in, until},
};

/// The planted bug: it acknowledges an append before it is durable, whatever becomes of it.
#[derive(Debug)]
struct Hasty(Arc<dyn EventStore>);

#[async_trait]
impl EventStore for Hasty {
    async fn append(&self, append: Append) -> Result<Appended> {
        let streams = append.streams.clone();
        if let Ok(appended) = self.0.append(append).await {
            return Ok(appended);
        }
        let versions = streams.iter().map(|part| match part.expected {
            Expected::Exactly(version) => version.next(),
            Expected::Absent | Expected::Any | Expected::Exists => Version::new(1),
        });
        let versions = versions.collect();
        Ok(Appended { position: self.0.stable_head().await?, versions, is_duplicate: false })
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        self.0.read_stream(stream, from, direction, limit).await
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        self.0.read_all(after, filter, limit).await
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        self.0.subscribe(after, filter).await
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        self.0.stream_info(stream).await
    }

    async fn stable_head(&self) -> Result<Position> {
        self.0.stable_head().await
    }

    async fn wait_for(&self, position: Position, patience: std::time::Duration) -> Result<()> {
        self.0.wait_for(position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        self.0.truncate_before(stream, before).await
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        self.0.tombstone(stream, expected).await
    }
}

/// Starts a server whose event log stands on a disk with faults.
async fn start_on(faults: &DiskFaults, segment: u64, is_hasty: bool) -> Host {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let folder = tempfile::tempdir().unwrap();
    let data = Some(folder.path().to_owned());
    let settings = Settings::resolve(Options { data, ..options() }).unwrap();
    let documents = infra_persistence::Options::new(folder.path().join("documents"));
    let (documents, _) = infra_persistence::embedded(documents).await.unwrap();
    let log = infra_events::Options::new(folder.path().join("events"))
        .segment_bytes(segment)
        .disk(Arc::new(FaultyDisk(faults.clone())));
    let mut backends = Backends::with_log(log, documents).await.unwrap();
    if is_hasty {
        backends.events = Arc::new(Hasty(backends.events));
    }
    let server = Server::start_on(settings, exporter(), backends.clone(), clock).await.unwrap();
    Host { server, backends, folder }
}

/// What the acknowledged actions of a room say, and what is in its log, after a failing sync and a
/// restart.
async fn told_and_kept(is_hasty: bool) -> (Vec<(u64, u64)>, Vec<(u64, u64)>) {
    let faults = DiskFaults::none();
    let host = Box::pin(start_on(&faults, 1 << 20, is_hasty)).await;
    let mut mei = host.host("Mei").await;
    let mut told = Vec::new();
    for action in 1..=8 {
        if action == 5 {
            faults.always(Operation::Sync, Fault::Broken);
        }
        let said = json!({"type": "chat", "action": action, "text": "word"});
        let answer = act(&mut mei, &said).await;
        match text(&answer, "type") {
            "ack" => told.push((action, number(&answer, "offset"))),
            _ => assert_eq!(answer["code"], "storage_unavailable", "{answer}"),
        }
    }
    let room = mei.known.room.clone();
    let folder = host.stop().await;
    let host = start_in(folder, options(), SystemClock::shared()).await;
    let stream = StreamName::new(format!("room-{room}")).unwrap();
    let events = &host.backends.events;
    let log =
        events.read_stream(&stream, Version::new(1), Direction::Forward, 1_000).await.unwrap();
    let kept = log.iter().filter_map(|recorded| {
        let event: Value = recorded.event.payload.decode().unwrap();
        let action = event.get("cause")?.get("action")?.as_u64()?;
        Some((action, recorded.version.get()))
    });
    (told, kept.collect())
}

fn is_kept(told: &[(u64, u64)], kept: &[(u64, u64)]) -> bool {
    told.iter().all(|acknowledged| kept.contains(acknowledged))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_failing_sync_is_kept() {
    let (told, kept) = Box::pin(told_and_kept(false)).await;
    assert_eq!(told.len(), 4, "nothing is acknowledged once the disk fails");
    assert!(is_kept(&told, &kept), "{told:?} {kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_before_the_sync_is_caught() {
    let (told, kept) = Box::pin(told_and_kept(true)).await;
    assert!(!is_kept(&told, &kept), "the planted bug went unnoticed: {told:?} {kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_failing_disk_readiness_goes_off_and_nothing_unsaved_is_told() {
    let faults = DiskFaults::none();
    let host = start_on(&faults, 1 << 20, false).await;
    let mut mei = host.host("Mei").await;
    let mut li = host.guest(&mei.known.room, "Li").await;
    act(&mut mei, &json!({"type": "chat", "action": 1, "text": "saved"})).await;
    faults.always(Operation::Sync, Fault::Broken);
    let refused = act(&mut mei, &json!({"type": "chat", "action": 2, "text": "unsaved"})).await;
    assert_eq!(refused["code"], "storage_unavailable", "{refused}");
    assert!(refused["retry_after_ms"].as_u64().is_some(), "{refused}");
    let refused = act(&mut li, &json!({"type": "chat", "action": 1, "text": "unsaved"})).await;
    assert_eq!(refused["code"], "storage_unavailable", "{refused}");
    let public = host.server.addr();
    eventually("readiness goes off", || async {
        raw::get(public, "/health/ready", &[]).await.0 == 503
    })
    .await;
    assert_eq!(raw::get(public, "/health/live", &[]).await.0, 200, "it lives on");
    let (status, _, health) = host.get("/health").await;
    assert_eq!(status, 503);
    assert!(health.contains("events"), "{health}");
    li.say(&json!({"type": "ping", "nonce": 1})).await.unwrap();
    loop {
        let message = li.next().await.unwrap().expect("closed");
        assert!(!message.to_string().contains("unsaved"), "{message}");
        if text(&message, "type") == "pong" {
            break;
        }
    }
    let (known, room) = (mei.known.clone(), mei.known.room.clone());
    let folder = host.stop().await;
    let host = start_in(folder, options(), SystemClock::shared()).await;
    let mut mei = crate::player::Player::come_back(host.server.addr(), known).await.unwrap();
    until(&mut mei, "resumed").await;
    let again = act(&mut mei, &json!({"type": "chat", "action": 2, "text": "saved at last"})).await;
    assert_eq!(again["type"], "ack", "{again}");
    assert_eq!(host.state_of(&room).await["chat"].as_array().map(Vec::len), Some(2));
    assert_eq!(raw::get(host.server.addr(), "/health/ready", &[]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_actions_are_refused_until_there_is_space_again() {
    let faults = DiskFaults::none();
    let host = start_on(&faults, 8 * 1_024, false).await;
    let mut mei = host.host("Mei").await;
    faults.always(Operation::Allocate, Fault::Full);
    let words = "word ".repeat(100);
    let said = |action: u64| json!({"type": "chat", "action": action, "text": words.trim_end()});
    let mut action = 1;
    while act(&mut mei, &said(action)).await["type"] == "ack" {
        action += 1;
        assert!(action < 100, "the segment never fills");
    }
    let refused = act(&mut mei, &said(action)).await;
    assert_eq!(refused["code"], "storage_unavailable", "{refused}");
    eventually("readiness goes off", || async { host.get("/health").await.0 == 503 }).await;
    faults.heal();
    eventually("there is space again", || async { host.get("/health").await.0 == 200 }).await;
    let acked = act(&mut mei, &said(action)).await;
    assert_eq!(acked["type"], "ack", "{acked}");
    assert_eq!(host.events_of(&mei.known.room).await, number(&acked, "offset"));
}
