//! Every option changes what the server does: a table names the test that shows it.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use game_server::{config::Options, generate::entries};
use infra_core::SystemClock;
use infra_testkit::clock::ManualClock;
use serde_json::{Value, json};

use crate::{
    faulty::{Faults, FaultyEvents, Weather},
    observed::{Collector, Sink, instrumented},
    play::play_on,
    player::{Player, text},
    raw::{RawSocket, handshake, head},
    support::{Host, act, ask, eventually, options, start_changed, start_in, start_with, until},
};

/// An option, and the file and the test that show what it changes.
const SHOWN: &[(&str, &str, &str)] = &[
    ("config", "options.rs", "options_are_taken_from_the_line_the_environment_and_a_file"),
    ("addr", "options.rs", "options_are_taken_from_the_line_the_environment_and_a_file"),
    ("admin-addr", "options.rs", "options_are_taken_from_the_line_the_environment_and_a_file"),
    ("data", "options.rs", "options_are_taken_from_the_line_the_environment_and_a_file"),
    ("admin-token", "admin.rs", "with_a_token_nothing_of_the_admin_listener_is_told_without_it"),
    ("events", "options.rs", "things_are_kept_where_the_options_say"),
    ("recovery", "salvage.rs", "a_salvaged_log_is_followed_from_its_beginning"),
    ("documents", "options.rs", "things_are_kept_where_the_options_say"),
    ("archive", "options.rs", "things_are_kept_where_the_options_say"),
    ("bus", "bus.rs", "changes_of_rooms_are_told_over_nats"),
    ("queues", "stack.rs", "a_game_on_the_whole_stack_leaves_each_thing_where_it_was_told_to"),
    ("cache", "stack.rs", "a_game_on_the_whole_stack_leaves_each_thing_where_it_was_told_to"),
    ("log", "options.rs", "nothing_is_written_below_the_filter_or_traced_beyond_the_share"),
    ("log-format", "observed.rs", "the_log_is_written_to_files_in_the_format_that_is_asked_for"),
    ("log-folder", "observed.rs", "the_log_is_written_to_files_in_the_format_that_is_asked_for"),
    ("log-rotation", "options.rs", "as_many_log_files_are_kept_as_the_option_says"),
    ("log-kept", "options.rs", "as_many_log_files_are_kept_as_the_option_says"),
    ("otlp", "options.rs", "the_log_and_traces_go_where_the_options_say"),
    ("otlp-logs", "options.rs", "the_log_and_traces_go_where_the_options_say"),
    ("trace-share", "options.rs", "nothing_is_written_below_the_filter_or_traced_beyond_the_share"),
    ("allow-origin", "options.rs", "pages_of_an_allowed_origin_may_connect_and_no_others"),
    ("bot-delay", "options.rs", "bots_and_scores_take_the_time_that_the_options_say"),
    ("round-pause", "options.rs", "bots_and_scores_take_the_time_that_the_options_say"),
    ("timeouts", "options.rs", "a_bot_plays_for_who_says_nothing_for_as_long_as_the_option_says"),
    ("game-minutes", "options.rs", "a_game_ends_when_its_minutes_are_over_also_after_a_restart"),
    ("game-rounds", "options.rs", "a_game_ends_after_the_last_round_that_the_option_names"),
    ("game-events", "options.rs", "a_room_that_has_its_events_or_bytes_is_closed"),
    ("game-bytes", "options.rs", "a_room_that_has_its_events_or_bytes_is_closed"),
    (
        "connections-per-address",
        "bad_input.rs",
        "an_address_that_opens_too_many_connections_is_told_to_wait",
    ),
    ("connections", "options.rs", "there_are_as_many_rooms_and_connections_as_the_options_say"),
    ("rooms", "options.rs", "there_are_as_many_rooms_and_connections_as_the_options_say"),
    ("resume-events", "options.rs", "more_missed_events_than_the_option_says_are_a_whole_state"),
    ("grace", "options.rs", "a_stop_waits_for_as_long_as_the_grace_says"),
    ("limits", "limits.rs", "on_trial_nothing_is_refused_and_what_would_be_is_counted"),
    ("limiter", "limiter.rs", "what_an_address_may_do_is_counted_over_all_servers"),
    (
        "limiter-nodes",
        "limiter.rs",
        "a_server_whose_redis_is_lost_plays_on_with_its_share_and_tells_of_it",
    ),
    ("limit-player", "options.rs", "each_limit_begins_where_its_option_says"),
    ("limit-room", "limits.rs", "the_players_of_a_room_share_its_tokens_at_the_price_of_its_phase"),
    ("limit-arrivals", "limits.rs", "an_address_arrives_only_so_often"),
    ("limit-requests", "limits.rs", "requests_are_limited_by_the_true_address_and_health_is_not"),
    ("limit-input", "options.rs", "each_limit_begins_where_its_option_says"),
    ("limit-chat", "options.rs", "each_limit_begins_where_its_option_says"),
    ("limit-control", "options.rs", "each_limit_begins_where_its_option_says"),
    ("limit-messages", "limits.rs", "a_player_has_its_tokens_and_gets_one_back_a_second"),
    ("connections-per-player", "limits.rs", "a_player_has_so_many_connections_and_gets_them_back"),
    ("spectators", "limits.rs", "a_room_has_so_many_spectators_and_its_seats_are_not_among_them"),
    ("trust-proxy", "limits.rs", "a_proxy_that_is_trusted_names_the_client_that_pays"),
    ("heartbeat", "options.rs", "clients_are_asked_and_tokens_last_as_the_options_say"),
    ("token-hours", "options.rs", "clients_are_asked_and_tokens_last_as_the_options_say"),
    ("room-linger", "options.rs", "rooms_without_people_are_kept_as_long_as_the_options_say"),
    ("room-idle", "options.rs", "rooms_without_people_are_kept_as_long_as_the_options_say"),
    ("snapshot-events", "options.rs", "snapshots_and_files_of_the_log_are_as_the_options_say"),
    ("event-segment", "options.rs", "snapshots_and_files_of_the_log_are_as_the_options_say"),
    ("store-patience", "options.rs", "a_store_is_waited_for_as_long_as_the_option_says"),
    ("disk-low", "options.rs", "a_disk_is_degraded_below_what_the_option_says"),
];

