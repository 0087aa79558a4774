//! Holds docs/protocol.md against the real types: every example, every name, every code.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Close, Code, DEPTH, Emoji, ErrorCode, LISTED_ROOMS, MESSAGE_BYTES, Refused,
    SERVER_MESSAGE_BYTES, ServerMessage, Setback, decode,
};
use crate::{
    domain::{PlayType, Refusal, RoomView, Viewed},
    limits::action_of,
};

const PAGE: &str = include_str!("../../../../docs/protocol.md");

const RIGHTS: &str = include_str!("../../../../docs/rights.md");

/// The events and messages that must have an example.
const CLIENT: [&str; 16] = [
    "hello",
    "list_rooms",
    "create_room",
    "join_room",
    "spectate",
    "leave_room",
    "add_bot",
    "remove_bot",
    "start",
    "redeal",
    "declare",
    "play",
    "chat",
    "come_back",
    "emoji",
    "ping",
];
const SERVER: [&str; 15] = [
    "welcome",
    "rooms",
    "joined",
    "resumed",
    "not_resumed",
    "event",
    "ack",
    "refused",
    "error",
    "presence",
    "emoji",
    "left",
    "pong",
    "draining",
    "slow_down",
];
const EVENTS: [&str; 22] = [
    "room_created",
    "player_joined",
    "player_left",
    "host_changed",
    "bot_added",
    "bot_removed",
    "player_went_silent",
    "player_came_back",
    "game_started",
    "dealt",
    "redeal_asked",
    "redeal_accepted",
    "redeal_declined",
    "declared",
    "played",
    "turn_won",
    "round_scored",
    "game_ended",
    "room_abandoned",
    "chat",
    "action_refused",
    "hidden",
];

/// Returns the examples of the page by what is written behind the language: `client`, `server`.
fn examples() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for block in PAGE.split("```json").skip(1) {
        let (kind, rest) = block.split_once('\n').unwrap();
        let (body, _) = rest.split_once("\n```").unwrap();
        found.entry(kind.trim()).or_default().push(body);
    }
    found
}

/// Returns the messages of a block: one a line, or one over several lines.
fn messages(block: &'static str) -> Vec<&'static str> {
    if block.lines().all(|line| line.starts_with('{') && line.ends_with('}')) {
        return block.lines().collect();
    }
    vec![block]
}

fn names(texts: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    texts.into_iter().collect()
}

/// Holds that what was read is written again with the same content: no field is dropped.
fn same(json: &str, written: &str) {
    let (before, after): (Value, Value) =
        (serde_json::from_str(json).unwrap(), serde_json::from_str(written).unwrap());
    assert_eq!(after, before, "{json}");
}

#[test]
fn every_message_of_a_client_has_a_row_of_rights() {
    for name in CLIENT {
        assert!(RIGHTS.contains(&format!("\n| `{name}` | ")), "{name}");
    }
}

#[test]
fn every_example_of_a_client_is_read_and_none_is_missing() {
    let mut seen = BTreeSet::new();
    for json in examples()["client"].iter().flat_map(|block| messages(block)) {
        let message = decode(json.as_bytes()).unwrap_or_else(|error| panic!("{error:?}: {json}"));
        let again = serde_json::to_string(&message).unwrap();
        assert_eq!(decode(again.as_bytes()).unwrap(), message);
        let stated = format!("`{}`", message.name());
        assert!(PAGE.contains(&stated), "{stated} is explained");
        let price = format!("| {stated} | {} |", action_of(&message).cost());
        assert!(PAGE.contains(&price), "the costs have the line {price}");
        seen.insert(message.name().to_owned());
    }
    assert_eq!(seen, names(CLIENT.map(str::to_owned)));
}

#[test]
fn every_example_of_the_server_is_read_and_none_is_missing() {
    let mut seen = BTreeSet::new();
    for json in examples()["server"].iter().flat_map(|block| messages(block)) {
        let message = ServerMessage::decode(json).unwrap_or_else(|e| panic!("{e}: {json}"));
        same(json, &message.encode());
        if let ServerMessage::Refused(Refused { code, message, .. }) = &message {
            assert_eq!(message, &code.to_string(), "{json}");
        }
        seen.insert(message.name().to_owned());
    }
    assert_eq!(seen, names(SERVER.map(str::to_owned)));
}

#[test]
fn every_example_of_an_event_or_state_is_read_and_none_is_missing() {
    let mut seen = BTreeSet::new();
    for json in examples()["event"].iter().flat_map(|block| messages(block)) {
        let event: Viewed = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
        let written = serde_json::to_string(&event).unwrap();
        same(json, &written);
        let value: Value = serde_json::from_str(&written).unwrap();
        seen.insert(value["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, names(EVENTS.map(str::to_owned)));
    for json in &examples()["state"] {
        let state: RoomView = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
        same(json, &serde_json::to_string(&state).unwrap());
    }
}

#[test]
fn every_malformed_example_gets_the_code_beside_it() {
    let mut seen = 0;
    let lines = PAGE.lines().filter(|line| line.starts_with("| `") && line.contains(" → "));
    for line in lines {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (json, answer) = cells[1].trim_matches('`').split_once("` → `").unwrap();
        let error = decode(json.as_bytes()).unwrap_err();
        let code = serde_json::to_value(error.code).unwrap();
        let stated = error.field.map_or_else(String::new, |field| format!(" {field}"));
        assert_eq!(format!("{}{stated}", code.as_str().unwrap()), answer, "{json}");
        seen += 1;
    }
    assert!(6 <= seen, "{seen}");
}

#[test]
fn the_only_kinds_of_examples_are_those_that_are_checked() {
    let kinds: Vec<_> = examples().into_keys().collect();
    assert_eq!(kinds, ["client", "event", "server", "state"]);
}

#[test]
fn every_code_stands_in_its_table() {
    let row = |name: &str| assert!(PAGE.contains(&format!("\n| `{name}` |")), "{name}");
    let name = |value: Value| value.as_str().unwrap().to_owned();
    for refusal in Refusal::ALL {
        let code = Code::from(*refusal);
        assert!(PAGE.contains(&format!("\n| `{}` | {code} ", code.code())), "{code}");
    }
    for setback in Setback::ALL {
        row(setback.code());
    }
    for code in ErrorCode::ALL {
        row(&name(serde_json::to_value(code).unwrap()));
    }
    for close in Close::ALL {
        let line = format!("\n| {} | {} | {:?} |", close.code(), close.reason(), close.advice());
        assert!(PAGE.contains(&line), "{line}");
    }
    for play in PlayType::ALL {
        let play_name = name(serde_json::to_value(play).unwrap());
        assert!(PAGE.contains(&format!("\n| `{play_name}` | {} |", play.n_pieces())), "{play:?}");
    }
    for emoji in Emoji::ALL {
        assert!(PAGE.contains(&format!("`{}`", name(serde_json::to_value(emoji).unwrap()))));
    }
}

#[test]
fn the_limits_on_the_page_are_the_real_ones() {
    for (what, limit) in [
        ("Longest message of a client", format!("{MESSAGE_BYTES} bytes")),
        ("Longest message of the server", format!("{SERVER_MESSAGE_BYTES} bytes")),
        ("Deepest nesting", DEPTH.to_string()),
        ("Rooms in a list", LISTED_ROOMS.to_string()),
    ] {
        assert!(PAGE.contains(&format!("| {what} | {limit} |")), "{what}: {limit}");
    }
}
