//! The job `verify`, as an operator runs it.

use std::{fs, process::Command};

use infra_core::{
    clock::Timestamp,
    codec::Payload,
    event::{Append, EventStore, NewEvent},
    id::{EventId, EventType, StreamName},
    random::Random,
    version::Expected,
};
use infra_events::{LogEventStore, Options};

/// Runs `game-server verify` and returns whether it was content, and what it said.
fn verify(folder: &std::path::Path) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_game-server"));
    let output = command.arg("verify").arg(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn verify_names_each_segment_and_fails_on_damage() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path()).segment_bytes(4_096);
    let log = LogEventStore::open(options).await.unwrap().0;
    let random = Random::from_system();
    for _ in 0..60 {
        let id = EventId::generate(Timestamp::from_millis(1), &random);
        let payload = Payload::json(1, &"x".repeat(100)).unwrap();
        let event = NewEvent::new(id, EventType::new("said").unwrap(), payload);
        let room = StreamName::new("room/1").unwrap();
        log.append(Append::to(room, Expected::Any, vec![event])).await.unwrap();
    }
    // It is read while the server has it open.
    let (is_content, said) = verify(folder.path());
    assert!(is_content && said.contains("sound: 60 events in 60 commits"), "{said}");
    assert!(said.contains("00000000000000000001.log"), "{said}");
    log.close().await;
    let first = folder.path().join("00000000000000000001.log");
    let mut bytes = fs::read(&first).unwrap();
    bytes[200] ^= 1;
    fs::write(&first, bytes).unwrap();
    let (is_content, said) = verify(folder.path());
    assert!(!is_content && said.contains("DAMAGED at byte"), "{said}");
    let damaged = said.lines().filter(|line| line.contains("DAMAGED, byte")).count();
    assert_eq!((damaged, said.matches(" sound").count()), (1, said.matches(".log  ").count() - 1));
    let (is_content, said) = verify(&folder.path().join("nowhere"));
    assert!(!is_content && said.contains("error:"), "{said}");
}
