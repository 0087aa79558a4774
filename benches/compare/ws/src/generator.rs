//! The clients, and what they measure.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// The server that is not of Rust, and the version of what it needs.
pub(crate) const NODE: &str = "Node ws";
const NODE_WS: &str = "ws@8.23.0";

const SUBSCRIBERS: usize = 1_000;
const IDLE: usize = 4_000;
const CONNECTS: usize = 4_000;
const AT_ONCE: usize = 16;

/// A server in a process of its own; it ends with this value.
struct Server {
    child: Child,
    orders: ChildStdin,
    kind: &'static str,
    /// Of its rooms, if it has any.
    epochs: Vec<String>,
    port: u16,
}

impl Server {
    fn start(kind: &'static str) -> Self {
        let mut child = command(kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let epochs = if kind.ends_with("rooms") { line() } else { String::new() };
        let epochs = epochs.split_whitespace().map(ToOwned::to_owned).collect();
        let port = line().parse().unwrap();
        Self { child, orders, kind, epochs, port }
    }

    fn order(&mut self, count: u32, size: u32, per_second: u32) {
        writeln!(self.orders, "{count} {size} {per_second}").unwrap();
    }

    /// Returns the resident memory in KiB.
    fn resident(&self) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    async fn client(&self) -> Client {
        let mut client = Client::open(self.port, self.kind).await;
        if self.kind == "socketioxide" {
            // Its own handshake: open, connect to the namespace, and the answer.
            client.wait().await;
            client.say("40").await;
            client.wait().await;
        } else if !self.kind.starts_with("infra-ws") {
            client.wait().await;
        }
        client
    }

    async fn clients(&self, count: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(self.client().await);
        }
        clients
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill().is_ok() && self.child.wait().is_ok();
    }
}

/// Returns what starts a server of a kind.
fn command(kind: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    if kind != NODE {
        let mut command = Command::new(own);
        command.args(["serve", kind]);
        return command;
    }
    let folder = own.parent().unwrap().join("node");
    let module = folder.join("node_modules/ws/index.js");
    if !module.exists() {
        let mut install = Command::new("npm");
        install.args(["install", "--no-save", "--no-audit", "--no-fund", NODE_WS, "--prefix"]);
        let installed = install.arg(&folder).stdout(Stdio::null()).status();
        assert!(installed.is_ok_and(|status| status.success()), "node and npm are needed");
    }
    let mut command = Command::new("node");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/node/server.mjs")).arg(module);
    command
}

/// A WebSocket that only counts and looks at what it gets.
struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn open(port: u16, kind: &str) -> Self {
        let path =
            if kind == "socketioxide" { "/socket.io/?EIO=4&transport=websocket" } else { "/" };
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut buffer = Vec::with_capacity(16 * 1024);
        loop {
            assert_ne!(socket.read_buf(&mut buffer).await.unwrap(), 0, "refused");
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                assert!(
                    buffer.starts_with(b"HTTP/1.1 101"),
                    "{}",
                    String::from_utf8_lossy(&buffer)
                );
                buffer.drain(..end + 4);
                return Self { socket, buffer };
            }
        }
    }

    /// Sends a text of less than 65,536 bytes.
    async fn say(&mut self, text: &str) {
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.socket.write_all(&frame).await.unwrap();
    }

    /// Reads once, and shows each whole message that is there now.
    async fn read(&mut self, mut show: impl FnMut(&[u8])) {
        let mut begin = 0;
        while let Some((payload, end)) = payload(&self.buffer[begin..]) {
            show(&self.buffer[begin..][payload..end]);
            begin += end;
        }
        self.buffer.drain(..begin);
        if begin == 0 {
            assert_ne!(
                self.socket.read_buf(&mut self.buffer).await.unwrap(),
                0,
                "the server closed"
            );
        }
    }

    async fn wait(&mut self) {
        self.until(|_| true).await;
    }

    async fn until(&mut self, mut is_it: impl FnMut(&[u8]) -> bool) {
        let mut found = false;
        while !found {
            self.read(|message| found |= is_it(message)).await;
        }
    }
}

