//! A player is forgotten: its name and words are gone from every byte of the data, and nothing else is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use game_server::{
    config::Options,
    domain::{ChatText, Event, Name, Seat},
    simulate::play_game,
};
use infra_core::{
    SystemClock,
    codec::Payload,
    event::{Append, Direction, NewEvent},
    id::{Collection, EventId, EventType, StreamName},
    random::Random,
    store::Scan,
    version::{Expected, Version},
};
use infra_testkit::server::{Kind, Server};
use serde_json::{Value, json};

use crate::{
    play::play_on,
    player::Player,
    raw::exchange,
    support::{Host, act, ask, eventually, start_in, start_with, until},
};

const NAME: &str = "Zorobabel Qx7";
const WORDS: &str = "xylophones of marmalade";

/// Options under which a whole game is sent again.
fn options() -> Options {
    Options { resume_events: Some(10_000), ..crate::support::options() }
}

/// The files below a folder; sockets are none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let paths = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    paths.filter(|path| path.is_file()).collect()
}

/// The files below a folder in which a text stands, or in whose path.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        let names_it = path.to_string_lossy().contains(text);
        // Bytes that are no text part words and do not change any.
        names_it || String::from_utf8_lossy(&bytes).contains(text)
    };
    files(folder).into_iter().filter(holds).collect()
}

/// The id of the player who made a room, as its first event has it.
async fn maker(host: &Host, room: &str) -> String {
    let stream = StreamName::new(format!("room-{room}")).unwrap();
    let events = &host.backends.events;
    let first = events.read_stream(&stream, Version::new(1), Direction::Forward, 1).await.unwrap();
    first[0].event.payload.decode::<Value>().unwrap()["host"].as_str().unwrap().to_owned()
}

