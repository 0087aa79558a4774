//! What a client meets that asks for too much, and that others do not.

use std::sync::Arc;

use game_server::config::Options;
use infra_testkit::clock::ManualClock;
use serde_json::{Value, json};

use crate::{
    player::Player,
    raw::{Heard, RawSocket, exchange, handshake, head},
    support::{Host, act, ask, eventually, options, start_with, until},
};

/// Starts a server whose limits refuse, on a clock that stands still.
async fn enforcing(change: impl FnOnce(&mut Options)) -> (Host, ManualClock) {
    let wide = || Some("10000/1".to_owned());
    let mut options = Options {
        limits: Some("enforce".to_owned()),
        limit_input: wide(),
        limit_chat: wide(),
        limit_control: wide(),
        ..options()
    };
    change(&mut options);
    let clock = ManualClock::new();
    (start_with(options, Arc::new(clock.clone())).await, clock)
}

async fn ping(player: &mut Player) -> Value {
    ask(player, &json!({"type": "ping", "nonce": 1}), &["pong", "refused"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_warned_delayed_refused_and_cut_off_while_others_play_on() {
    let (host, _clock) = enforcing(|options| options.limit_control = None).await;
    let mut keeper = host.host("Mei").await;
    let mut flooder = RawSocket::greeted(host.server.addr()).await;
    for nonce in 0..60 {
        flooder.say(&json!({"type": "ping", "nonce": nonce}).to_string()).await;
    }
    let mut heard = Vec::new();
    let end = loop {
        match flooder.hear().await {
            Heard::Message(message) => heard.push(message),
            end @ (Heard::Closed(_) | Heard::Cut) => break end,
        }
    };
    let count = |kind| heard.iter().filter(|message| message["type"] == kind).count();
    // 20 with the hello, one more within 250 ms, nine refused; the tenth strike is the last.
    assert_eq!((count("pong"), count("slow_down"), count("refused")), (20, 1, 8), "{heard:?}");
    let refused = heard.iter().find(|message| message["type"] == "refused").unwrap();
    assert_eq!(
        (&refused["code"], &refused["retry_after_ms"]),
        (&json!("rate_limited"), &json!(1_000))
    );
    assert_eq!(heard.last().unwrap()["code"], "too_many_messages");
    assert_eq!(end, Heard::Closed(4030));
    assert_eq!(act(&mut keeper, &json!({"type": "add_bot", "action": 1})).await["type"], "ack");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_has_its_tokens_and_gets_one_back_a_second() {
    let (host, clock) = enforcing(|options| options.limit_messages = Some(10)).await;
    let mut player = host.player().await;
    for number in 0..120 {
        assert_eq!(ping(&mut player).await["type"], "pong", "{number}");
    }
    let refused = ping(&mut player).await;
    assert_eq!(
        (&refused["code"], &refused["retry_after_ms"]),
        (&json!("rate_limited"), &json!(1_000))
    );
    let mut other = host.player().await;
    assert_eq!(ping(&mut other).await["type"], "pong");
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(ping(&mut player).await["type"], "pong");
    assert_eq!(ping(&mut player).await["type"], "refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_players_of_a_room_share_its_tokens_at_the_price_of_its_phase() {
    let (host, _clock) = enforcing(|options| options.limit_room = Some("10/60".to_owned())).await;
    let mut mei = host.host("Mei").await;
    let mut ann = host.guest(&mei.known.room.clone(), "Ann").await;
    // An action costs twice as much in a room that does not play; talk does not.
    for action in 1..=2 {
        let added = act(&mut mei, &json!({"type": "add_bot", "action": action})).await;
        assert_eq!(added["type"], "ack");
    }
    for action in 1..=6 {
        let said = act(&mut ann, &json!({"type": "chat", "action": action, "text": "hi"})).await;
        assert_eq!(said["type"], "ack", "{said}");
    }
    let refused = act(&mut mei, &json!({"type": "chat", "action": 3, "text": "hi"})).await;
    assert_eq!(refused["code"], "rate_limited");
    assert!(refused["retry_after_ms"].as_u64().is_some_and(|pause| 1_000 < pause), "{refused}");
    let mut other = host.host("Bo").await;
    assert_eq!(act(&mut other, &json!({"type": "add_bot", "action": 1})).await["type"], "ack");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_starts_too_often_is_refused_for_ten_minutes() {
    let (host, clock) = enforcing(|_| {}).await;
    let mut spectator = host.player().await;
    let start = json!({"type": "start", "action": 1});
    for _ in 0..3 {
        assert_eq!(act(&mut spectator, &start).await["code"], "not_in_room");
    }
    let refused = act(&mut spectator, &start).await;
    assert_eq!(
        (&refused["code"], &refused["retry_after_ms"]),
        (&json!("rate_limited"), &json!(600_000))
    );
    clock.advance(std::time::Duration::from_secs(599));
    assert_eq!(act(&mut spectator, &start).await["code"], "rate_limited");
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(act(&mut spectator, &start).await["code"], "not_in_room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_arrives_only_so_often() {
    let (host, clock) = enforcing(|options| options.limit_arrivals = Some("3/60".to_owned())).await;
    let mut kept = host.host("Mei").await;
    let _other = host.player().await;
    let mut third = RawSocket::open(host.server.addr()).await;
    third.say(r#"{"type":"hello"}"#).await;
    let Heard::Message(refused) = third.hear().await else { panic!("no refusal") };
    assert_eq!((&refused["request"], &refused["code"]), (&json!("hello"), &json!("rate_limited")));
    assert_eq!(refused["retry_after_ms"], 20_000);
    assert_eq!(ping(&mut kept).await["type"], "pong");
    clock.advance(std::time::Duration::from_secs(20));
    third.say(r#"{"type":"hello"}"#).await;
    assert!(matches!(third.hear().await, Heard::Message(answer) if answer["type"] == "welcome"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_has_so_many_spectators_and_its_seats_are_not_among_them() {
    let (host, _clock) = enforcing(|options| options.spectators = Some(1)).await;
    let mei = host.host("Mei").await;
    let watch = json!({"type": "spectate", "room": mei.known.room});
    let mut first = host.player().await;
    assert_eq!(ask(&mut first, &watch, &["joined", "refused"]).await["type"], "joined");
    let mut second = host.player().await;
    assert_eq!(ask(&mut second, &watch, &["joined", "refused"]).await["code"], "overloaded");
    let _guest = host.guest(&mei.known.room, "Ann").await;
    first.say(&json!({"type": "leave_room", "action": 1})).await.unwrap();
    until(&mut first, "left").await;
    assert_eq!(ask(&mut second, &watch, &["joined", "refused"]).await["type"], "joined");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_has_so_many_connections_and_gets_them_back() {
    let (host, _clock) = enforcing(|options| options.connections_per_player = Some(1)).await;
    let mei = host.host("Mei").await;
    let (addr, known) = (host.server.addr(), mei.known.clone());
    let refused = Player::come_back(addr, known.clone()).await.unwrap_err().to_string();
    assert!(refused.contains("rate_limited"), "{refused}");
    drop(mei);
    eventually("the connection is given back", || async {
        Player::come_back(addr, known.clone()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_limited_by_the_true_address_and_health_is_not() {
    let few = |options: &mut Options| options.limit_requests = Some("2/60".to_owned());
    let (host, _clock) = enforcing(few).await;
    let addr = host.server.addr();
    let get = |path: &str, from: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\nx-forwarded-for: {from}\r\n\r\n"
        );
        async move { exchange(addr, request.as_bytes()).await }
    };
    let first = get("/", "203.0.113.1").await;
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    assert!(first.contains("ratelimit-policy: \"requests\";q=2;w=60\r\n"), "{first}");
    assert!(first.contains("ratelimit: \"requests\";r=1;t=30\r\n"), "{first}");
    assert!(get("/nowhere", "203.0.113.2").await.starts_with("HTTP/1.1 404 "));
    let refused = get("/", "203.0.113.3").await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "a header changes nothing: {refused}");
    assert!(refused.contains("retry-after: 30\r\n"), "{refused}");
    assert!(refused.contains("application/problem+json"), "{refused}");
    let upgrade = head(addr, handshake(addr, "GET", &[]).as_bytes()).await;
    assert!(upgrade.starts_with("HTTP/1.1 429 "), "{upgrade}");
    for _ in 0..5 {
        assert!(get("/health/live", "").await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_trusted_names_the_client_that_pays() {
    let (host, _clock) = enforcing(|options| {
        options.limit_requests = Some("1/60".to_owned());
        options.trust_proxy = Some(vec!["127.0.0.1".parse().unwrap()]);
    })
    .await;
    let addr = host.server.addr();
    let status = |from: &str| {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\nx-forwarded-for: {from}\r\n\r\n"
        );
        async move { exchange(addr, request.as_bytes()).await[9..12].to_owned() }
    };
    assert_eq!(status("203.0.113.1").await, "200");
    assert_eq!(status("6.6.6.6, 203.0.113.1").await, "429");
    assert_eq!(status("203.0.113.2").await, "200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_trial_nothing_is_refused_and_what_would_be_is_counted() {
    let host = crate::support::start().await;
    let mut player = host.player().await;
    for _ in 0..300 {
        assert_eq!(ping(&mut player).await["type"], "pong");
    }
    let (_, _, metrics) = host.get("/metrics").await;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("infra_ratelimit_signs_total") && line.contains("shadowed"));
    let counted: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(100.0 < counted, "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_who_talk_as_the_load_tool_does_are_never_refused_by_the_defaults() {
    let defaults = |options: &mut Options| {
        (options.limit_input, options.limit_chat, options.limit_control) = (None, None, None);
    };
    let (host, clock) = enforcing(defaults).await;
    let mut players = vec![host.host("Player 0").await];
    for seat in 1..4 {
        let room = players[0].known.room.clone();
        players.push(host.guest(&room, &format!("Player {seat}")).await);
    }
    // 240 actions a minute in the room, for more than a minute, all from one address.
    for number in 0..300_u64 {
        clock.advance(std::time::Duration::from_millis(250));
        let player = &mut players[usize::try_from(number % 4).unwrap()];
        let said = json!({"type": "chat", "action": number / 4 + 1, "text": "hi"});
        assert_eq!(act(player, &said).await["type"], "ack", "{number}");
    }
}
