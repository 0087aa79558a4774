//! Servers on the same disk, each with a connection for every appender, spoken to in their own
//! protocols without a client library, which can only be to their advantage: PostgreSQL 15 with a
//! prepared statement, Redis Streams with `appendfsync always`, NATS JetStream with its default,
//! under which an acknowledgement does not wait for the disk.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use infra_testkit::server::{Kind, Server};

use crate::appenders::{BODY, Load, folder, in_threads, stream};

/// What one connection does: appends an event to a stream and waits until it is acknowledged.
trait Appender: Send {
    fn append(&mut self, number: u64);
}

/// The address of a server that is started at its first use and ends with this process.
fn server(kind: Kind) -> SocketAddr {
    static ALL: OnceLock<Mutex<Vec<(Kind, Server)>>> = OnceLock::new();
    let mut all = ALL.get_or_init(Mutex::default).lock().unwrap();
    if let Some((_, server)) = all.iter().find(|(known, _)| *known == kind) {
        return server.addr();
    }
    drop(folder());
    let server = measure::run(Server::start(kind)).unwrap();
    let addr = server.addr();
    all.push((kind, server));
    addr
}

/// A name that no round before had.
fn fresh(what: &str) -> String {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    format!("{what}{}", ROUND.fetch_add(1, Ordering::Relaxed))
}

fn appended<A: Appender>(load: Load, connect: impl Fn(u64) -> A) -> f64 {
    let appenders: Vec<_> = (0..load.appenders).map(|number| Mutex::new(connect(number))).collect();
    in_threads(load, |appender, number| {
        appenders[appender as usize].lock().unwrap().append(number);
    })
}

fn connection(addr: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

fn line(from: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

struct Redis(BufReader<TcpStream>, String);

impl Appender for Redis {
    fn append(&mut self, _number: u64) {
        let mut command = format!(
            "*5\r\n$4\r\nXADD\r\n${}\r\n{}\r\n$1\r\n*\r\n$1\r\ne\r\n${BODY}\r\n",
            self.1.len(),
            self.1
        )
        .into_bytes();
        command.extend([b'7'; BODY]);
        command.extend(b"\r\n");
        self.0.get_mut().write_all(&command).unwrap();
        let length = line(&mut self.0);
        assert!(length.starts_with('$'), "{length}");
        line(&mut self.0);
    }
}

pub fn redis(load: Load) -> f64 {
    let (addr, round) = (server(Kind::Redis), fresh("round"));
    appended(load, |number| Redis(connection(addr), format!("{round}/{}", stream(number))))
}

struct Nats(BufReader<TcpStream>, String, String);

impl Nats {
    fn connect(addr: SocketAddr, subject: String, inbox: String) -> Self {
        let mut nats = Self(connection(addr), subject, inbox);
        line(&mut nats.0);
        let hello = format!("CONNECT {{\"verbose\":false}}\r\nSUB {} 1\r\n", nats.2);
        nats.0.get_mut().write_all(hello.as_bytes()).unwrap();
        nats
    }

    fn ask(&mut self, subject: &str, body: &[u8]) -> String {
        let mut message = format!("PUB {subject} {} {}\r\n", self.2, body.len()).into_bytes();
        message.extend(body);
        message.extend(b"\r\n");
        self.0.get_mut().write_all(&message).unwrap();
        loop {
            let head = line(&mut self.0);
            if head.starts_with("PING") {
                self.0.get_mut().write_all(b"PONG\r\n").unwrap();
                continue;
            }
            let length = head.trim().rsplit(' ').next().and_then(|length| length.parse().ok());
            let Some(length) = length.filter(|_: &usize| head.starts_with("MSG")) else {
                panic!("nats: {head}");
            };
            let mut answer = vec![0; length + 2];
            self.0.read_exact(&mut answer).unwrap();
            return String::from_utf8(answer).unwrap();
        }
    }
}

impl Appender for Nats {
    fn append(&mut self, _number: u64) {
        let subject = self.1.clone();
        let answer = self.ask(&subject, &[b'7'; BODY]);
        assert!(answer.contains("\"seq\""), "{answer}");
    }
}

pub fn jetstream(load: Load) -> f64 {
    let (addr, round) = (server(Kind::Nats), fresh("R"));
    let mut maker = Nats::connect(addr, String::new(), format!("_INBOX.{round}"));
    let config =
        format!("{{\"name\":\"{round}\",\"subjects\":[\"{round}.>\"],\"storage\":\"file\"}}");
    let made = maker.ask(&format!("$JS.API.STREAM.CREATE.{round}"), config.as_bytes());
    assert!(!made.contains("\"error\""), "{made}");
    let done = appended(load, |number| {
        let subject = format!("{round}.{}", stream(number));
        Nats::connect(addr, subject, format!("_INBOX.{round}.{number}"))
    });
    maker.ask(&format!("$JS.API.STREAM.DELETE.{round}"), b"");
    done
}

/// A connection that speaks PostgreSQL's protocol as far as it is needed.
struct Postgres(BufReader<TcpStream>, u64);

impl Postgres {
    fn connect(addr: SocketAddr, appender: u64) -> Self {
        let mut postgres = Self(connection(addr), appender);
        let words = b"user\0postgres\0database\0postgres\0\0";
        let mut hello = (words.len() as u32 + 8).to_be_bytes().to_vec();
        hello.extend(196_608_u32.to_be_bytes());
        hello.extend(words);
        postgres.0.get_mut().write_all(&hello).unwrap();
        postgres.ready();
        postgres
    }

    /// Reads until the server is ready again; an error ends the benchmark.
    fn ready(&mut self) {
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).unwrap();
            match head[0] {
                b'E' => panic!("postgres: {}", String::from_utf8_lossy(&body)),
                b'Z' => return,
                _ => {}
            }
        }
    }

    fn query(&mut self, sql: &str) {
        let mut message = vec![b'Q'];
        message.extend((sql.len() as u32 + 5).to_be_bytes());
        message.extend(sql.as_bytes());
        message.push(0);
        self.0.get_mut().write_all(&message).unwrap();
        self.ready();
    }
}

impl Appender for Postgres {
    fn append(&mut self, number: u64) {
        let (stream, body) = (stream(self.1), "7".repeat(BODY));
        let sql = format!("execute put('{stream}', {}, gen_random_uuid(), '{body}')", number + 1);
        self.query(&sql);
    }
}

pub fn postgres(load: Load) -> f64 {
    let (addr, table) = (server(Kind::Postgres), fresh("events_"));
    let mut maker = Postgres::connect(addr, 0);
    maker.query(&format!(
        "create table {table} (position bigint generated always as identity primary key,
        stream text not null, version bigint not null, id uuid not null, body bytea not null,
        unique (stream, version), unique (stream, id))"
    ));
    // A server of the default takes 100 connections: more appenders share them.
    let connections: Vec<_> = (0..load.appenders.min(64))
        .map(|_| {
            let mut one = Postgres::connect(addr, 0);
            one.query(&format!(
                "prepare put(text, bigint, uuid, bytea) as
                insert into {table} (stream, version, id, body) values ($1, $2, $3, $4)"
            ));
            Mutex::new(one)
        })
        .collect();
    in_threads(load, |appender, number| {
        let mut one = connections[appender as usize % connections.len()].lock().unwrap();
        one.1 = appender;
        one.append(number);
    })
}
