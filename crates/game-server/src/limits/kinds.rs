//! Which messages there are, to the limits: their price, their class, how many of each.

use std::time::Duration;

use infra_core::limit::Class;
use infra_ratelimit::game::{Action, Messages};

use crate::protocol::{Ask, ClientMessage, Request};

/// Returns as which action a message is paid.
pub(crate) const fn action_of(message: &ClientMessage) -> Action {
    match message {
        ClientMessage::Request(request) => match request {
            Request::CreateRoom { .. } => Action::CreateRoom,
            Request::JoinRoom { .. } | Request::Spectate { .. } => Action::JoinRoom,
            Request::Emoji { .. } => Action::Emoji,
            Request::Hello { .. } | Request::ListRooms {} | Request::Ping { .. } => Action::Unknown,
        },
        ClientMessage::Action(numbered) => match &numbered.ask {
            Ask::LeaveRoom {} => Action::LeaveRoom,
            Ask::Start {} => Action::StartGame,
            Ask::Redeal { accept: true } => Action::AcceptRedeal,
            Ask::Redeal { accept: false } => Action::DeclineRedeal,
            Ask::Declare { .. } => Action::Declare,
            Ask::Play { .. } => Action::Play,
            Ask::Chat { .. } => Action::Chat,
            Ask::AddBot { .. } | Ask::RemoveBot { .. } | Ask::ComeBack {} => Action::Unknown,
        },
    }
}

/// Returns in which class of its connection a message counts.
pub(crate) const fn class_of(message: &ClientMessage) -> Class {
    match message {
        ClientMessage::Request(Request::Emoji { .. }) => Class::Chat,
        ClientMessage::Request(_) => Class::Control,
        ClientMessage::Action(numbered) => match &numbered.ask {
            Ask::Chat { .. } => Class::Chat,
            Ask::LeaveRoom {}
            | Ask::AddBot { .. }
            | Ask::RemoveBot { .. }
            | Ask::Start {}
            | Ask::Redeal { .. }
            | Ask::Declare { .. }
            | Ask::Play { .. }
            | Ask::ComeBack {} => Class::Input,
        },
    }
}

/// The messages that count as an arrival of their address, as a connection does.
pub(super) const ARRIVING: [&str; 3] = ["create_room", "join_room", "spectate"];

/// How many messages a player may send within a minute, and for how many seconds they are refused
/// once that was met. The last row is for every other message, also for one that is malformed.
///
/// Talk has twice what a player's tokens last for, so that those are what binds it.
const TABLE: [(&str, &[&str], u32, u64); 11] = [
    ("pings", &["ping"], 120, 0),
    ("lists", &["list_rooms"], 30, 0),
    ("creations", &["create_room"], 5, 300),
    ("joins", &["join_room", "spectate"], 10, 0),
    ("bots", &["add_bot", "remove_bot"], 10, 0),
    ("leaves", &["leave_room"], 5, 0),
    ("starts", &["start"], 3, 600),
    ("declarations", &["declare"], 6, 0),
    ("plays", &["play"], 20, 0),
    ("redeals", &["redeal"], 5, 0),
    ("talk", &["chat"], 120, 0),
];

/// Returns the table, so many times as large.
pub(super) fn table(factor: u32) -> Vec<Messages> {
    let others = ("others", &["*"][..], 60, 0);
    let row = |(limit, messages, count, seconds): (_, _, u32, _)| Messages {
        limit,
        messages,
        per_minute: count.saturating_mul(factor),
        block: Duration::from_secs(seconds),
    };
    TABLE.into_iter().chain([others]).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::decode;

    #[test]
    fn every_message_has_its_price_and_class() {
        use Class::{Chat, Control, Input};
        for (cost, class, json) in [
            (1, Control, r#"{"type":"hello"}"#),
            (1, Control, r#"{"type":"list_rooms"}"#),
            (5, Control, r#"{"type":"create_room","name":"Ann"}"#),
            (2, Control, r#"{"type":"join_room","room":"K7Q2ZD","name":"Ann"}"#),
            (2, Control, r#"{"type":"spectate","room":"K7Q2ZD"}"#),
            (1, Control, r#"{"type":"ping","nonce":1}"#),
            (1, Chat, r#"{"type":"emoji","emoji":"clap"}"#),
            (1, Chat, r#"{"type":"chat","action":1,"text":"hi"}"#),
            (1, Input, r#"{"type":"leave_room","action":1}"#),
            (3, Input, r#"{"type":"start","action":1}"#),
            (1, Input, r#"{"type":"play","action":1,"pieces":[3]}"#),
            (1, Input, r#"{"type":"declare","action":1,"piles":3}"#),
            (2, Input, r#"{"type":"redeal","action":1,"accept":true}"#),
            (2, Input, r#"{"type":"redeal","action":1,"accept":false}"#),
            (1, Input, r#"{"type":"add_bot","action":1}"#),
            (1, Input, r#"{"type":"come_back","action":1}"#),
        ] {
            let message = decode(json.as_bytes()).unwrap();
            assert_eq!(action_of(&message).cost().get(), cost, "{json}");
            assert_eq!(class_of(&message), class, "{json}");
        }
    }

    #[test]
    fn the_page_of_the_protocol_has_the_table() {
        let page = include_str!("../../../../docs/protocol.md");
        for row in table(1) {
            let messages: Vec<_> = row.messages.iter().map(|name| format!("`{name}`")).collect();
            let messages = messages.join(", ").replace("`*`", "any other");
            let block = match row.block.as_secs() {
                0 => "until there is room".to_owned(),
                seconds => format!("for {} minutes", seconds / 60),
            };
            let line = format!("| {messages} | {} | {block} |", row.per_minute);
            assert!(page.contains(&line), "{line}");
        }
        assert_eq!(table(3).last().map(|row| row.per_minute), Some(180));
    }
}
