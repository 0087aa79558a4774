//! Drives one connection: reads, writes and watches it until it ends.

use std::{
    future::poll_fn, panic::AssertUnwindSafe, pin::pin, sync::Arc, task::Poll, time::Duration,
};

use futures_util::FutureExt;
use infra_core::lifecycle::Stop;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, WebSocketConfig},
};

use crate::{
    app::App,
    close::Close,
    connection::{Connection, Ended},
    metered::{Metered, Pulse},
    options::Options,
    socket::Socket,
    telemetry::{CLOSED, Ending},
};

/// How long the end of a connection may take at most, once what waited is delivered.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long the end may take of a connection whose client costs too much.
const SHORT_WORDS: Duration = Duration::from_millis(100);

/// The most bytes that are still read of a client whose connection was closed.
const LINGER: usize = 1024 * 1024;

/// The least bytes of a client's frame beside its payload (RFC 6455 section 5.2).
const HEADER: usize = 6;

/// How many bytes are read at once. Every connection holds them, and clients say little at a time.
const READ_BUFFER: usize = 2 * 1024;

/// The most bytes of control frames that wait for a client that does not read.
const CONTROL_BUFFER: usize = 4 * 1024;

/// How a connection came to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// The client closed it, or is gone.
    Client(Ended),
    /// It is to be closed like this, after what waits.
    Close(Close),
    /// It is to be closed like this at once, since each byte more that is read of it is too many.
    Cut(Close),
}

/// What the task of a connection works with.
#[derive(Debug)]
pub(crate) struct Driver<A> {
    pub(crate) connection: Connection,
    pub(crate) app: Arc<A>,
    pub(crate) options: Arc<Options>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) stop: Stop,
}

impl<A: App> Driver<A> {
    /// Serves a connection whose handshake is done.
    pub(crate) async fn run<S>(&self, socket: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (connection, options) = (&self.connection, self.options.as_ref());
        let pulse = Arc::clone(&self.pulse);
        let socket = Metered::new(socket, pulse, connection.clone(), options.message_bytes);
        let socket = Box::pin(Socket::open(socket, config(options))).await;
        let mut session = None;
        let end = {
            let mut writing = pin!(self.write(&socket));
            let (mut reading, mut watching) =
                (pin!(self.read(&socket, &mut session)), pin!(self.watch()));
            let watched = poll_fn(|cx| {
                // First, so that a flood does not use up the task's turn before the time is looked
                // at; and again, since what was read may have set a deadline.
                if let Poll::Ready(close) = watching.as_mut().poll(cx) {
                    return Poll::Ready(End::Close(close));
                }
                match reading.as_mut().poll(cx) {
                    Poll::Ready(end) => Poll::Ready(end),
                    Poll::Pending => watching.as_mut().poll(cx).map(End::Close),
                }
            });
            let first = tokio::select! {
                end = watched => Err(end),
                () = self.stop.requested() => Err(End::Close(Close::GOING_AWAY)),
                end = &mut writing => Ok(end),
            };
            match first {
                Err(End::Close(close)) => {
                    // What was sent before the close is written first; the writer ends behind it.
                    connection.close(close);
                    writing.await
                }
                Err(End::Cut(close)) => {
                    connection.shed(close.clone());
                    End::Cut(close)
                }
                Ok(end) | Err(end @ End::Client(_)) => end,
            }
        };
        // On the heap, so that connections which live do not carry what only their end needs.
        let ended = Box::pin(finish(end, socket)).await;
        CLOSED.add_for(Ending::of(&ended), 1);
        connection.end(ended);
        if let Some(session) = session {
            // A panic in the application ends here; the hub's task goes on to its own end.
            let _done = AssertUnwindSafe(self.app.closed(session)).catch_unwind().await.is_ok();
        }
    }
}

fn config(options: &Options) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // Control frames only, each of which is written at once; messages go past the library.
        .write_buffer_size(0)
        .max_write_buffer_size(CONTROL_BUFFER)
        .max_message_size(Some(options.message_bytes))
        .max_frame_size(Some(options.message_bytes))
}

/// Closes the connection politely, if it is still there.
async fn finish<S>(end: End, socket: Socket<S>) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (close, is_cut) = match end {
        End::Client(how) => return how,
        End::Close(close) => {
            let is_too_much = close == Close::OVERLOADED;
            (close, is_too_much)
        }
        End::Cut(close) => (close, true),
    };
    let frame = CloseFrame { code: close.code.into(), reason: close.short_reason().into() };
    if is_cut {
        // What it costs must end now; that the client may miss the reason is the lesser evil.
        let last = socket.control(Message::Close(Some(frame)));
        let _in_time = tokio::time::timeout(SHORT_WORDS, last).await.is_ok();
        return Ended::Server(close);
    }
    let polite = async {
        if socket.control(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        let (mut is_answered, mut left) = (false, LINGER);
        while 0 < left
            && let Some(Ok(message)) = socket.next().await
        {
            is_answered |= message.is_close();
            left = left.saturating_sub(HEADER + message.len());
        }
        if !is_answered {
            linger(socket.into_inner(), left).await;
        }
    };
    // A client that does not take its close is simply cut off.
    let _in_time = tokio::time::timeout(LAST_WORDS, polite).await.is_ok();
    Ended::Server(close)
}

/// Reads on for a while, up to `left` bytes, so that the close is not lost.
///
/// A socket that is dropped with bytes unread resets the connection, and a reset makes the other
/// side throw away what it has not read yet: the reason for the end (RFC 1122 section 4.2.2.13).
async fn linger<S>(mut socket: Metered<S>, mut left: usize)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if socket.shutdown().await.is_err() {
        return;
    }
    let mut scratch = vec![0; 4 * 1024];
    while 0 < left {
        match socket.read(&mut scratch).await {
            Ok(count) if 0 < count => left = left.saturating_sub(count),
            Ok(_) | Err(_) => return,
        }
    }
}
