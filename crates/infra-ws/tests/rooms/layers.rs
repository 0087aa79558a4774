//! Middleware around rooms, over real sockets.

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::limit::Charge;
use infra_testkit::{clock::ManualClock, model::ModelLimiter};
use infra_ws::{
    Close, Connection, Frame, Inbound, Priority,
    layer::{Layer, Next, RateLimit, Traced, Validate},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Call, Server, until};

/// Notes what it sees, under a name.
#[derive(Debug, Clone)]
struct Noting(&'static str, Arc<Mutex<Vec<String>>>);

impl Noting {
    fn note(&self, what: &str) {
        self.1.lock().push(format!("{} {what}", self.0));
    }
}

#[async_trait]
impl Layer for Noting {
    async fn connect(&self, _connection: &Connection) -> Result<(), Close> {
        self.note("connect");
        Ok(())
    }

    async fn inbound(
        &self,
        connection: &Connection,
        message: Inbound,
        next: Next<'_>,
    ) -> Result<(), Close> {
        self.note("before");
        let handled = next.run(connection, message).await;
        self.note("after");
        handled
    }

    fn outbound(&self, _connection: &Connection, frame: Frame) -> Option<Frame> {
        self.note("out");
        if let Frame::Text(text) = &frame {
            assert!(!text.contains("poison"), "a layer that panics");
            if text.contains("withheld") {
                return None;
            }
        }
        Some(frame)
    }

    async fn closed(&self, _connection: &Connection) {
        self.note("closed");
    }
}

fn limiter(clock: &ManualClock) -> Arc<ModelLimiter> {
    let limits = [("messages", 3, Duration::from_secs(2))];
    Arc::new(ModelLimiter::new(limits, Arc::new(clock.clone())))
}

fn by_connection(connection: &Connection, _message: &Inbound) -> Vec<Charge> {
    vec![Charge::one("messages", connection.id().to_string())]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_knows_what_the_handshake_said_and_proxies_only_if_trusted() {
    let own: IpAddr = "127.0.0.1".parse().unwrap();
    for (trusted, wanted) in [(true, "203.0.113.9"), (false, "127.0.0.1")] {
        let server = Server::with(
            |setup| {
                if trusted {
                    setup.options = setup.options.clone().trust_proxies([own]);
                }
            },
            |app| app,
        )
        .await;
        let headers = [("user-agent", "test-agent"), ("x-forwarded-for", "203.0.113.9")];
        let _player = server.with_headers(&headers).await;
        until(|| !server.hub.connections().is_empty()).await;
        let connection = server.hub.connections().remove(0);
        let found = server.hub.get(connection.id()).unwrap();
        assert_eq!(found.facts().user_agent(), Some("test-agent"));
        assert_eq!(found.facts().address(), wanted.parse::<IpAddr>().unwrap());
        assert_eq!(found.peer().ip(), own);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_refused_at_the_exact_message_with_the_limiters_own_time() {
    let clock = ManualClock::new();
    let limit = RateLimit::new(limiter(&clock), by_connection);
    let server = Server::with(|_| {}, |app| app.layer(limit)).await;
    let mut ann = server.raw().await;
    ann.say(json!({"type": "connect", "token": "ann"})).await;
    ann.expect("connected").await;
    ann.say(json!({"type": "ping"})).await;
    ann.say(json!({"type": "nonsense"})).await;
    ann.say(json!({"type": "ping"})).await;
    ann.expect("pong").await;
    assert_eq!(ann.expect("error").await["code"], "invalid_message", "it is counted as well");
    let refused = ann.expect("error").await;
    assert_eq!(refused["code"], "rate_limited", "the fourth message of three");
    assert_eq!(refused["retry_after_ms"], 2_000);
    clock.advance(Duration::from_millis(1_999));
    ann.say(json!({"type": "ping"})).await;
    assert_eq!(ann.expect("error").await["retry_after_ms"], 1);
    clock.advance(Duration::from_millis(1));
    ann.say(json!({"type": "ping"})).await;
    ann.expect("pong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_refused_without_a_word_of_the_insides_and_ten_close() {
    let clock = ManualClock::new();
    let validate = Validate::text().depth(4).clock(Arc::new(clock.clone()));
    let server = Server::with(
        |setup| setup.options = setup.options.clone().message_bytes(1_000),
        |app| app.layer(validate),
    )
    .await;
    let mut ann = server.player("ann").await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(4), "]".repeat(4));
    for text in ["\"a bare string\"", "[1]", "{\"type\":", deep.as_str()] {
        ann.client.send(text).await.unwrap();
        let error = ann.expect("error").await;
        assert_eq!(error["code"], "invalid_message");
        let words = error["message"].as_str().unwrap();
        assert!(words.starts_with("message is n"), "{words}");
    }
    ann.client.send_binary(b"\x81".to_vec()).await.unwrap();
    let words = ann.expect("error").await["message"].clone();
    assert_eq!(words, "binary messages are not taken here");
    // A minute later the first five no longer count.
    clock.advance(Duration::from_mins(1));
    for _ in 0..9 {
        ann.client.send("nonsense").await.unwrap();
        ann.expect("error").await;
    }
    ann.say(json!({"type": "ping"})).await;
    ann.expect("pong").await;
    ann.client.send("nonsense").await.unwrap();
    assert_eq!(ann.closed().await.unwrap().0, 1011);
    let mut large = server.player("ann").await;
    large.client.send("x".repeat(1_001)).await.unwrap();
    assert_eq!(large.closed().await.unwrap().0, 1009);
    server.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_passed_in_order_and_validation_comes_before_the_cost() {
    let notes: Arc<Mutex<Vec<String>>> = Arc::default();
    let (outer, inner) = (Noting("outer", Arc::clone(&notes)), Noting("inner", Arc::clone(&notes)));
    let clock = ManualClock::new();
    let limit = RateLimit::new(limiter(&clock), by_connection);
    let server = Server::with(
        |_| {},
        |app| {
            app.layer(outer).layer(Traced::new()).layer(Validate::text()).layer(limit).layer(inner)
        },
    )
    .await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let carried = [("traceparent", trace), ("tracestate", "vendor=1"), ("baggage", "season=3")];
    let mut ann = server.with_headers(&carried).await;
    for _ in 0..5 {
        // Invalid, so it costs nothing: the limit of three is not touched.
        ann.client.send("[]").await.unwrap();
        assert_eq!(ann.expect("error").await["code"], "invalid_message");
    }
    notes.lock().clear();
    ann.say(json!({"type": "connect", "token": "ann"})).await;
    ann.expect("connected").await;
    until(|| notes.lock().len() == 6).await;
    let wanted =
        ["outer before", "inner before", "inner out", "outer out", "inner after", "outer after"];
    assert_eq!(*notes.lock(), wanted);
    let answer = ann.ask(json!({"type": "request", "method": "trace"})).await;
    let seen = answer["data"].as_str().unwrap();
    assert!(seen.starts_with(&trace[..36]) && seen != trace, "a child of the handshake: {seen}");
    let answer = ann.ask(json!({"type": "request", "method": "headers"})).await;
    assert_eq!(answer["data"], json!({"tracestate": "vendor=1"}), "a client's baggage stays out");
    notes.lock().clear();
    drop(ann);
    server.settled().await;
    assert_eq!(*notes.lock(), ["inner closed", "outer closed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_baggage_of_the_handshake_comes_along_where_it_is_asked_for() {
    let server = Server::with(|_| {}, |app| app.layer(Traced::new().with_baggage())).await;
    let mut ann = server.with_headers(&[("baggage", "season=3, table=a%20b")]).await;
    ann.say(json!({"type": "connect", "token": "ann"})).await;
    ann.expect("connected").await;
    let answer = ann.ask(json!({"type": "request", "method": "headers"})).await;
    assert_eq!(answer["data"], json!({"baggage": "season=3,table=a%20b"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_its_connection_alone_wherever_it_happens() {
    let notes: Arc<Mutex<Vec<String>>> = Arc::default();
    let server = Server::with(|_| {}, |app| app.layer(Noting("one", Arc::clone(&notes)))).await;
    let (mut ann, _) = server.in_room("ann", "room").await;
    let (mut bob, _) = server.in_room("bob", "other").await;
    let withheld = server.rooms.broadcast().everybody().send(json!("withheld"));
    assert_eq!((withheld.queued, withheld.refused), (0, 2));
    let poisoned = server.rooms.broadcast().room("room").send(json!("poison"));
    assert_eq!((poisoned.queued, poisoned.refused), (0, 1));
    assert_eq!(ann.closed().await.unwrap().0, 1011);
    assert_eq!(bob.publish("other", json!(1)).await["type"], "ack");
    bob.say(json!({"type": "request", "id": 1, "method": "panic"})).await;
    assert_eq!(bob.closed().await.unwrap().0, 1011);
    server.settled().await;
    assert!(server.hub.ledger().is_balanced());
    assert_eq!(notes.lock().iter().filter(|note| note.ends_with("closed")).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_urgent_message_reaches_the_client_first() {
    let server = Server::start().await;
    let mut ann = server.player("ann").await;
    let rooms = server.rooms.clone();
    let all = [Priority::Low, Priority::Critical, Priority::Normal, Priority::High];
    let call = move || {
        for priority in all {
            let sent = rooms.broadcast().user("ann").priority(priority).send(json!(priority as u8));
            assert_eq!(sent.queued, 1);
        }
    };
    // It runs in the task that also writes, so all four wait before one is written.
    *server.rooms.handler().call.lock() = Some(Call(Box::new(call)));
    ann.say(json!({"type": "request", "id": 1, "method": "call"})).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(ann.expect("message").await["data"].clone());
    }
    let wanted: Vec<Value> = [Priority::Critical, Priority::High, Priority::Normal, Priority::Low]
        .map(|priority| json!(priority as u8))
        .into();
    assert_eq!(order, wanted);
    *server.rooms.handler().call.lock() = None;
}
