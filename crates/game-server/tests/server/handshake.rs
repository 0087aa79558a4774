//! Handshakes that must not succeed, and what is told instead.

use serde_json::json;

use crate::{
    raw::{exchange, handshake, head},
    support::{act, start},
};

/// What is tried, with which method and changed headers, and the status.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_handshake_is_answered_with_its_status() {
    let host = start().await;
    let addr = host.server.addr();
    let own = format!("http://{addr}");
    let cases: [Case<'_>; 9] = [
        ("no origin", "GET", &[], 101),
        ("own origin", "GET", &[("origin", own.as_str())], 101),
        ("foreign origin", "GET", &[("origin", "http://evil.example")], 403),
        ("another port is another origin", "GET", &[("origin", "http://127.0.0.1:1")], 403),
        ("an origin that hides", "GET", &[("origin", "null")], 403),
        ("another version", "GET", &[("sec-websocket-version", "12")], 426),
        ("another method", "POST", &[("content-length", "0")], 405),
        ("another protocol", "GET", &[("sec-websocket-protocol", "chess.v9")], 400),
        ("no key", "GET", &[("sec-websocket-key", "")], 400),
    ];
    for (what, method, changes, expected) in cases {
        let answer = head(addr, handshake(addr, method, changes).as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(status, expected.to_string(), "{what}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_never_ends_is_cut_off_without_an_answer() {
    let host = start().await;
    let addr = host.server.addr();
    let whole = handshake(addr, "GET", &[]);
    let half = &whole.as_bytes()[..whole.len() / 2];
    let (silent, begun) = tokio::join!(exchange(addr, b""), exchange(addr, half));
    assert_eq!((silent.as_str(), begun.as_str()), ("", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_instead_of_http_is_refused_and_other_guests_play_on() {
    let host = start().await;
    let addr = host.server.addr();
    let mut player = host.host("Mei").await;
    for garbage in [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), vec![0xff; 20_000]] {
        let answer = exchange(addr, &garbage).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let acked = act(&mut player, &json!({"type": "add_bot", "action": 1})).await;
    assert_eq!(acked["type"], "ack");
}
