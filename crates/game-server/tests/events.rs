//! Events as they are stored: each reads back as it was, and nothing else reads at all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod common;

use common::room::{PLAIN, TestRoom, chat, hands, name, pieces, player};
use game_server::domain::{
    AbandonReason, ActionNumber, BySeat, Cause, Event, Limit, PlayType, Refusal, Seat, Settings,
    Style,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const CAUSE: Option<Cause> = Some(Cause { seat: Seat::Second, action: ActionNumber::new(9) });

/// One event of every type, all fields filled, with the JSON that older servers have stored.
fn every_event() -> Vec<(Event, Value)> {
    [lobby_events(), preparation_events(), game_events()].concat()
}

fn lobby_events() -> Vec<(Event, Value)> {
    let ann = "00000000-0000-0000-0000-000000000001";
    let seat = Seat::Third;
    let cause = json!({"seat": 1, "action": 9});
    let settings = json!({"preparation_ms": 60000, "declaration_ms": 120_000, "turn_ms": 300_000,
        "bot_min_ms": 500, "bot_max_ms": 1500, "scoring_ms": 4000});
    vec![
        (
            Event::RoomCreated {
                host: player(1),
                name: name("Ann"),
                settings: Settings::default(),
            },
            json!({"type": "room_created", "host": ann, "name": "Ann", "settings": settings}),
        ),
        (
            Event::PlayerJoined { seat, player: player(1), name: name("Ann") },
            json!({"type": "player_joined", "seat": 2, "player": ann, "name": "Ann"}),
        ),
        (
            Event::PlayerLeft { seat, cause: CAUSE },
            json!({"type": "player_left", "seat": 2, "cause": cause}),
        ),
        (Event::HostChanged { seat }, json!({"type": "host_changed", "seat": 2})),
        (
            Event::BotAdded { seat, name: name("Bot"), style: Style::Bold, cause: None },
            json!({"type": "bot_added", "seat": 2, "name": "Bot", "style": "bold"}),
        ),
        (
            Event::BotRemoved { seat, cause: CAUSE },
            json!({"type": "bot_removed", "seat": 2, "cause": cause}),
        ),
        (Event::PlayerWentSilent { seat }, json!({"type": "player_went_silent", "seat": 2})),
        (
            Event::PlayerCameBack { seat, cause: None },
            json!({"type": "player_came_back", "seat": 2}),
        ),
        (
            Event::RoomAbandoned { reason: AbandonReason::EverybodyLeft },
            json!({"type": "room_abandoned", "reason": "everybody_left"}),
        ),
        (
            Event::Chat { seat, text: common::room::text("<b>hi</b>"), cause: CAUSE },
            json!({"type": "chat", "seat": 2, "text": "<b>hi</b>", "cause": cause}),
        ),
        (
            Event::ActionRefused {
                seat,
                action: ActionNumber::new(9),
                reason: Refusal::NotYourTurn,
            },
            json!({"type": "action_refused", "seat": 2, "action": 9, "reason": "not_your_turn"}),
        ),
    ]
}

fn preparation_events() -> Vec<(Event, Value)> {
    let seat = Seat::Third;
    let cause = json!({"seat": 1, "action": 9});
    vec![
        (Event::GameStarted { cause: CAUSE }, json!({"type": "game_started", "cause": cause})),
        (
            Event::Dealt {
                round: 3,
                multiplier: 2,
                starter: seat,
                hands: hands(PLAIN),
                weak: vec![Seat::Fourth],
            },
            json!({"type": "dealt", "round": 3, "multiplier": 2, "starter": 2, "hands": [
                [0, 3, 5, 7, 9, 11, 27, 28], [1, 4, 6, 8, 10, 12, 29, 30],
                [13, 14, 16, 19, 21, 23, 25, 31], [2, 15, 17, 18, 20, 22, 24, 26]], "weak": [3]}),
        ),
        (Event::RedealAsked { seat }, json!({"type": "redeal_asked", "seat": 2})),
        (
            Event::RedealAccepted { seat, cause: CAUSE },
            json!({"type": "redeal_accepted", "seat": 2, "cause": cause}),
        ),
        (
            Event::RedealDeclined { seat, cause: None },
            json!({"type": "redeal_declined", "seat": 2}),
        ),
    ]
}

fn game_events() -> Vec<(Event, Value)> {
    let seat = Seat::Third;
    let cause = json!({"seat": 1, "action": 9});
    let scores = BySeat::new([52, -3, 0, 9]);
    vec![
        (
            Event::Declared { seat, piles: 4, cause: CAUSE },
            json!({"type": "declared", "seat": 2, "piles": 4, "cause": cause}),
        ),
        (
            Event::Played {
                seat,
                pieces: pieces(&[6, 5]),
                play: Some(PlayType::Pair),
                can_win: true,
                cause: None,
            },
            json!({"type": "played", "seat": 2, "pieces": [5, 6], "play": "pair", "can_win": true}),
        ),
        (
            Event::TurnWon { winner: seat, piles: 2 },
            json!({"type": "turn_won", "winner": 2, "piles": 2}),
        ),
        (
            Event::RoundScored {
                round: 3,
                multiplier: 2,
                declared: BySeat::new([1, 2, 3, 4]),
                captured: BySeat::new([2, 2, 2, 2]),
                change: BySeat::new([-2, 14, -2, -4]),
                scores,
            },
            json!({"type": "round_scored", "round": 3, "multiplier": 2, "declared": [1, 2, 3, 4],
                "captured": [2, 2, 2, 2], "change": [-2, 14, -2, -4], "scores": [52, -3, 0, 9]}),
        ),
        (
            Event::GameEnded { rounds: 7, scores, winners: vec![Seat::First], limit: None },
            json!({"type": "game_ended", "rounds": 7, "scores": [52, -3, 0, 9], "winners": [0]}),
        ),
        (
            Event::GameEnded {
                rounds: 7,
                scores,
                winners: vec![Seat::First],
                limit: Some(Limit::Minutes),
            },
            json!({"type": "game_ended", "rounds": 7, "scores": [52, -3, 0, 9], "winners": [0],
                "limit": "minutes"}),
        ),
    ]
}

#[test]
fn every_event_is_stored_in_its_own_json_and_reads_back() {
    let events = every_event();
    let names: std::collections::BTreeSet<_> = events.iter().map(|(e, _)| e.name()).collect();
    assert_eq!(names.len(), 21);
    for (event, json) in events {
        assert_eq!(serde_json::to_value(&event).unwrap(), json);
        assert_eq!(serde_json::from_value::<Event>(json.clone()).unwrap(), event);
        assert_eq!(json["type"], event.name());
    }
}

#[test]
fn an_unknown_field_or_type_or_a_missing_field_is_refused() {
    for (_, json) in every_event() {
        let refused = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            let mut fields = json.as_object().unwrap().clone();
            change(&mut fields);
            serde_json::from_value::<Event>(Value::Object(fields)).is_err()
        };
        assert!(refused(&|fields| drop(fields.insert("extra".into(), json!(1)))), "{json}");
        assert!(refused(&|fields| drop(fields.insert("type".into(), json!("dealt_badly")))));
        let may_be_absent = |field: &&String| ["cause", "limit"].contains(&field.as_str());
        for field in json.as_object().unwrap().keys().filter(|field| !may_be_absent(field)) {
            assert!(refused(&|fields| drop(fields.remove(field))), "{json} without {field}");
            assert!(refused(&|fields| drop(fields.insert(field.clone(), json!({"x": []})))));
        }
    }
}

