//! The socket of a connection, as its reader and its writer use it in turn.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Poll, ready},
};

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::metered::Metered;

/// A WebSocket of a server. Both halves of its one task hold it; neither keeps it over an await.
///
/// The library reads, and writes control frames. Messages go past it: a frame of a server is a
/// header and the bytes as they are, so a batch of them is put together once and written at once.
#[derive(Debug)]
pub(crate) struct Socket<S>(Mutex<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    library: WebSocketStream<Metered<S>>,
    /// The client has closed it: no message may follow (RFC 6455 section 5.5.1).
    is_closed: bool,
}

impl<S> Socket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    pub(crate) async fn open(socket: Metered<S>, config: WebSocketConfig) -> Self {
        let library = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
        Self(Mutex::new(Inner { library, is_closed: false }))
    }

    /// Returns the next message, or nothing after the end.
    pub(crate) async fn next(&self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| {
            let inner = &mut *self.0.lock();
            let next = ready!(inner.library.poll_next_unpin(cx));
            inner.is_closed |= matches!(next, Some(Ok(Message::Close(_))));
            Poll::Ready(next)
        })
        .await
    }

    /// Writes a control frame.
    pub(crate) async fn control(&self, message: Message) -> Result<(), Error> {
        let mut message = Some(message);
        poll_fn(|cx| {
            let library = &mut self.0.lock().library;
            if message.is_some() {
                ready!(library.poll_ready_unpin(cx))?;
            }
            if let Some(message) = message.take() {
                library.start_send_unpin(message)?;
            }
            library.poll_flush_unpin(cx)
        })
        .await
    }

    /// Writes frames, which are whole; what is left of them when it is dropped is written first by
    /// whatever is written next.
    pub(crate) async fn write(&self, frames: Vec<u8>) -> Result<(), Error> {
        let mut frames = Some(frames);
        poll_fn(|cx| {
            let inner = &mut *self.0.lock();
            if inner.is_closed {
                return Poll::Ready(Err(ProtocolError::SendAfterClosing.into()));
            }
            if inner.library.get_ref().is_amid() {
                ready!(inner.library.poll_flush_unpin(cx))?;
            }
            let metered = inner.library.get_mut();
            if let Some(frames) = frames.take() {
                metered.put(frames);
            }
            Pin::new(metered).poll_flush(cx).map_err(Error::from)
        })
        .await
    }

    /// Returns what it runs over.
    pub(crate) fn into_inner(self) -> Metered<S> {
        self.0.into_inner().library.into_inner()
    }
}
