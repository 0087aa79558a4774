//! What is seen of a game from outside: one trace from the socket to the broadcast, levels that are
//! changed at run time, figures and pictures; and what must never be seen.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use game_server::{
    config::{LogFormat, LogRotation, Options, Settings},
    domain::{Event, Seat},
    exporter,
    observe::{Instruments, sink},
    server::{Backends, Server},
};
use infra_core::{Clock, SystemClock, event::RecordedEvent};
use infra_observability::live::Filter;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    play::play_on,
    raw::{self, Heard, RawSocket},
    support::{Host, act, eventually, options, start},
};

/// A log that is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A collector of spans and log records over HTTP.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<String>>>);

impl Collector {
    pub(crate) async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let collector = Self::default();
        let kept = collector.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let body = read_request(socket).await;
                kept.0.lock().unwrap().push(body);
            }
        });
        (collector, address)
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().concat()
    }

    fn spans(&self) -> Vec<Value> {
        self.all("/resourceSpans/0/scopeSpans/0/spans")
    }

    fn records(&self) -> Vec<Value> {
        self.all("/resourceLogs/0/scopeLogs/0/logRecords")
    }

    fn all(&self, place: &str) -> Vec<Value> {
        let bodies = self.0.lock().unwrap().clone();
        let bodies = bodies.iter().map(|body| serde_json::from_str::<Value>(body).unwrap());
        bodies.filter_map(|body| body.pointer(place)?.as_array().cloned()).flatten().collect()
    }
}

async fn read_request(socket: TcpStream) -> String {
    let mut socket = BufReader::new(socket);
    let mut length = 0;
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.unwrap();
        if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.unwrap();
    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    String::from_utf8(body).unwrap()
}

/// Starts a server whose log is kept and whose spans go to a collector.
pub(crate) async fn watched(log: &str) -> (Host, Sink, Collector) {
    let (collector, address) = Collector::start().await;
    let sink = Sink::default();
    let shipped = Options { otlp: Some(address.clone()), otlp_logs: Some(address), ..options() };
    let host = instrumented(Options { log: Some(log.to_owned()), ..shipped }, sink.clone()).await;
    (host, sink, collector)
}

