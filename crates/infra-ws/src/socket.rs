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
                // The answers to pings may fill the library's buffer, which would refuse this one.
                ready!(library.poll_flush_unpin(cx))?;
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
            if inner.is_closed && frames.is_some() {
                // No message may follow, but the answer to the close does, and what was begun before.
                ready!(inner.library.poll_flush_unpin(cx))?;
                return Poll::Ready(Err(ProtocolError::SendAfterClosing.into()));
            }
            if inner.library.get_ref().is_amid() {
                ready!(inner.library.poll_flush_unpin(cx))?;
            }
            let metered = inner.library.get_mut();
            ready!(metered.poll_frames(cx))?;
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

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        sync::Arc,
    };

    use bytes::Bytes;
    use futures_util::FutureExt;
    use infra_core::SystemClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::{hub::Hub, metered::Pulse, options::Options, origin::OriginPolicy};

    const PING: &[u8] = b"\x89\x0a0123456789";
    const TEXT: &[u8] = b"\x81\x0aabcdefghij";

    fn ping() -> Message {
        Message::Ping(Bytes::from_static(b"0123456789"))
    }

    /// Opens a socket into which less than a frame fits; returns also its other end.
    async fn narrow() -> (Socket<DuplexStream>, DuplexStream) {
        let hub = Hub::for_tests(Options::new(OriginPolicy::same_host()));
        let (connection, _listed) = hub.connect_for_tests();
        let (ours, theirs) = tokio::io::duplex(8);
        let pulse = Arc::new(Pulse::new(SystemClock::shared()));
        let config = WebSocketConfig::default().write_buffer_size(0).max_write_buffer_size(64);
        let metered = Metered::new(ours, pulse, connection, 1_024);
        (Socket::open(metered, config).await, theirs)
    }

    async fn hear(theirs: &mut DuplexStream, length: usize) -> Vec<u8> {
        let mut heard = vec![0; length];
        theirs.read_exact(&mut heard).await.unwrap();
        heard
    }

    async fn is_pending(future: Pin<&mut impl Future<Output = Result<(), Error>>>) -> bool {
        let mut future = future;
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn no_frame_is_written_into_the_middle_of_another_also_of_one_that_was_dropped() {
        let (socket, mut theirs) = narrow().await;
        for [first, second] in [[PING, TEXT], [TEXT, PING], [TEXT, TEXT], [PING, PING]] {
            let write = async |frame: &[u8]| match frame {
                PING => socket.control(ping()).await,
                _ => socket.write(frame.to_vec()).await,
            };
            assert!(write(first).now_or_never().is_none(), "half of it is written");
            let (result, heard) = tokio::join!(write(second), hear(&mut theirs, 24));
            result.unwrap();
            assert_eq!(heard, [first, second].concat());
        }
    }

    #[tokio::test]
    async fn a_close_of_the_client_is_answered_behind_the_frame_that_was_begun() {
        let (socket, mut theirs) = narrow().await;
        let mut writing = pin!(socket.write(TEXT.to_vec()));
        assert!(is_pending(writing.as_mut()).await, "half of it is written");
        theirs.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
        let (wrote, next, heard) =
            tokio::join!(writing, socket.next(), hear(&mut theirs, TEXT.len() + 4));
        wrote.unwrap();
        assert!(next.is_none());
        assert_eq!(heard, [TEXT, b"\x88\x02\x03\xe8"].concat());
        assert!(socket.write(TEXT.to_vec()).await.is_err(), "nothing follows a close");
    }

    #[tokio::test]
    async fn a_control_frame_finds_room_however_many_answers_to_pings_wait_before_it() {
        let (socket, mut theirs) = narrow().await;
        let ping = [&[0x89, 0x8a, 0, 0, 0, 0][..], b"0123456789"].concat();
        // Of the answers, 72 bytes, the client takes 8; the others fill the library's 64.
        for _ in 0..6 {
            let (sent, next) = tokio::join!(theirs.write_all(&ping), socket.next());
            sent.unwrap();
            assert!(matches!(next, Some(Ok(Message::Ping(_)))));
        }
        assert!(socket.next().now_or_never().is_none(), "the last answer waits, too");
        let closing = socket.control(Message::Close(None));
        let (closed, heard) = tokio::join!(closing, hear(&mut theirs, 6 * 12 + 2));
        closed.unwrap();
        let answers = b"\x8a\x0a0123456789".repeat(6);
        assert_eq!(heard, [&answers[..], b"\x88\x00"].concat());
    }
}
