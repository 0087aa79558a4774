//! Bad input over a real socket: each case gets its typed answer, and the room stays as it was.

use std::{sync::Arc, time::Duration};

use game_server::config::Options;
use infra_core::SystemClock;
use infra_testkit::clock::ManualClock;
use serde_json::{Value, json};

use crate::{
    player::Player,
    raw::{Heard, RawSocket},
    support::{Host, act, ask, options, start, start_with, until},
};

/// What a client says, and the code and field of the answer.
const MALFORMED: &str = r#"
hello | bad_json |
{"type":"play","action":1,"pie | bad_json |
{"type":"ping","nonce":1}{} | bad_json |
["start"] | not_an_object |
{"type":"ping","nonce":1,"nonce":2} | duplicate_field | nonce
{"type":"fly"} | unknown_type | type
{"type":"ping","nonce":1,"x":2} | unknown_field | x
{"type":"start"} | missing_field | action
{"type":"start","action":0} | invalid_value | action
{"type":"start","action":1.5} | invalid_value | action
{"type":"start","action":9007199254740993} | invalid_value | action
{"type":"play","action":1,"pieces":[32]} | invalid_value | pieces
{"type":"play","action":1,"pieces":[3,3]} | invalid_value | pieces
{"type":"declare","action":1,"piles":256} | invalid_value | piles
{"type":"create_room","name":""} | invalid_value | name
{"type":"create_room","name":"a\u0007b"} | invalid_value | name
{"type":"create_room","name":"a\u202eb"} | invalid_value | name
{"type":"chat","action":9,"text":"a\u0000b"} | invalid_value | text
{"type":"spectate","room":"../etc"} | invalid_value | room
{"type":"emoji","emoji":"x"} | invalid_value | emoji
"#;

/// Returns messages, and the code and field of the answer to each.
fn malformed() -> Vec<(String, String, Option<String>)> {
    let case = |text: &str, code: &str, field: &str| {
        let field = (!field.is_empty()).then(|| field.to_owned());
        (text.to_owned(), code.to_owned(), field)
    };
    let name = json!({"type": "create_room", "name": "x".repeat(51)}).to_string();
    let chat = json!({"type": "chat", "action": 9, "text": "x".repeat(1_001)}).to_string();
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    let long = [
        case(&name, "invalid_value", "name"),
        case(&chat, "invalid_value", "text"),
        case(&deep, "too_deep", ""),
    ];
    let short = MALFORMED.lines().filter(|line| !line.is_empty()).map(|line| {
        let mut parts = line.rsplitn(3, '|').map(str::trim);
        let (field, code) = (parts.next().unwrap(), parts.next().unwrap());
        case(parts.next().unwrap(), code, field)
    });
    short.chain(long).collect()
}

/// The state of a room without what a recorded refusal changes.
async fn essence(host: &Host, room: &str) -> Value {
    let mut state = host.state_of(room).await;
    let fields = state.as_object_mut().unwrap();
    fields.remove("offset");
    fields.remove("last_action");
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_message_is_answered_with_what_is_wrong_and_where() {
    let host = start().await;
    let mut keeper = host.host("Mei").await;
    let before = essence(&host, &keeper.known.room).await;
    for group in malformed().chunks(9) {
        let mut socket = RawSocket::greeted(host.server.addr()).await;
        for (message, code, field) in group {
            socket.say(message).await;
            let Heard::Message(answer) = socket.hear().await else { panic!("{message}: closed") };
            let found = (&answer["type"], &answer["code"], answer["field"].as_str());
            let expected = (&json!("error"), &json!(code), field.as_deref());
            assert_eq!(found, expected, "{message}: {answer}");
            assert_eq!(answer["fatal"], false, "{message}");
        }
        socket.say(r#"{"type":"ping","nonce":3}"#).await;
        assert_eq!(socket.hear().await, Heard::Message(json!({"type": "pong", "nonce": 3})));
    }
    assert_eq!(essence(&host, &keeper.known.room).await, before);
    assert_eq!(act(&mut keeper, &json!({"type": "add_bot", "action": 1})).await["type"], "ack");
}

/// Says `hello` by hand and returns how the server ends the conversation.
async fn ended(host: &Host, first: u8, payload: &[u8]) -> (Option<Value>, Heard) {
    let mut socket = RawSocket::greeted(host.server.addr()).await;
    socket.frame(first, payload).await;
    end_of(&mut socket).await
}

/// Returns the last message before the end, and the end.
async fn end_of(socket: &mut RawSocket) -> (Option<Value>, Heard) {
    let mut last = None;
    loop {
        match socket.hear().await {
            Heard::Message(message) => last = Some(message),
            end @ (Heard::Closed(_) | Heard::Cut) => return (last, end),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_break_the_protocol_end_the_connection_with_their_code() {
    let host = start().await;
    let keeper = host.host("Mei").await;
    let before = essence(&host, &keeper.known.room).await;
    let big = vec![b' '; 65_537];
    let cases: [(&str, u8, &[u8], u16); 8] = [
        ("binary", 0x82, b"\x00\x01", 1003),
        ("invalid UTF-8", 0x81, b"{\"type\":\"\xc3\x28\"}", 1007),
        ("oversized", 0x81, &big, 1009),
        ("reserved bit", 0xc1, b"{}", 1002),
        ("unknown opcode", 0x83, b"{}", 1002),
        ("a ping in two parts", 0x09, b"", 1002),
        ("a ping of 126 bytes", 0x89, &[b'x'; 126], 1002),
        ("a continuation of nothing", 0x80, b"x", 1002),
    ];
    for (what, first, payload, code) in cases {
        assert_eq!(ended(&host, first, payload).await.1, Heard::Closed(code), "{what}");
    }
    let mut unmasked = RawSocket::greeted(host.server.addr()).await;
    unmasked.bytes(b"\x81\x02{}").await;
    assert_eq!(end_of(&mut unmasked).await.1, Heard::Closed(1002), "unmasked");
    let mut liar = RawSocket::greeted(host.server.addr()).await;
    liar.bytes(b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0").await;
    assert_eq!(end_of(&mut liar).await.1, Heard::Closed(1009), "a length of 8 EiB");
    assert_eq!(essence(&host, &keeper.known.room).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_never_finished_and_a_first_one_that_never_comes_are_given_up() {
    let host = start().await;
    let addr = host.server.addr();
    let never_finished = async {
        let mut socket = RawSocket::greeted(addr).await;
        socket.frame(0x01, b"{\"type\":").await;
        end_of(&mut socket).await.1
    };
    let never_begun = async {
        let mut socket = RawSocket::open(addr).await;
        end_of(&mut socket).await.1
    };
    let (never_finished, never_begun) = tokio::join!(never_finished, never_begun);
    assert_eq!(never_finished, Heard::Closed(4007));
    assert_eq!(never_begun, Heard::Closed(4001));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_first_message_ends_the_connection() {
    let host = start().await;
    let cases = [
        ("garbage", "garbage", "bad_json"),
        ("not hello", r#"{"type":"list_rooms"}"#, "hello_expected"),
        ("an action", r#"{"type":"start","action":1}"#, "hello_expected"),
        ("an unknown field", r#"{"type":"hello","admin":true}"#, "unknown_field"),
        ("half a resume", r#"{"type":"hello","resume":{}}"#, "missing_field"),
    ];
    for (what, message, code) in cases {
        let mut socket = RawSocket::open(host.server.addr()).await;
        socket.say(message).await;
        let (last, end) = end_of(&mut socket).await;
        let last = last.unwrap_or_default();
        assert_eq!((&last["code"], &last["fatal"]), (&json!(code), &json!(true)), "{what}: {last}");
        assert_eq!(end, Heard::Closed(4000), "{what}");
    }
    let mut socket = RawSocket::greeted(host.server.addr()).await;
    socket.say(r#"{"type":"hello"}"#).await;
    let Heard::Message(answer) = socket.hear().await else { panic!("closed") };
    assert_eq!(answer["code"], "unexpected_hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_malformed_messages_within_a_minute_are_too_many() {
    let host = start().await;
    let mut socket = RawSocket::greeted(host.server.addr()).await;
    for _ in 0..10 {
        socket.say("{").await;
    }
    let (last, end) = end_of(&mut socket).await;
    assert_eq!(last.unwrap()["code"], "too_many_bad_messages");
    assert_eq!(end, Heard::Closed(4029));
}

/// Says `hello` with a token and returns the last message and how it ended, if it did.
async fn resume(host: &Host, token: &str) -> (Value, Option<Heard>) {
    let mut socket = RawSocket::open(host.server.addr()).await;
    socket.say(&json!({"type": "hello", "resume": {"token": token}}).to_string()).await;
    match socket.hear().await {
        Heard::Message(message) if message["type"] == "welcome" => (message, None),
        Heard::Message(message) => (message, Some(socket.hear().await)),
        end @ (Heard::Closed(_) | Heard::Cut) => (Value::Null, Some(end)),
    }
}

fn token(player: &Player) -> String {
    player.known.token.as_ref().and_then(Value::as_str).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_tokens_are_refused_and_lock_nobody_out() {
    let (host, other) = (start().await, start().await);
    let player = host.host("Mei").await;
    let stranger = other.host("Mei").await;
    let genuine = token(&player);
    let flipped = |index: usize| {
        let mut bytes = genuine.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let middle = genuine.len() / 2;
    // The last character of base64 may carry bits that mean nothing: the one before it does not.
    let forged = [flipped(middle), flipped(genuine.len() - 2), "t1".to_owned(), token(&stranger)];
    for forged in forged {
        let (answer, end) = resume(&host, &forged).await;
        assert_eq!(answer["code"], "token_forged", "{forged}: {answer}");
        assert_eq!(end, Some(Heard::Closed(4002)));
    }
    assert_eq!(resume(&host, &genuine).await.1, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_token_and_one_that_a_later_one_replaced_are_refused() {
    let clock = ManualClock::new();
    let host = start_with(options(), Arc::new(clock.clone())).await;
    let player = host.host("Mei").await;
    let first = token(&player);
    let known = player.known.clone();
    drop(player);
    // The second generation is used once: from then on the first is void.
    let mut second = Player::come_back(host.server.addr(), known.clone()).await.unwrap();
    until(&mut second, "resumed").await;
    let newest = token(&second);
    assert_eq!(resume(&host, &first).await.1, None, "the answer may have been lost");
    assert_eq!(resume(&host, &newest).await.1, None);
    let (answer, end) = resume(&host, &first).await;
    assert_eq!((&answer["code"], end), (&json!("token_expired"), Some(Heard::Closed(4003))));
    clock.advance(Duration::from_hours(25));
    let (answer, end) = resume(&host, &newest).await;
    assert_eq!((&answer["code"], end), (&json!("token_expired"), Some(Heard::Closed(4003))));
    assert_eq!(host.events_of(&known.room).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_cannot_be_are_refused_by_name() {
    let host = start().await;
    let mut keeper = host.host("Mei").await;
    let mut stranger = host.player().await;
    let room = keeper.known.room.clone();
    let refused = async |player: &mut Player, request: Value| {
        let answer = ask(player, &request, &["refused", "joined", "resumed"]).await;
        answer["code"].as_str().unwrap_or("accepted").to_owned()
    };
    let absent = if room == "000000" { "000001" } else { "000000" };
    let nobody = json!({"type": "join_room", "room": absent, "name": "Li"});
    assert_eq!(refused(&mut stranger, nobody).await, "no_such_room");
    let watch = json!({"type": "spectate", "room": absent});
    assert_eq!(refused(&mut stranger, watch).await, "no_such_room");
    let same_name = json!({"type": "join_room", "room": room, "name": "mei"});
    assert_eq!(refused(&mut stranger, same_name).await, "name_taken");
    let times = json!({"type": "create_room", "name": "Li", "settings": {"turn_ms": 3_600_001}});
    assert_eq!(refused(&mut stranger, times).await, "invalid_settings");
    let again = json!({"type": "create_room", "name": "Mei"});
    assert_eq!(refused(&mut keeper, again).await, "already_in_room");
    let start = json!({"type": "start", "action": 1});
    assert_eq!(refused(&mut stranger, start.clone()).await, "not_in_room");
    let gesture = json!({"type": "emoji", "emoji": "wave"});
    assert_eq!(refused(&mut stranger, gesture).await, "not_in_room");
    assert_eq!(act(&mut keeper, &start).await["type"], "ack");
    let late = json!({"type": "join_room", "room": room, "name": "Li"});
    assert_eq!(refused(&mut stranger, late).await, "game_running");
}

/// Takes what comes until it is this player's turn, or until nothing more comes for a while.
async fn my_turn(player: &mut Player) -> Value {
    loop {
        if let Some(choice) = player.known.table.choose() {
            return choice;
        }
        let message = player.next().await.unwrap().expect("closed");
        player.take(&message).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_against_the_rules_are_refused_and_change_nothing() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    let mut li = host.guest(&mei.known.room, "Li").await;
    let room = mei.known.room.clone();
    let mut number = 0;
    let mut refused = async |player: &mut Player, mut message: Value| {
        number += 1;
        message["action"] = json!(number);
        let answer = act(player, &message).await;
        assert!(answer["offset"].is_u64(), "a refusal is recorded: {answer}");
        answer["code"].as_str().unwrap_or("accepted").to_owned()
    };
    assert_eq!(refused(&mut mei, json!({"type": "play", "pieces": [1]})).await, "wrong_phase");
    assert_eq!(refused(&mut mei, json!({"type": "declare", "piles": 1})).await, "wrong_phase");
    assert_eq!(refused(&mut mei, json!({"type": "redeal", "accept": true})).await, "wrong_phase");
    assert_eq!(refused(&mut mei, json!({"type": "remove_bot", "seat": 3})).await, "not_a_bot");
    assert_eq!(refused(&mut mei, json!({"type": "come_back"})).await, "not_silent");
    assert_eq!(refused(&mut li, json!({"type": "start"})).await, "not_host");
    assert_eq!(refused(&mut li, json!({"type": "add_bot"})).await, "not_host");
    assert_eq!(refused(&mut mei, json!({"type": "start"})).await, "accepted");

    // One of the two people is asked sooner or later; the other one is then out of turn.
    let mut both = [mei, li];
    let asked = loop {
        let state = host.state_of(&room).await;
        match (state["game"]["phase"].as_str(), state["game"]["awaited"].as_u64()) {
            (Some("declaration"), Some(seat @ 0..=1)) => break usize::try_from(seat).unwrap(),
            (Some("preparation"), Some(seat @ 0..=1)) => {
                let seat = usize::try_from(seat).unwrap();
                let decline = json!({"type": "redeal", "accept": false});
                assert_eq!(refused(&mut both[seat], decline).await, "accepted");
            }
            _ => tokio::task::yield_now().await,
        }
    };
    let before = essence(&host, &room).await;
    let (first, second) = both.split_at_mut(1);
    let (one, other) =
        if asked == 0 { (&mut first[0], &mut second[0]) } else { (&mut second[0], &mut first[0]) };
    let declare = |piles: u8| json!({"type": "declare", "piles": piles});
    assert_eq!(refused(other, declare(1)).await, "not_your_turn");
    assert_eq!(refused(one, declare(9)).await, "declaration_out_of_range");
    assert_eq!(refused(one, json!({"type": "play", "pieces": [0]})).await, "wrong_phase");
    assert_eq!(essence(&host, &room).await, before);

    // A stale number is refused without a record.
    let stale = act(one, &json!({"type": "declare", "action": 1, "piles": 1})).await;
    assert_eq!((&stale["code"], &stale["offset"]), (&json!("stale_action"), &Value::Null));
    assert_eq!(essence(&host, &room).await, before);
}

/// Begins a game against three bots.
async fn begun(host: &Host) -> Player {
    let mut mei = host.host("Mei").await;
    assert_eq!(act(&mut mei, &json!({"type": "start", "action": 1})).await["type"], "ack");
    mei
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_that_are_not_held_and_sums_of_eight_are_refused() {
    let host = start().await;
    let (mut mei, mut number) = (begun(&host).await, 1);
    let (mut saw_eight, mut saw_not_held, mut saw_count) = (false, false, false);
    let mut n_games = 1;
    while !(saw_eight && saw_not_held && saw_count) {
        let mut choice = my_turn(&mut mei).await;
        let state = host.state_of(&mei.known.room).await;
        let before = essence(&host, &mei.known.room).await;
        let mut refused = async |mei: &mut Player, mut message: Value, expected: &str| {
            number += 1;
            message["action"] = json!(number);
            let answer = act(mei, &message).await;
            assert_eq!(answer["code"], expected, "{message}: {answer}");
            assert_eq!(essence(&host, &mei.known.room).await, before);
        };
        if choice["type"] == "play" {
            let is_strange = |piece: &u64| !mei.known.table.hand.contains(piece);
            let count = if mei.known.table.played.0 == 0 { 1 } else { mei.known.table.played.1 };
            let strange: Vec<u64> = (0..32).filter(is_strange).take(count).collect();
            refused(&mut mei, json!({"type": "play", "pieces": strange}), "piece_not_held").await;
            saw_not_held = true;
            // As few as one more than its starter played, if the hand has them.
            let more =
                mei.known.table.hand.get(..count + 1).filter(|_| 0 < mei.known.table.played.0);
            if let Some(pieces) = more {
                let message = json!({"type": "play", "pieces": pieces});
                refused(&mut mei, message, "wrong_piece_count").await;
                saw_count = true;
            }
        }
        let declared = state["game"]["declared"].as_array().unwrap().iter();
        let declared: Vec<u64> = declared.filter_map(Value::as_u64).collect();
        let sum: u64 = declared.iter().sum();
        if choice["type"] == "declare" && declared.len() == 3 && sum <= 8 {
            let message = json!({"type": "declare", "piles": 8 - sum});
            let expected = if sum == 8 && state["game"]["zeros"][0] == 2 {
                "must_declare_at_least_one"
            } else {
                "declaration_sums_to_eight"
            };
            refused(&mut mei, message, expected).await;
            saw_eight = true;
        }
        number += 1;
        choice["action"] = json!(number);
        let answer = act(&mut mei, &choice).await;
        if answer["type"] == "refused" && answer["code"] == "must_declare_at_least_one" {
            continue;
        }
        if mei.known.table.is_over {
            // Its cards had not all of the cases.
            n_games += 1;
            assert!(n_games <= 20, "twenty games without the cases that are looked for");
            (mei, number) = (begun(&host).await, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_opens_too_many_connections_is_told_to_wait() {
    let few = Options { connections_per_address: Some(3), ..options() };
    let host = start_with(few, SystemClock::shared()).await;
    let addr = host.server.addr();
    let kept = [host.player().await, host.player().await, host.player().await];
    let request = crate::raw::handshake(addr, "GET", &[]);
    let answer = crate::raw::head(addr, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: "), "{answer}");
    drop(kept);
    crate::support::eventually("a connection is admitted again", || async {
        Player::connect(addr).await.is_ok()
    })
    .await;
}

/// How many connections are bad at once.
const BAD: usize = 200;

/// Returns the resident memory of this process, the server's too, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Says something bad over a socket that was greeted, and keeps it open.
async fn misbehave(socket: &mut RawSocket, number: usize) {
    match number % 4 {
        // As deep as fits, and again.
        0 => socket.say(&"[".repeat(60_000)).await,
        // Announced as a text of 60,000 bytes, of which half comes.
        1 => {
            socket.bytes(&[0x81, 0xfe, 0xea, 0x60, 0, 0, 0, 0]).await;
            socket.bytes(&vec![b' '; 30_000]).await;
        }
        // Larger than anything that is taken.
        2 => socket.frame(0x81, &vec![b' '; 300_000]).await,
        _ => {
            for _ in 0..200 {
                socket.frame(0x89, &[7; 125]).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_who_misbehave_at_once_cost_little_memory_and_a_room_nothing() {
    let most = u32::try_from(BAD * 2).unwrap();
    let options = Options { connections_per_address: Some(most), ..options() };
    let host = start_with(options, SystemClock::shared()).await;
    let mut keeper = host.host("Mei").await;
    let room = keeper.known.room.clone();
    let before = essence(&host, &room).await;
    let (begun, mut most) = (resident(), 0);
    let mut bad = Vec::new();
    for number in 0..BAD {
        let mut socket = RawSocket::greeted(host.server.addr()).await;
        misbehave(&mut socket, number).await;
        bad.push(socket);
        most = most.max(resident());
        if number % 20 == 0 {
            keeper.say(&json!({"type": "ping", "nonce": number})).await.unwrap();
            until(&mut keeper, "pong").await;
        }
    }
    // What the half of them sent is at most 64 KiB each, and the test itself holds as much.
    let grown = most.saturating_sub(begun);
    assert!(grown < 48 * 1024, "{grown} KiB for {BAD} connections");
    assert_eq!(essence(&host, &room).await, before);
    drop(bad);
    host.stop().await;
}
