//! HTTP and WebSocket by hand, byte by byte: what no well-behaved client would send.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// How a conversation went on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    /// A message.
    Message(Value),
    /// A close frame with its code.
    Closed(u16),
    /// The end without a close frame.
    Cut,
}

/// Sends bytes and returns everything that comes back until the peer closes.
pub(crate) async fn exchange(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    // A reset is an end too.
    let _bytes = read.expect("the peer neither answers nor closes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes and returns the head of the answer.
pub(crate) async fn head(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(PATIENCE, socket.read_u8()).await;
        head.push(byte.expect("the peer does not answer").expect("the peer closes"));
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Asks for a path by GET; returns status, content type and body.
pub(crate) async fn get(
    addr: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String, String) {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request = format!("{request}{name}: {value}\r\n");
    }
    request.push_str("\r\n");
    let answer = exchange(addr, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    (status, kind.unwrap_or_default().to_owned(), body.to_owned())
}

/// The opening handshake of a well-behaved client, with headers changed or added.
pub(crate) fn handshake(addr: SocketAddr, method: &str, changes: &[(&str, &str)]) -> String {
    let host = addr.to_string();
    let mut headers = vec![
        ("host", host.as_str()),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "liap.v1"),
    ];
    for (name, value) in changes {
        headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            headers.push((name, value));
        }
    }
    let head = format!("{method} /ws HTTP/1.1\r\n");
    let lines = headers.iter().map(|(name, value)| [name, ": ", value, "\r\n"].concat());
    [head, lines.collect(), "\r\n".to_owned()].concat()
}

/// A WebSocket of which the test writes each frame itself.
#[derive(Debug)]
pub(crate) struct RawSocket {
    socket: TcpStream,
    read: Vec<u8>,
}

impl RawSocket {
    /// Opens a WebSocket.
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        Self::open_with(addr, &[]).await.0
    }

    /// Opens a WebSocket with headers changed or added; returns also the head of the answer.
    pub(crate) async fn open_with(addr: SocketAddr, changes: &[(&str, &str)]) -> (Self, String) {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(handshake(addr, "GET", changes).as_bytes()).await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            read.push(socket.read_u8().await.unwrap());
        }
        let head = String::from_utf8(read).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (Self { socket, read: Vec::new() }, head)
    }

    /// Opens a WebSocket and says `hello` as a new player.
    pub(crate) async fn greeted(addr: SocketAddr) -> Self {
        let mut socket = Self::open(addr).await;
        socket.say(r#"{"type":"hello"}"#).await;
        assert!(
            matches!(socket.hear().await, Heard::Message(message) if message["type"] == "welcome")
        );
        socket
    }

    /// Sends a text message.
    pub(crate) async fn say(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes()).await;
    }

    /// Sends a masked frame with this first byte; the mask is zero, so the payload shows.
    pub(crate) async fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
            length @ 126..65_536 => {
                bytes.push(0x80 | 0x7e);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 0x7f);
                bytes.extend(u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        self.bytes(&bytes).await;
    }

    /// Sends bytes as they are; whether the peer still reads does not matter.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        let _sent = self.socket.write_all(bytes).await.is_ok();
    }

    /// Returns what the server says next; pings are not answered.
    pub(crate) async fn hear(&mut self) -> Heard {
        let heard = tokio::time::timeout(PATIENCE, self.next()).await;
        heard.expect("the server says nothing")
    }

    /// Returns the first thing that is no message of these types.
    pub(crate) async fn hear_past(&mut self, passed: &[&str]) -> Heard {
        loop {
            match self.hear().await {
                Heard::Message(message) if passed.iter().any(|kind| message["type"] == *kind) => {}
                heard @ (Heard::Message(_) | Heard::Closed(_) | Heard::Cut) => return heard,
            }
        }
    }

    /// Returns once the server has sent a ping, which stays without an answer.
    pub(crate) async fn pinged(&mut self) {
        let ping = async {
            while let Some(head) = self.take(2).await {
                if head[0] == 0x89 {
                    return;
                }
                self.take(usize::from(head[1])).await;
            }
        };
        tokio::time::timeout(PATIENCE, ping).await.expect("no ping comes");
    }

    async fn next(&mut self) -> Heard {
        loop {
            let Some(head) = self.take(2).await else { return Heard::Cut };
            let length = match head[1] {
                126 => match self.take(2).await {
                    Some(bytes) => usize::from(u16::from_be_bytes([bytes[0], bytes[1]])),
                    None => return Heard::Cut,
                },
                127 => panic!("a message of more than 64 KiB"),
                length => usize::from(length),
            };
            let Some(payload) = self.take(length).await else { return Heard::Cut };
            match head[0] {
                0x81 => return Heard::Message(serde_json::from_slice(&payload).unwrap()),
                0x88 => return Heard::Closed(u16::from_be_bytes([payload[0], payload[1]])),
                0x89 | 0x8a => {}
                other => panic!("a frame that begins with {other:#x}"),
            }
        }
    }

    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            match self.socket.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
        Some(self.read.drain(..count).collect())
    }
}
