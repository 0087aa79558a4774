//! Servers beyond the network: TCP with the first words of their protocol, and HTTP.

use async_trait::async_trait;
use infra_core::health::{Finding, HealthCheck};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The longest answer that is looked at.
const MAX_ANSWER: usize = 512;

/// Whether a server accepts connections and speaks.
///
/// The monitor's time-out bounds it; no driver and no pool is needed, so it tells a server that is
/// gone from a pool that is used up.
#[derive(Debug, Clone)]
pub struct Tcp {
    name: &'static str,
    address: String,
    say: &'static [u8],
    expect: &'static [&'static [u8]],
}

impl Tcp {
    /// Watches whether something accepts connections at `address` (`host:port`).
    pub fn new(name: &'static str, address: impl Into<String>) -> Self {
        Self { name, address: address.into(), say: b"", expect: &[] }
    }

    /// Watches a Redis: it must answer a `PING`, if only by asking for a password.
    pub fn redis(address: impl Into<String>) -> Self {
        let expect: &[&[u8]] = &[b"+PONG", b"-NOAUTH", b"-DENIED"];
        Self { say: b"*1\r\n$4\r\nPING\r\n", expect, ..Self::new("redis", address) }
    }

    /// Watches a PostgreSQL: it must answer the request for TLS, with yes or no.
    pub fn postgres(address: impl Into<String>) -> Self {
        let say = &[0, 0, 0, 8, 4, 210, 22, 47];
        Self { say, expect: &[b"S", b"N"], ..Self::new("postgres", address) }
    }

    /// Watches a NATS: it must greet.
    pub fn nats(address: impl Into<String>) -> Self {
        Self { expect: &[b"INFO "], ..Self::new("nats", address) }
    }

    async fn ask(&self) -> std::io::Result<Finding> {
        let mut socket = TcpStream::connect(&self.address).await?;
        socket.write_all(self.say).await?;
        if self.expect.is_empty() {
            return Ok(Finding::up());
        }
        let longest = self.expect.iter().map(|words| words.len()).max().unwrap_or(0);
        let mut answer = [0; MAX_ANSWER];
        let mut length = 0;
        loop {
            let heard = answer.get(..length).unwrap_or_default();
            if self.expect.iter().any(|words| heard.starts_with(words)) {
                return Ok(Finding::up());
            }
            if longest <= length {
                return Ok(Finding::down("something else answers there"));
            }
            match socket.read(answer.get_mut(length..).unwrap_or_default()).await? {
                0 => return Ok(Finding::down("it closed the connection")),
                count => length += count,
            }
        }
    }
}

#[async_trait]
impl HealthCheck for Tcp {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn check(&self) -> Finding {
        self.ask().await.unwrap_or_else(|error| Finding::down(error.to_string()))
    }
}

/// Whether an HTTP server answers a path with the expected status; without TLS.
#[derive(Debug, Clone)]
pub struct Http {
    name: &'static str,
    address: String,
    path: String,
    status: u16,
}

impl Http {
    /// Watches `path` at `address` (`host:port`); 200 is expected.
    pub fn new(name: &'static str, address: impl Into<String>, path: impl Into<String>) -> Self {
        Self { name, address: address.into(), path: path.into(), status: 200 }
    }

    /// Sets the status that is expected; 200 by default.
    #[must_use]
    pub const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    async fn ask(&self) -> std::io::Result<Finding> {
        let Self { name: _, address, path, status } = self;
        if path.contains(|c: char| c.is_control() || c == ' ') {
            return Ok(Finding::down("the path is malformed"));
        }
        let mut socket = TcpStream::connect(address).await?;
        let ask = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        socket.write_all(ask.as_bytes()).await?;
        let mut line = Vec::new();
        let mut head = (&mut socket).take(MAX_ANSWER as u64);
        while !line.contains(&b'\n') {
            if head.read_buf(&mut line).await? == 0 {
                break;
            }
        }
        let line = String::from_utf8_lossy(&line);
        let told = line.strip_prefix("HTTP/1.").and_then(|line| line.get(2..5));
        Ok(match told.and_then(|code| code.parse::<u16>().ok()) {
            Some(code) if code == *status => Finding::up(),
            Some(code) => Finding::down(format!("status {code}, expected {status}")),
            None => Finding::down("it does not speak HTTP"),
        })
    }
}

#[async_trait]
impl HealthCheck for Http {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn check(&self) -> Finding {
        self.ask().await.unwrap_or_else(|error| Finding::down(error.to_string()))
    }
}