#[test]
fn every_option_has_a_test_that_shows_what_it_changes() {
    let all: BTreeSet<String> = entries().into_iter().map(|entry| entry.name).collect();
    let shown: BTreeSet<String> = SHOWN.iter().map(|(option, ..)| (*option).to_owned()).collect();
    assert_eq!(shown, all);
    assert_eq!(SHOWN.len(), all.len(), "none twice");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server");
    for (option, file, test) in SHOWN {
        let source = std::fs::read_to_string(folder.join(file)).unwrap();
        let begin = source.find(&format!("fn {test}(")).unwrap_or_else(|| panic!("no {test}"));
        let above: Vec<&str> = source[..begin].lines().rev().take(3).collect();
        assert!(above.iter().any(|line| line.contains("test")), "{test} is no test: {above:?}");
        // It sets the option, itself or through a helper of its file.
        let (_, code) = source.split_once("\n];\n").unwrap_or(("", &source));
        let field = option.replace('-', "_");
        let variable = format!("GAME_SERVER_{}", field.to_uppercase());
        let ways =
            [format!("{field}: Some("), format!(".{field}"), format!("--{option}"), variable];
        assert!(ways.iter().any(|way| code.contains(way)), "{file} does not set {option}");
    }
}

/// The program with the environment of nobody.
fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_game-server"));
    command.env_clear().args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn options_are_taken_from_the_line_the_environment_and_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("game.toml"), folder.path().join("data"));
    let text = "addr = \"127.0.0.2:0\"\nadmin-addr = \"127.0.0.2:0\"\ndata = \"/proc/never\"\n";
    std::fs::write(&file, text).unwrap();
    let mut child = program(&["--data", data.to_str().unwrap()])
        .env("GAME_SERVER_CONFIG", &file)
        .env("GAME_SERVER_ADMIN_ADDR", "127.0.0.3:0")
        .env("GAME_SERVER_DATA", "/proc/never")
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    assert!(line().contains("http://127.0.0.2:"), "the file's");
    assert!(line().contains("http://127.0.0.3:"), "the environment's");
    assert!(data.join("keys.json").exists(), "the command line's");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_bad_value_is_refused_with_the_place_where_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("game.toml");
    std::fs::write(&file, "\ngrace = 1\ntimeouts = \"x\"\n").unwrap();
    let file = file.to_str().unwrap();
    let said = |command: &mut Command| {
        let ran = command.output().unwrap();
        assert_eq!(ran.status.code(), Some(2));
        String::from_utf8(ran.stderr).unwrap()
    };
    let in_file = said(&mut program(&["--config", file]));
    assert!(in_file.contains("game.toml, line 3, column 12: timeouts: `x` is not"), "{in_file}");
    let variable = said(program(&["--config", file]).env("GAME_SERVER_TIMEOUTS", "y"));
    assert!(variable.contains("variable GAME_SERVER_TIMEOUTS: `y` is not"), "{variable}");
    let number = said(program(&[]).env("GAME_SERVER_ROOMS", "many"));
    assert!(number.contains("variable GAME_SERVER_ROOMS: invalid value 'many'"), "{number}");
    let option = said(program(&["--rooms", "many"]).env("GAME_SERVER_ROOMS", "7"));
    assert!(option.contains("invalid value 'many' for '--rooms <COUNT>'"), "{option}");
    let option = said(&mut program(&["--config", file, "--timeouts", "z"]));
    assert!(option.contains("option --timeouts: `z` is not"), "{option}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn things_are_kept_where_the_options_say() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| Some(format!("file:{}", folder.path().join(name).display()));
    let (events, documents, archive) = (place("e"), place("d"), place("a"));
    let host = start(|o| (o.events, o.documents, o.archive) = (events, documents, archive)).await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_on(&mut mei, 1).await;
    let count = |name: &str| {
        let found = std::fs::read_dir(folder.path().join(name));
        found.map_or(0, Iterator::count)
    };
    eventually("the game is archived", || async { 0 < count("a/games") }).await;
    assert!(0 < count("e") && 0 < count("d"));
    assert!(!host.folder.path().join("events").exists());
}

