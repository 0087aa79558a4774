//! The hub on real sockets: honest clients, and clients that are not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod attacks;
mod autobahn;
mod doors;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{SystemClock, lifecycle::Shutdown};
use infra_ws::{
    App, Class, Close, Connection, Frame, Hub, Inbound, Options, OriginPolicy, Rooms,
    client::{Client, Received},
    serve,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(200);

/// Echoes text; "panic", "bye" and "all ..." do what they say.
#[derive(Debug)]
struct Echo {
    rooms: Rooms,
    opened: AtomicUsize,
    closed: AtomicUsize,
    connections: mpsc::UnboundedSender<Connection>,
}

#[async_trait]
impl App for Echo {
    type Session = Connection;

    async fn open(&self, connection: Connection) -> Result<Connection, Close> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.rooms.join("all", &connection);
        let _told = self.connections.send(connection.clone());
        Ok(connection)
    }

    async fn message(&self, session: &mut Connection, message: Inbound) -> Result<(), Close> {
        let Inbound::Text(text) = message else { return Err(Close::new(1003, "only text")) };
        match text.as_str() {
            "panic" => panic!("as asked"),
            "bye" => Err(Close::new(4000, "as asked")),
            all if all.starts_with("all") => {
                self.rooms.broadcast("all", &Frame::text(all), Class::Durable, None);
                Ok(())
            }
            other => {
                session.send(Frame::text(other), Class::Durable);
                Ok(())
            }
        }
    }

    async fn closed(&self, session: Connection) {
        self.rooms.leave_all(session.id());
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

struct Server {
    address: SocketAddr,
    hub: Arc<Hub>,
    app: Arc<Echo>,
    connections: mpsc::UnboundedReceiver<Connection>,
    shutdown: Shutdown,
}

impl Server {
    async fn start(change: impl FnOnce(Options) -> Options) -> Self {
        let (sender, connections) = mpsc::unbounded_channel();
        let app = Arc::new(Echo {
            rooms: Rooms::new(),
            opened: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            connections: sender,
        });
        let shutdown = Shutdown::new();
        let options = change(Options::new(OriginPolicy::same_host()));
        let hub = Hub::new(options, SystemClock::shared(), shutdown.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (serving, served) = (Arc::clone(&hub), Arc::clone(&app));
        shutdown.spawn(async move { serve(listener, serving, served).await.unwrap() });
        Self { address, hub, app, connections, shutdown }
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    async fn client(&self) -> Client {
        Client::connect(&self.url(), &[]).await.unwrap()
    }

    /// Opens a raw socket whose WebSocket handshake is done.
    async fn raw(&self) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(socket.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        // RFC 6455 section 1.3 has this very key and its answer.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        socket
    }

    /// Waits until nobody is connected any more.
    async fn settled(&self) {
        let empty = async {
            while 0 < self.hub.count() || !self.hub.connections().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, empty).await.expect("connections settle");
        let opened = self.app.opened.load(Ordering::SeqCst);
        assert_eq!(self.app.closed.load(Ordering::SeqCst), opened);
        assert!(self.app.rooms.is_empty());
    }
}

/// Reads a close frame from a raw socket, skipping other frames.
async fn close_code(socket: &mut TcpStream) -> Option<u16> {
    let read = async {
        loop {
            let first = socket.read_u8().await.ok()?;
            let length = usize::from(socket.read_u8().await.ok()? & 0x7f);
            let mut payload = vec![0; length];
            socket.read_exact(&mut payload).await.ok()?;
            if first & 0x0f == 8 {
                return Some(u16::from_be_bytes([payload[0], payload[1]]));
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the server closes in time")
}

/// A masked frame with a zero mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

async fn text(client: &mut Client) -> String {
    match client.receive(PATIENCE).await.unwrap() {
        Received::Text(text) => text,
        other @ (Received::Binary(_) | Received::Closed(_)) => panic!("{other:?}"),
    }
}

async fn closed(client: &mut Client) -> Option<u16> {
    loop {
        if let Received::Closed(close) = client.receive(PATIENCE).await.unwrap() {
            return close.map(|close| close.code);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_answered_in_order_and_everything_settles() {
    let mut server = Server::start(|options| options).await;
    let mut client = server.client().await;
    for number in 0..500 {
        client.send(number.to_string()).await.unwrap();
    }
    for number in 0..500 {
        assert_eq!(text(&mut client).await, number.to_string());
    }
    let connection = server.connections.recv().await.unwrap();
    assert!(server.hub.get(connection.id()).is_some());
    client.close(PATIENCE).await;
    server.settled().await;
    let ledger = connection.ledger();
    assert_eq!((ledger.enqueued, ledger.delivered), (500, 500));
    assert!(ledger.is_balanced());
    assert!(!connection.send(Frame::text("late"), Class::Durable));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_origins_and_bad_handshakes_are_refused_by_status() {
    let server = Server::start(|options| options.protocol("game.v1")).await;
    let refused = async |headers: &[(&'static str, &str)]| {
        Client::connect(&server.url(), headers).await.unwrap_err().to_string()
    };
    assert!(refused(&[("origin", "http://evil.example")]).await.contains("403"));
    assert!(refused(&[("sec-websocket-protocol", "other")]).await.contains("400"));
    let own = format!("http://{}", server.address);
    assert!(Client::connect(&server.url(), &[("origin", &own)]).await.is_ok());

    let status = async |head: &str| {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await, "426");
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{upgrade}\r\n");
    assert_eq!(status(&post).await, "405");
    let old = format!("GET / HTTP/1.1\r\nHost: a\r\n{upgrade}Sec-WebSocket-Version: 8\r\n\r\n");
    assert_eq!(status(&old).await, "426");
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n";
    let short = format!("GET / HTTP/1.1\r\nHost: a\r\n{upgrade}{key}\r\n");
    assert_eq!(status(&short).await, "400");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_closed_with_its_code() {
    let server = Server::start(|options| options.message_bytes(1_000)).await;
    let cases: [(&str, Vec<u8>, u16); 7] = [
        ("invalid UTF-8", frame(0x81, b"\xff\xfe"), 1007),
        ("too long", frame(0x81, &[b'x'; 1_001]), 1009),
        ("binary", frame(0x82, b"x"), 1003),
        ("reserved bits", frame(0xf1, b"x"), 1002),
        ("unknown opcode", frame(0x83, b"x"), 1002),
        ("unmasked", vec![0x81, 1, b'x'], 1002),
        ("long ping", frame(0x89, &[0; 126]), 1002),
    ];
    for (what, bytes, wanted) in cases {
        let mut socket = server.raw().await;
        socket.write_all(&bytes).await.unwrap();
        assert_eq!(close_code(&mut socket).await, Some(wanted), "{what}");
    }
    let mut client = server.client().await;
    client.send("bye").await.unwrap();
    assert_eq!(closed(&mut client).await, Some(4000));
    let mut client = server.client().await;
    client.send("panic").await.unwrap();
    assert_eq!(closed(&mut client).await, Some(1011));
    server.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_or_never_finish_are_closed() {
    let quick = |options: Options| {
        options.first_message(TICK * 2).assembly(TICK).heartbeat(TICK / 4, TICK * 5)
    };
    let server = Server::start(quick).await;
    let mut mute = server.raw().await;
    assert_eq!(close_code(&mut mute).await, Some(4001), "no first message");

    let mut slow = server.raw().await;
    slow.write_all(&frame(0x81, b"first")).await.unwrap();
    // A message of two fragments, with the answers to pings in between.
    slow.write_all(&frame(0x01, b"half")).await.unwrap();
    let pongs = async {
        loop {
            tokio::time::sleep(TICK / 8).await;
            if slow.write_all(&frame(0x8a, b"")).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let _ended = tokio::time::timeout(TICK * 3, pongs).await;
    assert_eq!(close_code(&mut slow).await, Some(4007), "never finished");

    let mut silent = server.raw().await;
    silent.write_all(&frame(0x81, b"first")).await.unwrap();
    // It reads, but answers no ping.
    assert_eq!(close_code(&mut silent).await, Some(4006), "silent");
    server.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_finished_is_noticed_though_nothing_else_happens() {
    let calm = |options: Options| options.assembly(TICK).heartbeat(PATIENCE * 2, PATIENCE * 5);
    let server = Server::start(calm).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut socket = server.raw().await;
        socket.write_all(&[frame(0x81, b"first"), frame(0x01, b"half")].concat()).await.unwrap();
        slow.push(socket);
    }
    for mut socket in slow {
        assert_eq!(close_code(&mut socket).await, Some(4007), "never finished");
    }
    server.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_answers_pings_stays() {
    let server = Server::start(|options| options.heartbeat(TICK / 8, TICK).assembly(TICK)).await;
    let mut client = server.client().await;
    client.send("hello").await.unwrap();
    assert_eq!(text(&mut client).await, "hello");
    let silence = client.receive(TICK * 5).await.unwrap_err();
    assert_eq!(silence.kind(), &infra_core::ErrorKind::Timeout);
    client.send("still here").await.unwrap();
    assert_eq!(text(&mut client).await, "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_handshakes_are_bounded_in_number_and_time() {
    let server = Server::start(|options| options.handshake(TICK * 3).connections(20, 20)).await;
    let mut half_open = Vec::new();
    for _ in 0..200 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let _written = socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
        half_open.push(socket);
        assert!(server.hub.count() <= 20);
    }
    server.settled().await;
    let mut client = server.client().await;
    client.send("free again").await.unwrap();
    assert_eq!(text(&mut client).await, "free again");
    drop(half_open);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_refused_until_one_ends() {
    let server = Server::start(|options| options.connections(10, 2)).await;
    let (first, _second) = (server.client().await, server.client().await);
    let third = Client::connect(&server.url(), &[]).await;
    assert!(third.is_err());
    first.close(PATIENCE).await;
    let again = async {
        while Client::connect(&server.url(), &[]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_is_closed_and_holds_up_nobody() {
    let server = Server::start(|options| options.write(TICK).outbox(400, 64 * 1024)).await;
    let mut stalled = server.raw().await;
    // Whoever says nothing at all would be closed for that, in time.
    stalled.write_all(&frame(0x81, b"here")).await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut reader = server.client().await;
        reader.send("here").await.unwrap();
        readers.push(reader);
    }
    let rounds = 3_000;
    let body = "x".repeat(2_000);
    let mut sender = server.client().await;
    sender.send("all warm").await.unwrap();
    for round in 0..rounds {
        sender.send(format!("all {round} {body}")).await.unwrap();
        // The sender keeps pace, so that only the stalled one falls behind.
        loop {
            if text(&mut sender).await.starts_with(&format!("all {round} ")) {
                break;
            }
        }
        for reader in &mut readers {
            while !text(reader).await.starts_with(&format!("all {round} ")) {}
        }
        for connection in server.hub.connections() {
            assert!(connection.queued_bytes() <= 64 * 1024);
        }
    }
    let gone = async {
        while server.hub.count() != 6 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the stalled one is closed");
    let mut rest = Vec::new();
    let _ended = tokio::time::timeout(PATIENCE, stalled.read_to_end(&mut rest)).await.unwrap();
    drop((readers, sender));
    server.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_control_frames_and_fragments_do_no_harm() {
    let server = Server::start(|options| options.message_bytes(1_000)).await;
    let mut flood = server.raw().await;
    let mut bytes = frame(0x81, b"first");
    for _ in 0..5_000 {
        bytes.extend(frame(0x89, b"ping"));
    }
    flood.write_all(&bytes).await.unwrap();
    // Whatever it still gets after the reset, no more pings than the limit were answered.
    let mut answers = Vec::new();
    let _reset = flood.read_to_end(&mut answers).await.is_err();
    let most = frame(0x81, b"first").len() + 101 * frame(0x8a, b"ping").len() + 64;
    assert!(answers.len() <= most, "{} bytes", answers.len());
    let mut fragments = server.raw().await;
    let mut bytes = frame(0x01, b"x");
    for _ in 0..2_000 {
        bytes.extend(frame(0x00, b"x"));
    }
    let _written = fragments.write_all(&bytes).await;
    assert_eq!(close_code(&mut fragments).await, Some(1009));
    let mut honest = server.client().await;
    honest.send("hello").await.unwrap();
    assert_eq!(text(&mut honest).await, "hello");
    drop((flood, honest));
    server.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_refuses_newcomers_says_last_words_and_closes_everybody() {
    let server = Server::start(|options| options).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(server.client().await);
    }
    while server.app.opened.load(Ordering::SeqCst) < 20 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let readers = async {
        for client in &mut clients {
            assert_eq!(text(client).await, "come back");
            assert_eq!(closed(client).await, Some(1012));
        }
    };
    let last_words = |connection: &Connection| {
        connection.send(Frame::text("come back"), Class::Durable);
    };
    let drain = server.hub.drain(Close::RESTART, TICK, PATIENCE, last_words);
    let (drained, ()) = tokio::join!(drain, readers);
    assert_eq!((drained.asked, drained.left), (20, 0));
    assert!(server.hub.is_draining());
    let refused = Client::connect(&server.url(), &[]).await.unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused}");
    let retry_after = Duration::from_secs(1);
    assert_eq!(
        refused.kind(),
        &infra_core::ErrorKind::Throttled { retry_after },
        "it is told when to knock"
    );
    server.settled().await;
    assert_eq!(server.shutdown.close(PATIENCE).await.aborted, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_much_coming_and_going_nothing_is_left() {
    let server = Arc::new(Server::start(|options| options.connections(500, 500)).await);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                for round in 0..40 {
                    let mut client = server.client().await;
                    client.send(format!("all {task} {round}")).await.unwrap();
                    let mine = format!("all {task} {round}");
                    while text(&mut client).await != mine {}
                    // Half of them say goodbye, the others just go.
                    if round % 2 == 0 {
                        client.close(PATIENCE).await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    server.settled().await;
    assert_eq!(server.app.opened.load(Ordering::SeqCst), 320);
}
