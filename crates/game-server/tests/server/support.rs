//! A server of a test's own, on free ports and a folder that vanishes.

use std::{sync::Arc, time::Duration};

use game_server::{
    config::{Options, Settings},
    exporter,
    server::{Backends, Server},
};
use infra_core::{
    Clock, SystemClock,
    event::{Direction, RecordedEvent},
    id::StreamName,
    version::Version,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::player::{Player, text};

/// A running server and what it stands on.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) server: Server,
    pub(crate) backends: Backends,
    pub(crate) folder: TempDir,
}

/// Returns the options of a fast game on free ports; no limit refuses what is played at a machine's
/// pace.
pub(crate) fn options() -> Options {
    let free = "127.0.0.1:0".parse().ok();
    Options {
        addr: free,
        admin_addr: free,
        bot_delay: Some("0..0".to_owned()),
        round_pause: Some(0),
        grace: Some(2),
        limits: Some("trial".to_owned()),
        ..Options::default()
    }
}

/// Starts a server of a fast game.
pub(crate) async fn start() -> Host {
    start_with(options(), SystemClock::shared()).await
}

/// Starts a server by options and on a clock of the test's.
pub(crate) async fn start_with(options: Options, clock: Arc<dyn Clock>) -> Host {
    start_in(tempfile::tempdir().unwrap(), options, clock).await
}

/// Starts a server on a folder that is there already.
pub(crate) async fn start_in(folder: TempDir, options: Options, clock: Arc<dyn Clock>) -> Host {
    start_on(folder, options, clock, |backends| backends).await
}

/// Starts a server on stores that the test has changed.
pub(crate) async fn start_changed(
    options: Options,
    clock: Arc<dyn Clock>,
    change: impl FnOnce(Backends) -> Backends,
) -> Host {
    start_on(tempfile::tempdir().unwrap(), options, clock, change).await
}

/// Starts a server on a folder that is there already, and on stores that the test has changed.
pub(crate) async fn start_on(
    folder: TempDir,
    options: Options,
    clock: Arc<dyn Clock>,
    change: impl FnOnce(Backends) -> Backends,
) -> Host {
    let data = Some(folder.path().to_owned());
    let settings = Settings::resolve(Options { data, ..options }).unwrap();
    let backends = change(Backends::open(&settings, &clock).await.unwrap());
    let exporter = exporter();
    // A second server of one test counts into the first one's exporter.
    let _is_first = exporter.install().is_ok();
    let server = Server::start_on(settings, exporter, backends.clone(), clock).await.unwrap();
    Host { server, backends, folder }
}

impl Host {
    /// Connects a player in the lobby.
    pub(crate) async fn player(&self) -> Player {
        Player::connect(self.server.addr()).await.unwrap()
    }

    /// Creates a room and returns its host.
    pub(crate) async fn host(&self, name: &str) -> Player {
        let mut player = self.player().await;
        player.say(&json!({"type": "create_room", "name": name})).await.unwrap();
        until(&mut player, "joined").await;
        player
    }

    /// Joins a room.
    pub(crate) async fn guest(&self, room: &str, name: &str) -> Player {
        let mut player = self.player().await;
        player.say(&json!({"type": "join_room", "room": room, "name": name})).await.unwrap();
        until(&mut player, "joined").await;
        player
    }

    /// Returns what a new spectator of a room is shown.
    pub(crate) async fn state_of(&self, room: &str) -> Value {
        let mut spectator = self.player().await;
        spectator.say(&json!({"type": "spectate", "room": room})).await.unwrap();
        until(&mut spectator, "joined").await["state"].take()
    }

    /// Reads the events of a room as the room does.
    pub(crate) async fn log_of(&self, room: &str) -> Vec<RecordedEvent> {
        let stream = StreamName::new(format!("room-{room}")).unwrap();
        let rooms = self.backends.rooms(&SystemClock::shared()).await.unwrap();
        let first = Version::new(1);
        rooms.read_stream(&stream, first, Direction::Forward, usize::MAX).await.unwrap()
    }

    /// Returns how many events a room has in the store.
    pub(crate) async fn events_of(&self, room: &str) -> u64 {
        let stream = StreamName::new(format!("room-{room}")).unwrap();
        let info = self.backends.events.stream_info(&stream).await.unwrap();
        info.map_or(0, |info| info.last.get())
    }

    /// Asks the admin listener for a path; returns status, content type and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String, String) {
        crate::raw::get(self.server.admin_addr(), path, &[]).await
    }

    /// Stops the server and gives back its folder.
    pub(crate) async fn stop(self) -> TempDir {
        self.server.stop().await;
        self.folder
    }
}

/// Takes messages into account until one of this type comes, and returns it.
pub(crate) async fn until(player: &mut Player, wanted: &str) -> Value {
    hear(player, &[wanted]).await
}

/// Says something and waits for an answer of one of these types.
pub(crate) async fn ask(player: &mut Player, message: &Value, answers: &[&str]) -> Value {
    player.say(message).await.unwrap();
    hear(player, answers).await
}

/// Takes messages into account until one of these types comes, and returns it.
pub(crate) async fn hear(player: &mut Player, answers: &[&str]) -> Value {
    loop {
        let answer = player.next().await.unwrap();
        let answer = answer.unwrap_or_else(|| panic!("closed instead of one of {answers:?}"));
        player.take(&answer).unwrap();
        if answers.contains(&text(&answer, "type")) {
            return answer;
        }
    }
}

/// Acts and returns the acknowledgement or refusal.
pub(crate) async fn act(player: &mut Player, message: &Value) -> Value {
    ask(player, message, &["ack", "refused"]).await
}

/// Waits until a condition holds, looking again and again; fails after ten seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not come about within 10 s: {what}");
}
