//! Data that a newer program has written: the start is refused, says which versions it is about, and
//! changes nothing.

use std::{collections::BTreeMap, error::Error as _, os::unix::fs::FileExt, path::Path};

use game_server::{
    config::{Options, Settings},
    exporter,
    server::Server,
};
use infra_core::{
    ErrorKind, SystemClock,
    clock::Clock as _,
    codec::Payload,
    event::{Append, NewEvent},
    id::{Collection, EventId, EventType, StreamName},
    random::Random,
    store::Batch,
    version::Expected,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Host, act, options, start};

/// The first segment of a log.
const SEGMENT: &str = "events/00000000000000000001.log";

/// Starts a server with a game, and returns it with its room.
async fn with_a_game() -> (Host, String) {
    let host = Box::pin(start()).await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    let room = mei.known.room.clone();
    (host, room)
}

/// Returns the event log's segments and the keys, byte by byte.
fn kept(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(data.join("events")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            files.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
    files.insert("keys".to_owned(), std::fs::read(data.join("keys.json")).unwrap());
    files
}

/// Starts a server that must refuse, and returns what it says.
async fn refused(folder: &TempDir) -> String {
    let before = kept(folder.path());
    let data = Some(folder.path().to_owned());
    let settings = Settings::resolve(Options { data, ..options() }).unwrap();
    let refused = Server::start(settings, exporter()).await.unwrap_err();
    let cause = refused.source().unwrap().downcast_ref::<infra_core::Error>().unwrap();
    assert_eq!(cause.kind(), &ErrorKind::Unsupported, "{refused}: {cause}");
    assert!(!cause.is_transient(), "nobody tries it again");
    assert!(kept(folder.path()) == before, "it has changed something");
    format!("{refused}: {cause}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_a_newer_format_is_refused_and_nothing_changed() {
    let (host, _) = with_a_game().await;
    let folder = host.stop().await;
    let segment = folder.path().join(SEGMENT);
    let segment = std::fs::File::options().write(true).open(segment).unwrap();
    segment.write_all_at(&2_u32.to_le_bytes(), 8).unwrap();
    let said = refused(&folder).await;
    assert!(said.contains("format 2") && said.contains("format 1"), "{said}");
    segment.write_all_at(&1_u32.to_le_bytes(), 8).unwrap();
    let data = Some(folder.path().to_owned());
    let settings = Settings::resolve(Options { data, ..options() }).unwrap();
    Server::start(settings, exporter()).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_with_events_of_a_newer_schema_keeps_an_older_program_from_starting() {
    let (host, room) = with_a_game().await;
    let id = EventId::generate(SystemClock::new().wall(), &Random::from_system());
    let payload = Payload::json(7, &json!({"type": "said_in_song", "seat": 0})).unwrap();
    let event = NewEvent::new(id, EventType::new("said_in_song").unwrap(), payload);
    let stream = StreamName::new(format!("room-{room}")).unwrap();
    host.backends.events.append(Append::to(stream, Expected::Any, vec![event])).await.unwrap();
    let folder = host.stop().await;
    let said = refused(&folder).await;
    assert!(said.contains("schema 7") && said.contains("knows 1"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_a_newer_edition_is_refused() {
    let (host, _) = with_a_game().await;
    let newer = Payload::json(1, &9).unwrap();
    let collection = Collection::new("program").unwrap();
    let batch = Batch::new().put(collection, "edition", Expected::Exists, newer);
    host.backends.documents.commit(batch).await.unwrap();
    let folder = host.stop().await;
    let said = refused(&folder).await;
    assert!(said.contains("it is 9, this program knows 1"), "{said}");
}