#[test]
fn values_out_of_their_range_are_refused() {
    for bad in [
        r#"{"type":"host_changed","seat":4}"#,
        r#"{"type":"host_changed","seat":-1}"#,
        r#"{"type":"host_changed","seat":0,"seat":1}"#,
        r#"{"type":"turn_won","winner":0,"piles":256}"#,
        r#"{"type":"played","seat":0,"pieces":[32],"play":null,"can_win":false}"#,
        r#"{"type":"played","seat":0,"pieces":[1,1],"play":null,"can_win":false}"#,
        r#"{"type":"chat","seat":0,"text":""}"#,
        r#"{"type":"chat","seat":0,"text":"a\u0000"}"#,
        r#"{"type":"action_refused","seat":0,"action":-1,"reason":"not_host"}"#,
        r#"{"type":"action_refused","seat":0,"action":1,"reason":"because"}"#,
        r#"{"type":"round_scored","round":1,"multiplier":1,"declared":[1,2,3],
            "captured":[2,2,2,2],"change":[0,0,0,0],"scores":[0,0,0,0]}"#,
        "[]",
        "null",
        "{}",
    ] {
        assert!(serde_json::from_str::<Event>(bad).is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(serde_json::from_slice::<Event>(&bytes).is_err());
    }

    #[test]
    fn a_stored_event_with_changed_bytes_is_refused_or_is_an_event(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let events = every_event();
        let (event, _) = &events[which.index(events.len())];
        let mut bytes = serde_json::to_vec(event).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = serde_json::from_slice::<Event>(&bytes) {
            let again = serde_json::to_vec(&read).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Event>(&again).unwrap(), read);
        }
    }

    #[test]
    fn a_cut_off_event_is_refused(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let events = every_event();
        let bytes = serde_json::to_vec(&events[which.index(events.len())].0).unwrap();
        prop_assert!(serde_json::from_slice::<Event>(&bytes[..at.index(bytes.len())]).is_err());
    }
}

#[test]
fn every_event_of_a_played_game_reads_back() {
    let mut room = TestRoom::with_people(2);
    room.does(1, chat("hello")).unwrap();
    let game = game_server::simulate::play_game(3, 7).unwrap();
    for event in room.events.iter().chain(&game.events) {
        let json = serde_json::to_string(event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), *event);
    }
}
