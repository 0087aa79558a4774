//! A data folder is copied while games go on, and a server starts on the copy.

use std::{fs, path::Path, process::Command};

use game_server::{backup::backup, restore::restore};
use infra_core::{ErrorKind, SystemClock, event::Filter, version::Position};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    play::play_on,
    player::Player,
    support::{Host, act, eventually, options, start, start_in, until},
};

async fn events_of(host: &Host, up_to: u64) -> Vec<infra_core::event::RecordedEvent> {
    let events = &host.backends.events;
    let page = events.read_all(Position::ZERO, &Filter::default(), usize::MAX).await.unwrap();
    page.events.into_iter().filter(|event| event.position.get() <= up_to).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_amid_games_is_the_log_up_to_the_position_that_it_names() {
    let host = start().await;
    let mut done = host.host("Ann").await;
    act(&mut done, &json!({"type": "start", "action": 1})).await;
    play_on(&mut done, 1).await;
    eventually("the game is archived", || async {
        host.backends.archive.list("games", "", 10).await.unwrap().len() == 1
    })
    .await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    let before = mei.known.clone();
    let copy = tempfile::tempdir().unwrap();
    let (made, _) = tokio::join!(backup(host.folder.path(), copy.path()), play_on(&mut mei, 1));
    let made = made.unwrap();
    assert_eq!(made.archived, 1, "{made}");
    let whole = events_of(&host, made.events).await;
    assert_eq!(whole.len() as u64, made.events, "{made}");
    let again = backup(host.folder.path(), copy.path()).await.unwrap_err();
    assert!(matches!(again.kind(), ErrorKind::Invalid), "{again}");

    host.stop().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_game-server"));
    let command = command.arg("restore").arg("--from").arg(copy.path());
    let said = command.arg("--data").arg(elsewhere.path()).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("{made}\n"));
    let host = start_in(elsewhere, options(), SystemClock::shared()).await;
    assert_eq!(events_of(&host, made.events).await, whole);
    let mut mei = Player::come_back(host.server.addr(), before).await.unwrap();
    until(&mut mei, "resumed").await;
    play_on(&mut mei, 1_000).await;
    eventually("both games are counted", || async {
        let (_, _, board) = host.get("/api/leaderboard").await;
        board.contains("Ann") && board.contains("Mei")
    })
    .await;
}

#[tokio::test]
async fn a_folder_without_events_is_no_data_folder() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let refused = backup(from.path(), to.path()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::NotFound), "{refused}");
}

async fn refusal(from: &Path, data: &Path) -> (ErrorKind, String) {
    let refused = restore(from, data).await.unwrap_err();
    (refused.kind().clone(), refused.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_backup_that_is_not_as_it_was_made_nothing_is_restored() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "add_bot", "action": 1})).await;
    let copy = tempfile::tempdir().unwrap();
    backup(host.folder.path(), copy.path()).await.unwrap();
    let taken: TempDir = host.stop().await;
    let (kind, _) = refusal(copy.path(), taken.path()).await;
    assert_eq!(kind, ErrorKind::Invalid, "the folder is not empty");
    let nowhere = tempfile::tempdir().unwrap();
    let data = nowhere.path().join("data");
    let (kind, text) = refusal(taken.path(), &data).await;
    assert_eq!(kind, ErrorKind::NotFound, "{text}");

    let segments = fs::read_dir(copy.path().join("events")).unwrap();
    let mut segments = segments.map(|entry| entry.unwrap().path());
    let segment = segments.find(|path| path.extension().is_some_and(|end| end == "log")).unwrap();
    let archived = copy.path().join("archive/games/AAAAAA-0.json");
    fs::create_dir_all(archived.parent().unwrap()).unwrap();
    for damaged in [&copy.path().join("keys.json"), &segment, &archived] {
        let sound = fs::read(damaged).ok();
        let mut bytes = sound.clone().unwrap_or_else(|| vec![0; 200]);
        let at = bytes.len().min(101) - 1;
        bytes[at] ^= 1;
        fs::write(damaged, bytes).unwrap();
        let (kind, text) = refusal(copy.path(), &data).await;
        assert_eq!(kind, ErrorKind::Corrupt, "{}: {text}", damaged.display());
        assert!(!data.exists(), "{}", damaged.display());
        match sound {
            Some(sound) => fs::write(damaged, sound).unwrap(),
            None => fs::remove_file(damaged).unwrap(),
        }
    }
    restore(copy.path(), &data).await.unwrap();
}