/// Returns where the payload of a frame begins and ends, once the frame is whole.
fn payload(bytes: &[u8]) -> Option<(usize, usize)> {
    let (begin, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    (begin + length <= bytes.len()).then_some((begin, begin + length))
}

/// Lets a thousand subscribers get a burst, and returns how many messages came in a second.
pub(crate) fn delivered(kind: &'static str) -> f64 {
    const MESSAGES: u32 = 200;
    measure::run(async move {
        let mut server = Server::start(kind);
        let clients = server.clients(SUBSCRIBERS).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut counting = JoinSet::new();
        for mut client in clients {
            counting.spawn(async move {
                let mut count = 0;
                while count < MESSAGES {
                    client.read(|message| count += u32::from(message.contains(&b'#'))).await;
                }
                client
            });
        }
        let begun = Instant::now();
        server.order(MESSAGES, 128, 0);
        let mut clients = Vec::new();
        while let Some(client) = counting.join_next().await {
            clients.push(client.unwrap());
        }
        let took = begun.elapsed();
        (SUBSCRIBERS * MESSAGES as usize) as f64 / took.as_secs_f64()
    })
}

/// Lets a thousand subscribers get 50 messages a second, and returns how late the latest hundredth
/// is, in milliseconds.
pub(crate) fn late(kind: &'static str) -> f64 {
    const MESSAGES: u32 = 200;
    measure::run(async move {
        let mut server = Server::start(kind);
        let clients = server.clients(SUBSCRIBERS).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut listening = JoinSet::new();
        for mut client in clients {
            listening.spawn(async move {
                let mut late = Vec::new();
                while late.len() < MESSAGES as usize {
                    client.read(|message| late.extend(lateness(message))).await;
                }
                (client, late)
            });
        }
        server.order(MESSAGES, 128, 50);
        let (mut clients, mut all) = (Vec::new(), Vec::new());
        while let Some(done) = listening.join_next().await {
            let (client, late) = done.unwrap();
            clients.push(client);
            all.extend(late);
        }
        all.sort_unstable();
        all[all.len() * 99 / 100].as_secs_f64() * 1_000.0
    })
}

fn lateness(message: &[u8]) -> Option<Duration> {
    let begin = message.iter().position(|byte| *byte == b'#')? + 1;
    let digits = std::str::from_utf8(message.get(begin..begin + 20)?).ok()?;
    let due = Duration::from_nanos(digits.parse().ok()?);
    Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.saturating_sub(due))
}

/// Returns by how many KiB the server grows with each connection that is open and idle.
pub(crate) fn idle(kind: &'static str) -> f64 {
    measure::run(async move {
        let server = Server::start(kind);
        // What the first connections make it set up is not counted.
        let warm = server.clients(50).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = server.resident();
        let clients = server.clients(IDLE).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let grown = server.resident() - before;
        drop((warm, clients));
        grown / IDLE as f64
    })
}

/// Connects again and again, a few at once, and returns how often in a second a client was there:
/// with ten missed events in its hands, or, where there is no resume, with a first message.
pub(crate) fn connects(kind: &'static str) -> f64 {
    measure::run(async move {
        let server = std::sync::Arc::new(Server::start(kind));
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for task in 0..AT_ONCE {
            let server = std::sync::Arc::clone(&server);
            tasks.spawn(async move {
                for n in 0..CONNECTS / AT_ONCE {
                    let mut client = server.client().await;
                    if server.kind.ends_with("rooms") {
                        resume(&mut client, &server.epochs, task * CONNECTS + n).await;
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        CONNECTS as f64 / begun.elapsed().as_secs_f64()
    })
}

async fn resume(client: &mut Client, epochs: &[String], user: usize) {
    let room = user % epochs.len();
    let epoch = &epochs[room];
    client.say(&format!(r#"{{"type":"connect","token":"user-{user}"}}"#)).await;
    let join = format!(
        r#"{{"type":"join","id":1,"room":"room-{room}","from":{{"epoch":"{epoch}","offset":0}}}}"#
    );
    client.say(&join).await;
    let is_last = |message: &[u8]| {
        let text = std::str::from_utf8(message).unwrap_or_default();
        assert!(!text.contains("not_recovered") && !text.contains(r#""type":"error""#), "{text}");
        text.contains(r#""offset":10"#) && text.contains(r#""type":"events""#)
    };
    client.until(is_last).await;
}
