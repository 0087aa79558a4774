//! A data folder is copied while games go on, and a server starts on the copy.

use game_server::backup::backup;
use infra_core::{ErrorKind, SystemClock, event::Filter, version::Position};
use serde_json::json;

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

    let host = {
        host.stop().await;
        start_in(copy, options(), SystemClock::shared()).await
    };
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