/// Starts a server with a log and spans of its own.
pub(crate) async fn instrumented(options: Options, sink: impl Write + Send + 'static) -> Host {
    let folder = tempfile::tempdir().unwrap();
    let data = Some(folder.path().to_owned());
    let settings = Settings::resolve(Options { data, ..options }).unwrap();
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let instruments =
        Instruments::install(&settings, Arc::clone(&clock), exporter(), sink).unwrap();
    let backends = Backends::open(&settings, &clock).await.unwrap();
    let server = Server::start_on(settings, instruments, backends.clone(), clock).await.unwrap();
    Host { server, backends, folder }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_is_one_trace_from_socket_to_store_to_broadcast_and_in_the_stored_event() {
    let (host, sink, collector) = watched("info").await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "add_bot", "action": 1})).await;
    let events = host.log_of(&mei.known.room).await;
    let added = events.iter().find(|event| event.event.event_type.as_str() == "bot_added").unwrap();
    let trace = added.trace.expect("a stored event names its trace");
    assert!(added.correlation.is_some());
    let folder = host.stop().await;
    let id = format!("{:032x}", trace.trace_id());
    let spans = collector.spans();
    let mine: Vec<&Value> = spans.iter().filter(|span| span["traceId"] == id.as_str()).collect();
    let named = |name: &str| {
        let found = mine.iter().find(|span| span["name"] == name);
        found.unwrap_or_else(|| panic!("no span `{name}` in {mine:?}"))
    };
    let chain = ["socket.message", "room.action", "store.append"];
    for two in chain.windows(2) {
        assert_eq!(named(two[1])["parentSpanId"], named(two[0])["spanId"], "{two:?}");
    }
    assert_eq!(named("room.broadcast")["parentSpanId"], named("room.action")["spanId"]);
    let handshake = spans.iter().find(|span| span["name"] == "socket.open").unwrap();
    let links = named("socket.message")["links"].as_array().unwrap().clone();
    assert!(links.iter().any(|link| link["traceId"] == handshake["traceId"]), "{links:?}");
    assert_ne!(handshake["traceId"], id.as_str(), "a socket is no trace");
    assert!(sink.text().contains("event log opened"), "the first lines are written");
    assert!(sink.text().contains("tasks ended"), "the last lines are written");
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_game_is_one_trace_through_its_stored_event_and_the_queue_to_the_archive() {
    let (host, _sink, collector) = watched("info").await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_on(&mut mei, 1).await;
    eventually("the game is archived", || async {
        !host.backends.archive.list("games", "", 9).await.unwrap().is_empty()
    })
    .await;
    let events = host.log_of(&mei.known.room).await;
    let ended =
        events.iter().find(|event| event.event.event_type.as_str() == "game_ended").unwrap();
    // What was told of the game is in one scrape.
    let (_, _, page) = host.get("/metrics").await;
    let told = [
        "infra_game_started_total 1",
        "infra_game_active_games 0",
        "infra_game_ended_total{ending=\"completed\"} 1",
        "infra_game_ended_total{ending=\"abandoned\"} 0",
    ];
    assert_eq!(told.map(|line| page.lines().any(|is| is == line)), [true; 4], "{page}");
    let trace = ended.trace.unwrap();
    let opened = events[0].trace.unwrap();
    assert_ne!(trace.trace_id(), opened.trace_id(), "a room is no trace, as a socket is none");
    host.stop().await;
    let id = format!("{:032x}", trace.trace_id());
    let spans = collector.spans();
    let mine: Vec<&Value> = spans.iter().filter(|span| span["traceId"] == id.as_str()).collect();
    let named = |name: &str| {
        let found = mine.iter().find(|span| span["name"] == name);
        found.unwrap_or_else(|| panic!("no span `{name}` in {mine:?}"))
    };
    let attribute = |span: &Value, name: &str| {
        let found = span["attributes"].as_array().unwrap().iter().find(|one| one["key"] == name);
        found.map(|one| one["value"]["stringValue"].clone())
    };
    let told = named("room.broadcast");
    assert_eq!(attribute(told, "state.to"), Some(json!("completed")), "{told}");
    assert!(attribute(told, "state.from").is_some_and(|from| from != "completed"), "{told}");
    let archived = named("game.archive");
    assert_eq!((&archived["kind"], &archived["status"]["code"]), (&json!(5), &json!(1)));
    assert_eq!(archived["parentSpanId"], format!("{:016x}", trace.span_id()));
    assert_eq!(archived["parentSpanId"], named("store.append")["spanId"]);
    // What it asks of the stores is within it.
    for (call, store) in [("read stream", "events"), ("create object", "archive")] {
        let is_it = |span: &Value| {
            span["name"] == call
                && span["parentSpanId"] == archived["spanId"]
                && attribute(span, "store") == Some(json!(store))
        };
        assert!(mine.iter().any(|span| is_it(span)), "no span `{call}` in {mine:?}");
    }
    // Entries of the log came to the collector too; the last ones as well.
    let records = collector.records();
    let said = |text: &str| records.iter().any(|record| record["body"]["stringValue"] == text);
    assert!(said("event log opened") && said("tasks ended"), "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_collectors_hang_plays_on_and_ends_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let hung = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    let shipped = Options { otlp: Some(address.clone()), otlp_logs: Some(address), ..options() };
    let host = instrumented(shipped, Sink::default()).await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_on(&mut mei, 1).await;
    let (_, _, page) = host.get("/metrics").await;
    let figure = |series: &str| -> u64 {
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
    };
    assert_eq!(figure("infra_observability_exported_total{signal=\"traces\",fate=\"sent\"}"), 0);
    assert_eq!(figure("infra_observability_withholding"), 0, "a collector alone takes nothing");
    let clock = SystemClock::new();
    let begun = clock.now();
    host.stop().await;
    // Two seconds for the last spans and records, as many for the last lines, and the server's own end.
    let took = clock.now().since(begun);
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
    hung.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_written_to_files_in_the_format_that_is_asked_for() {
    let logs = tempfile::tempdir().unwrap();
    let to = Options {
        log_format: Some(LogFormat::Logfmt),
        log_folder: Some(logs.path().join("of the game")),
        log_rotation: Some(LogRotation::Hour),
        log_kept: Some(2),
        ..options()
    };
    let opened = sink(&Settings::resolve(to.clone()).unwrap()).unwrap();
    instrumented(to, opened).await.stop().await;
    let files = std::fs::read_dir(logs.path().join("of the game")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(
        files.iter().map(name).all(|name| {
            name.strip_suffix(".log").is_some_and(|name| name.starts_with("game-server.20"))
        }),
        "{files:?}"
    );
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for said in ["message=\"event log opened\"", "message=\"tasks ended\"", "level=INFO"] {
        assert!(text.contains(said), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_names_is_followed_into_stored_events_and_traces_and_is_named_in_the_answer()
{
    let (host, _sink, collector) = watched("info").await;
    let (own, trace) = ("0197f2a0-7c1e-7000-8000-000000000001", "4bf92f3577b34da6a3ce929d0e0e4736");
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("x-correlation-id", own), ("traceparent", parent.as_str())];
    let (mut socket, head) = RawSocket::open_with(host.server.addr(), &headers).await;
    assert_eq!(header(&head), Some(own));
    socket.say(r#"{"type":"hello"}"#).await;
    let Heard::Message(welcome) = socket.hear().await else { panic!("no welcome") };
    assert_eq!(welcome["correlation"], own);
    socket.say(r#"{"type":"create_room","name":"Mei"}"#).await;
    let Heard::Message(joined) = socket.hear().await else { panic!("not joined") };
    let events = host.log_of(joined["room"].as_str().unwrap()).await;
    let ids = events.iter().map(|event| event.correlation.unwrap().to_string());
    assert!(!events.is_empty() && ids.clone().all(|id| id == own), "{:?}", ids.collect::<Vec<_>>());
    // What is no id is as if it were not there.
    let forged = [("x-correlation-id", "corr_4bf92f3577b34da6")];
    let (mut other, head) = RawSocket::open_with(host.server.addr(), &forged).await;
    other.say(r#"{"type":"hello"}"#).await;
    let Heard::Message(welcome) = other.hear().await else { panic!("no welcome") };
    assert_eq!(header(&head), welcome["correlation"].as_str());
    assert_ne!(welcome["correlation"], own);
    for addr in [host.server.addr(), host.server.admin_addr()] {
        let path = if addr == host.server.addr() { "/health/live" } else { "/health" };
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nx-correlation-id: {own}\r\n\r\n");
        let answer = raw::head(addr, request.as_bytes()).await;
        assert_eq!(header(&answer), Some(own), "{addr}");
    }
    host.stop().await;
    let spans = collector.spans();
    let opened = spans.iter().filter(|span| span["name"] == "socket.open");
    let traces: Vec<&Value> = opened.map(|span| &span["traceId"]).collect();
    assert!(traces.contains(&&json!(trace)) && 1 < traces.len(), "{traces:?}");
}

/// Returns the correlation id that the head of an answer names.
fn header(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("x-correlation-id: "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hands_and_tokens_of_a_real_game_are_found_nowhere() {
    let loud = "info,game_server=trace,infra_ws=trace,infra_events=trace,infra_persistence=trace,\
                infra_messaging=trace,infra_ratelimit=trace,infra_observability=debug";
    let (host, sink, collector) = watched(loud).await;
    let mut mei = host.host("Mei").await;
    let room = mei.known.room.clone();
    let mut seen: Vec<(String, String)> = Vec::new();
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    for path in [&format!("/api/rooms/{room}"), "/api/rooms"] {
        seen.push((path.to_owned(), host.get(path).await.2));
    }
    play_on(&mut mei, 1).await;
    // What is refused, and what is no message at all, is answered without an echo of secrets.
    let refusals = [
        json!({"type": "play", "action": 900, "pieces": [0]}).to_string(),
        json!({"type": "nonsense", "token": mei.known.token}).to_string(),
    ];
    for refusal in &refusals {
        mei.say(&serde_json::from_str(refusal).unwrap()).await.unwrap();
        seen.push((format!("answer to {refusal}"), mei.next().await.unwrap().unwrap().to_string()));
    }
    let rooms = format!("/api/rooms/{room}");
    let flights = format!("/api/flights/{room}");
    let paths = [
        "/metrics",
        "/health",
        "/api/overview",
        "/api/observed",
        "/api/diagram",
        "/api/log",
        "/api/leaderboard",
        "/api/rooms/none",
        "/nowhere",
        &rooms,
        &flights,
    ];
    for path in paths {
        seen.push((path.to_owned(), host.get(path).await.2));
    }
    let live = host.server.telemetry().stream().history(&Filter::default(), 0, usize::MAX);
    assert!(50 < live.len());
    seen.push(("live stream".to_owned(), live.iter().map(|event| event.to_sse()).collect()));
    let token = mei.known.token.as_ref().unwrap().as_str().unwrap().to_owned();
    let hands = hands(&host.log_of(&room).await);
    assert!(8 <= hands.len());
    drop(host.stop().await);
    seen.push(("logs".to_owned(), sink.text()));
    seen.push(("traces".to_owned(), collector.text()));
    for (place, text) in &seen {
        assert!(!text.is_empty() || place == "/nowhere", "{place} was not looked at");
        // The name of a token's own field may stand; no part of its secret may.
        assert!(!text.contains(&token), "the token is in: {place}");
        let dense: String = text.chars().filter(|c| !c.is_whitespace() && *c != '\\').collect();
        for hand in &hands {
            assert!(!dense.contains(hand), "the hand {hand} is in: {place}");
        }
    }
    // Both were written to while the game was played, so what is not in them was kept out.
    assert!(sink.text().contains("tasks ended") && collector.text().contains("room.action"));
}

/// Returns every hand that was dealt, as JSON lists it and as it is printed, without blanks.
fn hands(events: &[RecordedEvent]) -> Vec<String> {
    let dealt = events.iter().filter_map(|event| {
        let Event::Dealt { hands, .. } = event.event.payload.decode().unwrap() else { return None };
        Some(hands)
    });
    let forms = dealt.flat_map(|hands| Seat::ALL.map(|seat| hands.0[seat])).flat_map(|hand| {
        let (listed, printed) = (serde_json::to_string(&hand).unwrap(), format!("{hand:?}"));
        let printed = printed.replace(' ', "");
        [listed.trim_matches(['[', ']']).to_owned(), printed.trim_matches(['{', '}']).to_owned()]
    });
    forms.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_made_louder_for_one_target_or_room_while_the_server_runs() {
    let (host, sink, _collector) = watched("warn").await;
    let addr = host.server.admin_addr();
    let post = async |body: &str, kind: &str| {
        let request = format!(
            "POST /api/log HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\
             content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        raw::exchange(addr, request.as_bytes()).await
    };
    let json = "application/json";
    assert!(!sink.text().contains("event log opened"), "no info yet: {}", sink.text());
    let raised = post(r#"{"target":"game_server","level":"info","seconds":60}"#, json).await;
    assert!(raised.starts_with("HTTP/1.1 200"), "{raised}");
    let (_, _, shown) = host.get("/api/log").await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["base"], "warn");
    assert_eq!(shown["raised"][0]["directive"], "game_server=info");
    let room = post(r#"{"room":"AB12CD","level":"debug","seconds":60}"#, json).await;
    assert!(room.contains("room=AB12CD"), "{room}");
    for (body, kind, status) in [
        (r#"{"target":"game server","level":"info","seconds":1}"#, json, "400"),
        (r#"{"target":"game_server","level":"loud","seconds":1}"#, json, "400"),
        (r#"{"base":"[[["}"#, json, "400"),
        (r#"{"rooms":1}"#, json, "422"),
        // What a form of a foreign page can send is refused.
        (r#"{"base":"trace"}"#, "text/plain", "415"),
    ] {
        let refused = post(body, kind).await;
        assert!(refused.starts_with(&format!("HTTP/1.1 {status}")), "{body}: {refused}");
    }
    drop(host.stop().await);
    assert!(sink.text().contains("connections drained"), "info is logged now: {}", sink.text());
    // All that was waiting is written by now.
    assert!(!sink.text().contains("event log opened"), "it was not before: {}", sink.text());
}

fn assert_is_whole(seen: &Value) {
    let mut parts: Vec<&String> = seen.as_object().unwrap().keys().collect();
    parts.sort();
    let wanted = [
        "alerts",
        "archive",
        "breakers",
        "calls",
        "diagram",
        "dumps",
        "games",
        "health",
        "hours",
        "limits",
        "past_alerts",
        "queues",
        "stream",
        "unready",
    ];
    assert_eq!(parts, wanted, "the whole document");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inside_is_shown_health_with_ages_games_all_rooms_and_the_flight_of_one() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    let observed =
        async || -> Value { serde_json::from_str(&host.get("/api/observed").await.2).unwrap() };
    eventually("every check has spoken", || async {
        let health = observed().await["health"].take();
        health["checks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|check| check["detail"] != "not checked yet")
    })
    .await;
    let seen = observed().await;
    assert_is_whole(&seen);
    let names: Vec<&str> = seen["health"]["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    for name in ["events", "documents", "disk", "memory", "loop_lag"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(seen["games"]["active"], 1, "{seen}");
    assert_eq!(seen["hours"][0]["players"], 4);
    let nodes = seen["diagram"]["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().map(|node| node["active"].as_u64().unwrap()).sum::<u64>(), 1);
    assert_eq!(seen["alerts"], json!([]));
    assert_eq!(seen["queues"][0]["name"], "archive queue");
    assert_eq!(seen["queues"][1]["holds"]["dead"], 0, "{}", seen["queues"]);
    let breakers = seen["breakers"].as_array().unwrap();
    assert!(breakers.iter().all(|breaker| breaker["state"] == "closed"), "{breakers:?}");
    assert_eq!(seen["limits"][0]["value"], 1.0, "a room");
    assert_eq!(seen["limits"][0]["at_most"], 5_000, "the default");
    play_on(&mut mei, 1).await;
    eventually("the game is archived and counted", || async {
        let archive = observed().await["archive"].take();
        1.0 <= archive[0]["value"].as_f64().unwrap()
            && archive[1]["value"].as_f64().unwrap() > 1_000.0
    })
    .await;
    let seen = observed().await;
    assert_eq!((&seen["games"]["active"], &seen["games"]["completed"]), (&json!(0), &json!(1)));
    let (_, _, tape) = host.get(&format!("/api/flights/{}", mei.known.room)).await;
    assert!(tape.contains("game_ended"), "{tape}");
    assert_eq!(host.get("/api/flights/x").await.0, 400);
    assert!(host.get("/api/diagram").await.2.starts_with("stateDiagram-v2"));
    assert!(host.get("/api/diagram?as=dot").await.2.starts_with("digraph"));
    assert_eq!(host.get("/api/diagram?as=png").await.0, 400);
    assert_eq!(host.get("/api/log").await.0, 404, "this server has no log of its own");
    assert_eq!(raw::get(host.server.addr(), "/health/startup", &[]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_to_the_live_stream_gets_what_was_missed_of_its_room() {
    let host = start().await;
    let mut mei = host.host("Mei").await;
    let other = host.host("Lin").await;
    act(&mut mei, &json!({"type": "add_bot", "action": 1})).await;
    let addr = host.server.admin_addr();
    let mut live = TcpStream::connect(addr).await.unwrap();
    let path = format!("/api/events?room={}&after=0&kind=room_created,bot_added", mei.known.room);
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\n\r\n");
    live.write_all(request.as_bytes()).await.unwrap();
    let mut told = String::new();
    while !told.contains("bot_added") {
        let mut bytes = [0; 4_096];
        let read = live.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "the stream ended: {told}");
        told.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(told.contains("id: 1\n") && told.contains("event: room\n"), "{told}");
    assert!(!told.contains(&other.known.room), "{told}");
    assert_eq!(raw::get(addr, "/api/events?rooms=1", &[]).await.0, 400);
}