/// Has a server that runs forget a player.
async fn forget_live(host: &Host, player: &str) -> (u16, Value) {
    let body = json!({"player": player}).to_string();
    let length = body.len();
    let request = format!(
        "POST /api/forget HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let answer = exchange(host.server.admin_addr(), request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// Forgets a player in a folder that no server has, by the program.
fn forget_in(folder: &Path, player: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_game-server"));
    let output = command.arg("forget").arg("--data").arg(folder).arg(player).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

async fn replay(host: &Host, game: &str) -> Value {
    let path = format!("/api/games/{game}");
    let (status, _, body) = crate::raw::get(host.server.addr(), &path, &[]).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// A game of two people who talk, played to its end, archived and counted.
async fn played(host: &Host) -> (Player, Player) {
    let mut zoro = host.host(NAME).await;
    let mut li = host.guest(&zoro.known.room, "Li Xiaolong").await;
    act(&mut zoro, &json!({"type": "chat", "action": 1, "text": WORDS})).await;
    act(&mut li, &json!({"type": "chat", "action": 1, "text": "and of honey"})).await;
    act(&mut zoro, &json!({"type": "start", "action": 2})).await;
    tokio::join!(play_on(&mut zoro, 2), play_on(&mut li, 1));
    eventually("the game is archived and counted", || async {
        let archived = host.backends.archive.list("games", "", 9).await.unwrap().len();
        archived == 1 && host.get("/api/leaderboard").await.2.contains(NAME)
    })
    .await;
    (zoro, li)
}

/// What Li is shown who comes back as if it had seen nothing but the room's beginning.
async fn told_again(host: &Host, li: &Player) -> (String, Vec<Value>) {
    let mut known = li.known.clone();
    known.table.offset = 1;
    let mut li = Player::come_back(host.server.addr(), known).await.unwrap();
    until(&mut li, "resumed").await;
    let (mut talk, mut message) = (Vec::new(), Value::Null);
    while message["event"]["type"] != "game_ended" {
        message = li.next().await.unwrap().unwrap();
        if message["event"]["type"] == "chat" {
            talk.push(message["event"]["text"].clone());
        }
    }
    let state = host.state_of(&li.known.room).await;
    (state["seats"][0]["name"].as_str().unwrap().to_owned(), talk)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_player_is_in_no_byte_of_the_data_and_the_others_are_as_they_were() {
    let host = start_with(options(), SystemClock::shared()).await;
    let (zoro, li) = played(&host).await;
    let game = format!("{}-{}", zoro.known.room, zoro.known.table.epoch);
    let player = maker(&host, &zoro.known.room).await;
    let before = replay(&host, &game).await;
    assert_eq!(before["start"]["seats"][0]["name"], NAME);
    let (name, talk) = told_again(&host, &li).await;
    assert_eq!((name.as_str(), talk), (NAME, vec![json!(WORDS), json!("and of honey")]));
    let mut stays = host.host("Ann").await;

    let (status, _, found) = host.get("/api/forget?name=zorobabel%20QX7").await;
    let found: Value = serde_json::from_str(&found).unwrap();
    let named = &found["players"][0];
    assert_eq!((status, &named["player"]), (200, &json!(player)), "{found}");
    assert_eq!((&named["room"], &named["name"]), (&json!(zoro.known.room), &json!(NAME)));
    let (status, done) = forget_live(&host, &player).await;
    assert_eq!(status, 200, "{done}");
    let counts = [&done["keys"], &done["archived"], &done["history"], &done["tokens"]];
    assert_eq!(counts, [1, 0, 1, 1], "{done}");
    let (status, again) = forget_live(&host, &player).await;
    let is_nothing = again.as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!((status, is_nothing), (200, 0), "{again}");
    // The room is in memory, with Li at its table; Ann's goes on.
    let someone = format!("someone {}", &player[..8]);
    let (name, talk) = told_again(&host, &li).await;
    assert_eq!((&name, talk), (&someone, vec![json!("(forgotten)"), json!("and of honey")]));
    act(&mut stays, &json!({"type": "chat", "action": 1, "text": "still here"})).await;
    let (_, _, board) = host.get("/api/leaderboard").await;
    assert!(board.contains("Li Xiaolong") && !board.contains(NAME), "{board}");

    let folder = host.stop().await;
    for text in [NAME, "Zorobabel", WORDS, "xylophones"] {
        assert_eq!(holding(folder.path(), text), [] as [&Path; 0], "{text}");
    }
    assert!(!holding(folder.path(), &zoro.known.room).is_empty(), "the scan reads what is there");
    let (is_done, said) = forget_in(folder.path(), &player);
    assert!(is_done && said == format!("{player}: nothing to do\n"), "{said}");
    let host = start_in(folder, options(), SystemClock::shared()).await;
    let after = replay(&host, &game).await;
    assert_eq!(after["start"]["seats"][0]["name"], someone);
    assert_eq!(after["steps"], before["steps"]);
    assert_eq!(host.state_of(&stays.known.room).await["seats"][0]["name"], "Ann");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_servers_data_forgets_a_player_also_where_that_was_interrupted() {
    let host = start_with(options(), SystemClock::shared()).await;
    let (zoro, li) = played(&host).await;
    let player = maker(&host, &zoro.known.room).await;
    let (refused, said) = forget_in(host.folder.path(), &player);
    assert!(!refused, "a server has the folder: {said}");
    let folder = host.stop().await;
    let (is_found, said) = forget_in(folder.path(), &format!("--find={NAME}"));
    assert!(is_found && said.starts_with(&format!("{player} {} ", zoro.known.room)), "{said}");
    let (missing, said) = forget_in(&folder.path().join("elsewhere"), &player);
    assert!(!missing && said.contains("there is no folder"), "{said}");
    // A crash after the first step: the next start finishes it before it shows anything.
    let player_of_li = {
        let backup = folder.path().join("people");
        let mut names = files(&backup).into_iter().map(|path| path.display().to_string());
        let other = names.find(|name| name.contains("/person.") && !name.contains(&player));
        other.unwrap().split("/person.").nth(1).unwrap()[..36].to_owned()
    };
    fs::write(folder.path().join(format!("people/forgotten.{player}")), "-").unwrap();
    let host = start_in(folder, options(), SystemClock::shared()).await;
    assert!(told_again(&host, &li).await.0.starts_with("someone "));
    let board = host.get("/api/leaderboard").await.2;
    assert!(board.contains("Li Xiaolong") && !board.contains(NAME), "{board}");
    let folder = host.stop().await;
    let has_key = |player: &str| {
        let own = format!("person.{player}.");
        files(&folder.path().join("people"))
            .iter()
            .any(|path| path.to_string_lossy().contains(&own))
    };
    assert!(!has_key(&player) && has_key(&player_of_li));
    let (is_done, said) = forget_in(folder.path(), &player);
    assert!(is_done && said == format!("{player}: nothing to do\n"), "{said}");
    let (is_done, said) = forget_in(folder.path(), &player_of_li);
    assert!(is_done && said.contains("     1 keys destroyed"), "{said}");
    assert!(!has_key(&player_of_li));
    for text in [WORDS, "Li Xiaolong", "and of honey"] {
        assert_eq!(holding(folder.path(), text), [] as [&Path; 0], "{text}");
    }
}

/// Writes a game as servers did before names were sealed.
async fn write_as_before(host: &Host) -> (String, String) {
    let (random, clock) = (Random::from_system(), SystemClock::shared());
    let mut events = play_game(7, 0).unwrap().events;
    let Event::RoomCreated { host: player, name, .. } = &mut events[0] else {
        panic!("{events:?}")
    };
    *name = Name::new(NAME).unwrap();
    let player = player.to_string();
    let text = ChatText::new(WORDS).unwrap();
    events.insert(1, Event::Chat { seat: Seat::First, text, cause: None });
    let mut stored = Vec::new();
    let mut lines = Vec::new();
    for (event, offset) in events.iter().zip(1..) {
        let id = EventId::generate(clock.wall(), &random);
        let (kind, body) =
            (EventType::new(event.name()).unwrap(), Payload::json(1, event).unwrap());
        stored.push(NewEvent::new(id, kind, body).with("state-actor", player.clone()));
        lines.push(json!({"offset": offset, "at_ms": 1, "event": event}));
    }
    let epoch = stored[0].id.to_string();
    let game = json!({"room": "ABCDEF", "epoch": epoch, "ended_ms": 1, "events": lines});
    let name = format!("games/ABCDEF-{epoch}.json");
    host.backends.archive.create(&name, game.to_string().into()).await.unwrap();
    let stream = StreamName::new("room-ABCDEF").unwrap();
    let append = Append::to(stream, Expected::Absent, stored);
    host.backends.events.append(append).await.unwrap();
    (player, format!("ABCDEF-{epoch}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_before_names_were_sealed_is_read_and_shown_no_more_once_forgotten() {
    let host = start_with(options(), SystemClock::shared()).await;
    let (player, game) = write_as_before(&host).await;
    eventually("the game is counted", || async {
        host.get("/api/leaderboard").await.2.contains(NAME)
    })
    .await;
    assert_eq!(replay(&host, &game).await["start"]["seats"][0]["name"], NAME);
    let archive = host.folder.path().join("archive");
    assert_eq!(holding(&archive, NAME).len(), 1);
    let (status, done) = forget_live(&host, &player).await;
    assert_eq!(
        (status, &done["archived"], &done["history"]),
        (200, &json!(1), &json!(1)),
        "{done}"
    );
    for text in [NAME, WORDS] {
        assert_eq!(holding(&archive, text), [] as [&Path; 0]);
        assert_eq!(holding(&host.folder.path().join("documents"), text), [] as [&Path; 0]);
        // Segments are never rewritten: operations.md says what can be done about old ones.
        assert!(!holding(&host.folder.path().join("events"), text).is_empty());
    }
    let named = replay(&host, &game).await["start"]["seats"][0]["name"].clone();
    assert_eq!(named, format!("someone {}", &player[..8]));
    assert_eq!(host.state_of("ABCDEF").await["seats"][0]["name"], named);
    let mut spectator = host.player().await;
    let watch = json!({"type": "spectate", "room": "ABCDEF"});
    let shown = ask(&mut spectator, &watch, &["joined"]).await.to_string();
    assert!(!shown.contains(NAME) && !shown.contains(WORDS), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_is_forgotten_in_postgresql_and_in_every_file_of_its_cluster() {
    let mut postgres = Server::start(Kind::Postgres).await.unwrap();
    let host = crate::postgres::start(tempfile::tempdir().unwrap(), &postgres.url()).await;
    let mut zoro = host.host(NAME).await;
    let li = host.guest(&zoro.known.room, "Li Xiaolong").await;
    act(&mut zoro, &json!({"type": "chat", "action": 1, "text": WORDS})).await;
    let room = zoro.known.room.clone();
    let player = maker(&host, &room).await;
    let documents = std::sync::Arc::clone(&host.backends.documents);
    let keys = async || {
        let (people, own) = (Collection::new("people").unwrap(), format!("person.{player}."));
        documents.scan(&people, Scan::prefix(own, 9)).await.unwrap().len()
    };
    assert_eq!(keys().await, 1);
    let (status, done) = forget_live(&host, &player).await;
    assert_eq!((status, &done["keys"], keys().await), (200, &json!(1), 0), "{done}");
    let seats = host.state_of(&room).await["seats"].take();
    assert_eq!(seats[0]["name"], format!("someone {}", &player[..8]));
    assert_eq!(seats[1]["name"], "Li Xiaolong");
    drop((zoro, li));
    host.stop().await;
    postgres.kill().unwrap();
    for text in [NAME, WORDS] {
        assert_eq!(holding(postgres.folder(), text), [] as [&Path; 0], "{text}");
    }
    assert!(!holding(postgres.folder(), &room).is_empty(), "the scan reads what is there");
}