/// Plays with a filter of the log and a share of traces; returns whether the log, the spans and the
/// records of the log got to where they go.
async fn written(filter: &str, share: &str) -> [bool; 3] {
    let (sink, (spans, to_spans)) = (Sink::default(), Collector::start().await);
    let (records, to_records) = Collector::start().await;
    let options = Options {
        log: Some(filter.to_owned()),
        otlp: Some(to_spans),
        otlp_logs: Some(to_records),
        trace_share: Some(share.to_owned()),
        ..options()
    };
    let host = instrumented(options, sink.clone()).await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    host.stop().await;
    let opened = |text: &str| text.contains("event log opened");
    [opened(&sink.text()), spans.text().contains("room.action"), opened(&records.text())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_and_traces_go_where_the_options_say() {
    assert_eq!(written("info", "1").await, [true; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_below_the_filter_or_traced_beyond_the_share() {
    assert_eq!(written("error", "0").await, [false; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_log_files_are_kept_as_the_option_says() {
    let logs = tempfile::tempdir().unwrap();
    for day in 1..=9 {
        let name = format!("game-server.2001-01-0{day}.log");
        std::fs::write(logs.path().join(name), "old\n").unwrap();
    }
    let folder = logs.path().to_owned();
    let options = Options {
        log_folder: Some(folder.clone()),
        log_rotation: Some(game_server::config::LogRotation::Hour),
        log_kept: Some(3),
        ..options()
    };
    let settings = game_server::config::Settings::resolve(options.clone()).unwrap();
    let opened = game_server::observe::sink(&settings).unwrap();
    instrumented(options, opened).await.stop().await;
    let files = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    // By the hour, the name of the newest has one.
    let day = "game-server.2001-01-01.log".len();
    assert!(day < names[2].len(), "{names:?}");
}

/// Starts a server whose options are changed from those of a fast game.
async fn start(change: impl FnOnce(&mut Options)) -> Host {
    let mut options = options();
    change(&mut options);
    Box::pin(start_with(options, SystemClock::shared())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_an_allowed_origin_may_connect_and_no_others() {
    let host = start(|o| o.allow_origin = Some(vec!["https://play.example".to_owned()])).await;
    let addr = host.server.addr();
    let own = format!("http://{addr}");
    for (origin, status) in [("https://play.example", "101"), (own.as_str(), "403")] {
        let answer = head(addr, handshake(addr, "GET", &[("origin", origin)]).as_bytes()).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_as_many_rooms_and_connections_as_the_options_say() {
    let host = start(|o| (o.rooms, o.connections) = (Some(1), Some(2))).await;
    let _mei = host.host("Mei").await;
    let mut li = host.player().await;
    let create = json!({"type": "create_room", "name": "Li"});
    let refused = ask(&mut li, &create, &["refused", "joined"]).await;
    assert_eq!(refused["code"], "overloaded", "{refused}");
    let addr = host.server.addr();
    let answer = head(addr, handshake(addr, "GET", &[]).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
}

/// Says a few pings; returns the events that came before the last answer.
async fn heard_meanwhile(player: &mut Player) -> Vec<String> {
    let mut heard = Vec::new();
    for nonce in 0..10 {
        player.say(&json!({"type": "ping", "nonce": nonce})).await.unwrap();
        loop {
            let message = player.next().await.unwrap().unwrap();
            player.take(&message).unwrap();
            match text(&message, "type") {
                "event" => heard.push(text(&message["event"], "type").to_owned()),
                "pong" => break,
                _ => {}
            }
        }
    }
    heard
}

/// Plays until an event of this type has come.
async fn play_to(player: &mut Player, mut number: u64, wanted: &str) {
    loop {
        if let Some(mut choice) = player.known.table.choose() {
            number += 1;
            choice["action"] = json!(number);
            player.say(&choice).await.unwrap();
        }
        let message = player.next().await.unwrap().unwrap();
        player.take(&message).unwrap();
        if message["event"]["type"] == wanted {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_and_scores_take_the_time_that_the_options_say() {
    let slow = start(|o| o.bot_delay = Some("60000..60000".to_owned())).await;
    let mut mei = slow.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    let mut number = 1;
    while let Some(mut choice) = mei.known.table.choose() {
        number += 1;
        choice["action"] = json!(number);
        act(&mut mei, &choice).await;
    }
    assert_eq!(heard_meanwhile(&mut mei).await, [""; 0], "a bot takes its time");
    let paused = start(|o| o.round_pause = Some(60_000)).await;
    let mut mei = paused.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_to(&mut mei, 1, "round_scored").await;
    assert_eq!(heard_meanwhile(&mut mei).await, [""; 0], "the scores are shown");
    let fast = start(|_| {}).await;
    let mut mei = fast.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_to(&mut mei, 1, "round_scored").await;
    while until(&mut mei, "event").await["event"]["type"] != "dealt" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_plays_for_who_says_nothing_for_as_long_as_the_option_says() {
    let host = start(|o| o.timeouts = Some("1,1,1".to_owned())).await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    while until(&mut mei, "event").await["event"]["type"] != "player_went_silent" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_missed_events_than_the_option_says_are_a_whole_state() {
    for (most, answer) in [(3, "joined"), (4, "resumed")] {
        let host = start(|o| o.resume_events = Some(most)).await;
        let mut mei = host.host("Mei").await;
        let known = mei.known.clone();
        for action in 1..=4 {
            act(&mut mei, &json!({"type": "chat", "action": action, "text": "word"})).await;
        }
        let mut back = Player::come_back(host.server.addr(), known).await.unwrap();
        let heard = crate::support::hear(&mut back, &["joined", "resumed"]).await;
        assert_eq!(heard["type"], answer, "{most}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_as_long_as_the_grace_says() {
    let (patient, hasty) =
        (start(|o| o.grace = Some(600)).await, start(|o| o.grace = Some(0)).await);
    let mut waiting = RawSocket::greeted(patient.server.addr()).await;
    let _cut = RawSocket::greeted(hasty.server.addr()).await;
    let patient = tokio::spawn(patient.stop());
    hasty.stop().await;
    // It is told, and waited for: it has not said goodbye.
    let heard = waiting.hear_past(&["draining"]).await;
    assert!(matches!(heard, crate::raw::Heard::Closed(_)), "{heard:?}");
    assert!(!patient.is_finished(), "its client has not been heard of");
    patient.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_game_ends_after_the_last_round_that_the_option_names() {
    let host = start(|o| o.game_rounds = Some(1)).await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_on(&mut mei, 1).await;
    let state = host.state_of(&mei.known.room).await;
    assert_eq!((&state["status"], &state["result"]["rounds"]), (&json!("completed"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_has_its_events_or_bytes_is_closed() {
    let by_events = start(|o| o.game_events = Some(10)).await;
    let by_bytes = start(|o| o.game_bytes = Some(1_000)).await;
    for host in [by_events, by_bytes] {
        let mut mei = host.host("Mei").await;
        let text = "x".repeat(100);
        for action in 1..30 {
            mei.say(&json!({"type": "chat", "action": action, "text": text})).await.unwrap();
        }
        while until(&mut mei, "event").await["event"]["type"] != "room_abandoned" {}
        assert_eq!(until(&mut mei, "left").await["reason"], "room_gone");
        let (status, _, body) = host.get(&format!("/api/rooms/{}", mei.known.room)).await;
        assert!(body.contains("\"reason\":\"limit\""), "{status} {body}");
        let events = host.events_of(&mei.known.room).await;
        assert!(events <= 11, "{events}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_game_ends_when_its_minutes_are_over_also_after_a_restart() {
    let clock = ManualClock::new();
    let bounded = || Options { game_minutes: Some(30), round_pause: Some(60_000), ..options() };
    let host = start_with(bounded(), Arc::new(clock.clone())).await;
    let (mut mei, li) = (host.host("Mei").await, host.host("Li").await);
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_to(&mut mei, 1, "round_scored").await;
    clock.advance(Duration::from_mins(29));
    assert_eq!(heard_meanwhile(&mut mei).await, [""; 0]);
    clock.advance(Duration::from_mins(2));
    // Whatever comes makes the room look at its clock, which is not the runtime's here.
    let mut watcher = host.player().await;
    watcher.say(&json!({"type": "spectate", "room": mei.known.room})).await.unwrap();
    let ended = loop {
        let event = until(&mut mei, "event").await;
        if event["event"]["type"] == "game_ended" {
            break event;
        }
    };
    assert_eq!(
        (&ended["event"]["limit"], &ended["event"]["rounds"]),
        (&json!("minutes"), &json!(1))
    );
    // Nobody has looked at the other room since; it is closed by the next server.
    let before = host.events_of(&li.known.room).await;
    let host = start_in(host.stop().await, bounded(), Arc::new(clock.clone())).await;
    eventually("the other room is closed", || async {
        host.events_of(&li.known.room).await == before + 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_asked_and_tokens_last_as_the_options_say() {
    let host = start(|o| (o.heartbeat, o.token_hours) = (Some(1), Some(2))).await;
    let mut socket = RawSocket::open(host.server.addr()).await;
    socket.say(r#"{"type":"hello"}"#).await;
    let crate::raw::Heard::Message(welcome) = socket.hear().await else { panic!("no welcome") };
    assert_eq!(welcome["heartbeat_ms"], 1_000);
    let mut mei = host.player().await;
    let create = json!({"type": "create_room", "name": "Mei"});
    let joined = ask(&mut mei, &create, &["joined"]).await;
    assert_eq!(joined["token"]["expires_in_ms"], 2 * 3_600_000);
    socket.pinged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_without_people_are_kept_as_long_as_the_options_say() {
    let host = start(|o| (o.room_linger, o.room_idle) = (Some(1), Some(1))).await;
    let kept = start(|_| {}).await;
    let (waiting, waiting_there) = (host.host("Mei").await, kept.host("Mei").await);
    let mut playing = host.host("Li").await;
    let mut playing_there = kept.host("Li").await;
    for (player, host) in [(&mut playing, &host), (&mut playing_there, &kept)] {
        act(player, &json!({"type": "start", "action": 1})).await;
        play_on(player, 1).await;
        assert!(host.get("/api/rooms").await.2.contains(&player.known.room));
    }
    let rooms = [waiting.known.room.clone(), playing.known.room.clone()];
    let rooms_there = [waiting_there.known.room.clone(), playing_there.known.room.clone()];
    drop((waiting, playing, waiting_there, playing_there));
    eventually("both go from memory", || async {
        let (_, _, listed) = host.get("/api/rooms").await;
        !rooms.iter().any(|room| listed.contains(room))
    })
    .await;
    let mut visitor = host.player().await;
    let join = json!({"type": "join_room", "room": rooms[0], "name": "Bo"});
    let refused = ask(&mut visitor, &join, &["refused", "joined"]).await;
    assert_eq!(refused["code"], "room_abandoned");
    let (_, _, listed) = kept.get("/api/rooms").await;
    assert!(rooms_there.iter().all(|room| listed.contains(room)), "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_and_files_of_the_log_are_as_the_options_say() {
    let host = start(|o| (o.snapshot_events, o.event_segment) = (Some(10), Some(4_096))).await;
    let mut mei = host.host("Mei").await;
    for action in 1..=40 {
        act(&mut mei, &json!({"type": "chat", "action": action, "text": "x".repeat(100)})).await;
    }
    eventually("it begins with a snapshot", || async {
        let (_, _, moment) = host.get(&format!("/api/rooms/{}/at/25", mei.known.room)).await;
        moment.contains("\"snapshot\":20,\"replayed\":5")
    })
    .await;
    let files = std::fs::read_dir(host.folder.path().join("events")).unwrap();
    let segments = files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "log"));
    assert!(1 < segments.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_waited_for_as_long_as_the_option_says() {
    let faulty = |patience: u32| async move {
        let faults = Faults::new(1);
        let options = Options { store_patience: Some(patience), ..options() };
        let host = start_changed(options, SystemClock::shared(), |mut backends| {
            let (store, faults) = (backends.events, faults.clone());
            backends.events = Arc::new(FaultyEvents { store, faults });
            backends
        })
        .await;
        let mei = host.host("Mei").await;
        faults.set(Weather::Held);
        (host, mei, faults)
    };
    let (_patient, mut mei, held) = faulty(60_000).await;
    let (_hasty, mut li, _held) = faulty(20).await;
    let chat = json!({"type": "chat", "action": 1, "text": "hi"});
    mei.say(&chat).await.unwrap();
    assert_eq!(act(&mut li, &chat).await["code"], "storage_unavailable");
    held.set(Weather::Calm);
    assert_eq!(crate::support::hear(&mut mei, &["ack", "refused"]).await["type"], "ack");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_is_degraded_below_what_the_option_says() {
    let status = |low: u32| async move {
        let host = start(|o| o.disk_low = Some(low)).await;
        let look = async || {
            let (_, _, body) = host.get("/health").await;
            let health: Value = serde_json::from_str(&body).unwrap();
            let checks = health["checks"].as_array().unwrap();
            let disk = checks.iter().find(|check| check["name"] == "disk").unwrap();
            disk["status"].as_str().unwrap().to_owned()
        };
        eventually("the disk was looked at", async || look().await != "down").await;
        look().await
    };
    assert_eq!((status(0).await, status(u32::MAX).await), ("up".to_owned(), "degraded".to_owned()));
}

/// Says a message again and again; returns how many were done before one was refused for their number, or
/// the connection ended.
async fn done_before_a_refusal(player: &mut Player, message: impl Fn(u64) -> Value) -> u64 {
    for number in 1..=40 {
        player.say(&message(number)).await.unwrap();
        loop {
            let Some(answer) = player.next().await.unwrap() else { return number - 1 };
            if answer["code"] == "rate_limited" {
                return number - 1;
            }
            if ["ack", "pong", "refused"].contains(&text(&answer, "type")) {
                break;
            }
        }
    }
    40
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_limit_begins_where_its_option_says() {
    let wide = || Some("10000/1".to_owned());
    let ping = |nonce: u64| json!({"type": "ping", "nonce": nonce});
    let chat = |action: u64| json!({"type": "chat", "action": action, "text": "hi"});
    let refused = |action: u64| json!({"type": "remove_bot", "action": action, "seat": 0});
    let enforce = |options: &mut Options| {
        options.limits = Some("enforce".to_owned());
        options.limit_messages = Some(1_000);
        (options.limit_player, options.limit_room) = (wide(), wide());
        (options.limit_input, options.limit_chat, options.limit_control) = (wide(), wide(), wide());
    };
    let narrow = || Some("10/1".to_owned());
    for option in ["none", "player", "input", "chat", "control"] {
        let host = start(|options| {
            enforce(options);
            match option {
                "player" => options.limit_player = Some("12/3600".to_owned()),
                "input" => options.limit_input = narrow(),
                "chat" => options.limit_chat = narrow(),
                "control" => options.limit_control = narrow(),
                _ => {}
            }
        })
        .await;
        let mut players = [host.host("Mei").await, host.host("Li").await, host.host("Bo").await];
        let done = [
            done_before_a_refusal(&mut players[0], ping).await,
            done_before_a_refusal(&mut players[1], chat).await,
            done_before_a_refusal(&mut players[2], refused).await,
        ];
        let is_narrow = done.map(|done| done < 40);
        let expected = match option {
            "player" => [true, true, true],
            "control" => [true, false, false],
            "chat" => [false, true, false],
            "input" => [false, false, true],
            _ => [false; 3],
        };
        assert_eq!(is_narrow, expected, "{option}: {done:?}");
    }
}
