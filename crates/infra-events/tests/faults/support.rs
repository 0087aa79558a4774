//! Logs to be damaged.

use std::{fs, path::Path};

use infra_core::{
    Result,
    clock::Timestamp,
    codec::Payload,
    event::{Append, EventStore, Filter, NewEvent, RecordedEvent},
    id::{EventId, EventType, StreamName},
    random::Random,
    version::{Expected, Position},
};
use infra_events::{LogEventStore, Mode, Options, RecoveryReport};

/// Reads a number that a longer run sets.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub(crate) fn event(word: &str) -> NewEvent {
    let id = EventId::generate(Timestamp::from_millis(1), &Random::from_system());
    NewEvent::new(id, EventType::new("said").unwrap(), Payload::json(1, word).unwrap())
}

pub(crate) fn to(stream: &str, words: &[&str]) -> Append {
    let events = words.iter().map(|word| event(word)).collect();
    Append::to(StreamName::new(stream).unwrap(), Expected::Any, events)
}

pub(crate) async fn open(folder: &Path, mode: Mode) -> Result<(LogEventStore, RecoveryReport)> {
    LogEventStore::open(Options::new(folder).segment_bytes(4_096).mode(mode)).await
}

pub(crate) async fn all(log: &LogEventStore) -> Result<Vec<RecordedEvent>> {
    let (mut events, mut after) = (Vec::new(), Position::ZERO);
    loop {
        let mut page = log.read_all(after, &Filter::default(), 1_000).await?;
        events.append(&mut page.events);
        if page.is_end {
            return Ok(events);
        }
        after = page.read_to;
    }
}

/// Writes so many commits into a new log and returns their events.
pub(crate) async fn written(folder: &Path, commits: usize) -> Vec<RecordedEvent> {
    let (log, _) = open(folder, Mode::Strict).await.unwrap();
    for number in 0..commits {
        log.append(to(&format!("s{}", number % 3), &[&number.to_string(), "x"])).await.unwrap();
    }
    let events = all(&log).await.unwrap();
    log.close().await;
    assert_eq!(events.len(), 2 * commits);
    events
}

/// Returns a fresh copy of a log's folder.
pub(crate) fn copy(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// Returns the names of the segment files, in order.
pub(crate) fn segments(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| Path::new(name).extension() == Some("log".as_ref()));
    names.sort();
    names
}

/// Returns how many bytes of a file are used: all up to the last that is not zero.
pub(crate) fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Changes a file.
pub(crate) fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}
