//! An event log that is damaged: refused, or salvaged on request, with everything that follows from it.

use std::path::Path;

use game_server::{
    config::{Options, Recovery, Settings},
    server::Backends,
};
use infra_core::{ErrorKind, SystemClock};
use serde_json::json;

use crate::{
    player::Player,
    support::{act, options, start, start_in, until},
};

/// Flips a bit of the event log, a tenth before its end.
fn damage(data: &Path) {
    let path = data.join("events/00000000000000000001.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used / 10 * 9] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_salvaged_log_is_followed_from_its_beginning() {
    let host = start().await;
    let first = host.host("Mei").await;
    // Its second half is the second room.
    let mut second = host.host("Li").await;
    for action in 1..=20 {
        act(&mut second, &json!({"type": "chat", "text": "Hello!", "action": action})).await;
    }
    let folder = host.stop().await;
    damage(folder.path());

    let data = Some(folder.path().to_owned());
    let settings = Settings::resolve(Options { data, ..options() }).unwrap();
    let refused = Backends::open(&settings, &SystemClock::shared()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Corrupt), "{refused}");

    let salvage = Options { recovery: Some(Recovery::Salvage), ..options() };
    let host = start_in(folder, salvage, SystemClock::shared()).await;
    let known = first.known.room.clone();
    assert_eq!(host.state_of(&known).await["host"], 0, "the first room was not touched");
    // Its events come to stand where lost ones stood, and must not be taken for read.
    let third = host.host("Ann").await;
    let host = start_in(host.stop().await, options(), SystemClock::shared()).await;
    let mut ann = Player::come_back(host.server.addr(), third.known).await.unwrap();
    until(&mut ann, "resumed").await;
    let (_, _, rooms) = host.get("/api/rooms").await;
    for room in [&known, &ann.known.room] {
        assert!(rooms.contains(room.as_str()), "{room} goes on by itself: {rooms}");
    }
}
