//! Servers of a test's own: they answer, die, come back with what they knew, and never outlive it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::time::Duration;

use infra_testkit::server::{Kind, Server, shared};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Says something to a server and returns the beginning of its answer; nothing if none comes.
async fn ask(server: &Server, question: &[u8]) -> Option<String> {
    let mut socket = TcpStream::connect(server.addr()).await.ok()?;
    socket.write_all(question).await.ok()?;
    let mut answer = [0; 64];
    let read = timeout(Duration::from_secs(2), socket.read(&mut answer)).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(answer.get(..read)?).into_owned())
}

/// A question that each server answers, and how its answer begins.
const fn greeting(kind: Kind) -> (&'static [u8], &'static str) {
    match kind {
        // Whether it speaks TLS: it does not.
        Kind::Postgres => (&[0, 0, 0, 8, 4, 210, 22, 47], "N"),
        Kind::Redis => (b"PING\r\n", "+PONG"),
        Kind::Nats => (b"", "INFO {"),
        Kind::S3 => (b"GET /tests HTTP/1.0\r\n\r\n", "HTTP/1."),
    }
}

async fn answers(server: &Server, kind: Kind) -> bool {
    let (question, wanted) = greeting(kind);
    ask(server, question).await.is_some_and(|answer| answer.starts_with(wanted))
}

async fn live_and_die(kind: Kind) {
    let mut server = Server::start(kind).await.unwrap();
    assert!(answers(&server, kind).await);
    assert!(
        server.url().ends_with(&format!(":{}", server.addr().port())) || kind == Kind::Postgres
    );
    server.freeze().unwrap();
    assert!(!answers(&server, kind).await, "a frozen server answers");
    server.thaw().unwrap();
    assert!(answers(&server, kind).await);
    server.kill().unwrap();
    assert!(TcpStream::connect(server.addr()).await.is_err(), "a killed server listens");
    server.restart().await.unwrap();
    assert!(answers(&server, kind).await);
    let addr = server.addr();
    drop(server);
    assert!(TcpStream::connect(addr).await.is_err(), "it outlives its test");
}

#[tokio::test]
async fn a_postgres_is_started_frozen_killed_and_started_again() {
    live_and_die(Kind::Postgres).await;
}

#[tokio::test]
async fn a_redis_is_started_frozen_killed_and_started_again() {
    live_and_die(Kind::Redis).await;
}

#[tokio::test]
async fn a_nats_is_started_frozen_killed_and_started_again() {
    live_and_die(Kind::Nats).await;
}

#[tokio::test]
async fn an_s3_is_started_frozen_killed_and_started_again() {
    live_and_die(Kind::S3).await;
}

#[tokio::test]
async fn a_redis_that_was_killed_knows_what_it_acknowledged() {
    let mut server = Server::start(Kind::Redis).await.unwrap();
    assert_eq!(ask(&server, b"SET a 7\r\n").await.as_deref(), Some("+OK\r\n"));
    server.restart().await.unwrap();
    assert_eq!(ask(&server, b"GET a\r\n").await.as_deref(), Some("$1\r\n7\r\n"));
}

#[test]
fn a_run_without_servers_says_how_to_get_them() {
    for kind in [Kind::Postgres, Kind::Redis, Kind::Nats, Kind::S3] {
        match shared(kind) {
            Ok(url) => assert!(url.contains("://"), "{url}"),
            Err(error) => assert!(error.to_string().contains("cargo xtask services up")),
        }
    }
}
