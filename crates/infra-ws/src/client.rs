//! A small client, for tests, load generators and tools (feature `client`).

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use infra_core::{Error, ErrorKind, Result};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

use crate::close::Close;

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

/// A connection to a server.
#[derive(Debug)]
pub struct Client(WebSocketStream<TcpStream>);

impl Client {
    /// Connects to `url` (`ws://host:port/path`) with additional headers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for a URL or header that cannot be, [`ErrorKind::Unavailable`] if
    /// nobody answers, [`ErrorKind::Denied`] if the handshake is refused (the detail has the
    /// status).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect(url: &str, headers: &[(&'static str, &str)]) -> Result<Self> {
        const CONNECT: &str = "connect WebSocket";
        let invalid = |what: &str| Error::invalid(CONNECT, what.to_owned());
        let mut request = url.into_client_request().map_err(|_| invalid(url))?;
        for (name, value) in headers {
            let value = value.parse().map_err(|_| invalid(name))?;
            request.headers_mut().insert(*name, value);
        }
        let host = request.uri().authority().ok_or_else(|| invalid(url))?.to_string();
        let socket = TcpStream::connect(&host).await.map_err(|cause| {
            Error::new(ErrorKind::Unavailable, CONNECT).detail(host).because(cause)
        })?;
        // A move waits for no other: small messages must not be held back (RFC 896).
        socket
            .set_nodelay(true)
            .map_err(|cause| Error::new(ErrorKind::Unavailable, CONNECT).because(cause))?;
        let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
        match client_async_with_config(request, socket, Some(config)).await {
            Ok((socket, _response)) => Ok(Self(socket)),
            Err(cause) => {
                Err(Error::new(ErrorKind::Denied, CONNECT).detail(cause.to_string()).because(cause))
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
        self.0
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

    async fn next(&mut self) -> Received {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Received::Text(text.to_string()),
                Some(Ok(Message::Binary(bytes))) => return Received::Binary(bytes),
                Some(Ok(Message::Close(frame))) => {
                    return Received::Closed(frame.map(|frame| Close {
                        code: frame.code.into(),
                        reason: frame.reason.to_string().into(),
                    }));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Closed(None),
            }
        }
    }

    /// Closes the connection and waits up to `patience` for the server's answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the connection.
    pub async fn close(mut self, patience: Duration) {
        let polite = async {
            if self.0.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.0.next().await {}
            }
        };
        let _in_time = tokio::time::timeout(patience, polite).await.is_ok();
    }
}
