//! One connection to a server, as it is.

use std::{
    fmt,
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::{StatusCode, header};
use infra_core::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Sleep,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError, Message, client::IntoClientRequest, protocol::WebSocketConfig,
    },
};

use crate::close::Close;

const CONNECT: &str = "connect WebSocket";

fn invalid(what: &str) -> Error {
    Error::invalid(CONNECT, what.to_owned())
}

/// Returns what a handshake that failed means for the next one.
fn refusal(cause: &WsError) -> ErrorKind {
    let WsError::Http(answer) = cause else { return ErrorKind::Denied };
    let status = answer.status();
    let is_for_a_while =
        matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
    let named = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    match named.and_then(|seconds| seconds.trim().parse().ok()) {
        Some(seconds) if is_for_a_while => {
            ErrorKind::Throttled { retry_after: Duration::from_secs(seconds) }
        }
        _ if [502, 503, 504].contains(&status.as_u16()) => ErrorKind::Unavailable,
        _ => ErrorKind::Denied,
    }
}

/// What the server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(bytes::Bytes),
    /// The end; `None` if the connection was cut without a close.
    Closed(Option<Close>),
}

/// What a connection runs over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection to a server.
pub struct Client {
    socket: WebSocketStream<Box<dyn Stream>>,
    /// The server's close, once it came; the answer to it may still have to be sent.
    close: Option<Received>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Connects to `url` (`ws://host:port/path`) with additional headers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for a URL or header that cannot be, [`ErrorKind::Unavailable`] if
    /// nobody answers or a proxy says so (502, 503 or 504), [`ErrorKind::Throttled`] if the
    /// handshake is refused for a time that is named (503 or 429 with `Retry-After` in seconds),
    /// [`ErrorKind::Denied`] if it is refused otherwise (the detail has the status).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect(url: &str, headers: &[(&'static str, &str)]) -> Result<Self> {
        let uri: http::Uri = url.parse().map_err(|_| invalid(url))?;
        let host = uri.authority().ok_or_else(|| invalid(url))?.to_string();
        let socket = TcpStream::connect(&host).await.map_err(|cause| {
            Error::new(ErrorKind::Unavailable, CONNECT).detail(host).because(cause)
        })?;
        // A move waits for no other: small messages must not be held back (RFC 896).
        socket
            .set_nodelay(true)
            .map_err(|cause| Error::new(ErrorKind::Unavailable, CONNECT).because(cause))?;
        Self::over(socket, url, headers).await
    }

    /// Connects over a stream of any kind, such as TLS or a pipe of a test.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn over<S>(stream: S, url: &str, headers: &[(&'static str, &str)]) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut request = url.into_client_request().map_err(|_| invalid(url))?;
        for (name, value) in headers {
            let value = value.parse().map_err(|_| invalid(name))?;
            request.headers_mut().insert(*name, value);
        }
        let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
        let stream: Box<dyn Stream> = Box::new(stream);
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _response)) => Ok(Self { socket, close: None }),
            Err(cause) => {
                Err(Error::new(refusal(&cause), CONNECT).detail(cause.to_string()).because(cause))
            }
        }
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the message sent in part; use the client no more.
    pub async fn send(&mut self, text: impl Into<String>) -> Result<()> {
        self.send_message(Message::text(text.into())).await
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send).
    pub async fn send_binary(&mut self, bytes: impl Into<bytes::Bytes>) -> Result<()> {
        self.send_message(Message::Binary(bytes.into())).await
    }

    async fn send_message(&mut self, message: Message) -> Result<()> {
        self.socket
            .send(message)
            .await
            .map_err(|cause| Error::new(ErrorKind::Unavailable, "send to WebSocket").because(cause))
    }

    /// Waits up to `patience` for the next message; pings are answered meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] if nothing came.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn receive(&mut self, patience: Duration) -> Result<Received> {
        tokio::time::timeout(patience, self.next())
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "receive from WebSocket"))
    }

    /// Waits for the next message as long as the server gives a sign of life, such as a ping, within
    /// `silence`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] if it gave none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn receive_while_alive(&mut self, silence: Duration) -> Result<Received> {
        self.receive_until(silence, pin!(tokio::time::sleep(silence))).await
    }

    /// Waits for the next message until `end`, which each sign of life puts off to `silence` from
    /// then; a caller that keeps `end` may drop the future and wait anew without putting it off.
    pub(super) async fn receive_until(
        &mut self,
        silence: Duration,
        mut end: Pin<&mut Sleep>,
    ) -> Result<Received> {
        loop {
            let received = tokio::select! {
                // What has come is taken, however late.
                biased;
                received = self.step() => received,
                () = end.as_mut() => {
                    return Err(Error::new(ErrorKind::Timeout, "hear of WebSocket"));
                }
            };
            end.set(tokio::time::sleep(silence));
            if let Some(received) = received {
                return Ok(received);
            }
        }
    }

    async fn next(&mut self) -> Received {
        loop {
            if let Some(received) = self.step().await {
                return received;
            }
        }
    }

    /// Takes the next frame; returns it unless it is one that the library answers by itself.
    async fn step(&mut self) -> Option<Received> {
        if self.close.is_none() {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Some(Received::Text(text.to_string())),
                Some(Ok(Message::Binary(bytes))) => return Some(Received::Binary(bytes)),
                Some(Ok(Message::Close(frame))) => {
                    self.close = Some(Received::Closed(frame.map(|frame| Close {
                        code: frame.code.into(),
                        reason: frame.reason.to_string().into(),
                    })));
                }
                Some(Ok(_)) => return None,
                Some(Err(_)) | None => return Some(Received::Closed(None)),
            }
        }
        // The library has the answer ready; without it the server would think the client is lost.
        let _answered = self.socket.flush().await.is_ok();
        self.close.clone()
    }

    /// Closes the connection and waits up to `patience` for the server's answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the connection.
    pub async fn close(mut self, patience: Duration) {
        let polite = async {
            if self.socket.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        let _in_time = tokio::time::timeout(patience, polite).await.is_ok();
    }
}
