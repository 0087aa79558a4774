//! Drives one connection: reads, writes and watches it until it ends.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt, Sink, SinkExt, Stream, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        error::ProtocolError,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use crate::{
    app::{App, Inbound},
    close::Close,
    connection::Connection,
    frame::Frame,
    metered::{Metered, Pulse},
    options::Options,
    outbox::Batch,
    telemetry::{CLOSED, Ending, RECEIVED, SENT},
};

/// How long the end of a connection may take at most.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How a connection came to its end.
#[derive(Debug)]
enum End {
    /// The client closed it, or is gone.
    Client(Ending),
    /// It is to be closed like this, after what waits.
    Close(Close),
}

/// Serves a connection whose handshake is done.
pub(crate) async fn run<S, A>(
    socket: S,
    connection: Connection,
    app: Arc<A>,
    options: Arc<Options>,
    pulse: Arc<Pulse>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    A: App,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(4 * 1024)
        .max_write_buffer_size(options.message_bytes.max(options.outbox_bytes) * 2)
        .max_message_size(Some(options.message_bytes))
        .max_frame_size(Some(options.message_bytes));
    let socket = Metered::new(socket, Arc::clone(&pulse));
    let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let mut session = None;
    let end = {
        let mut writing = std::pin::pin!(write(&mut sink, &connection, &options));
        let close = tokio::select! {
            end = read(&mut stream, &mut session, &connection, app.as_ref(), &options) => Err(end),
            end = &mut writing => Ok(end),
            close = watch(&pulse, &options) => Err(End::Close(close)),
        };
        match close {
            Err(End::Close(close)) => {
                // What was sent before the close is written first; the writer ends behind it.
                connection.close(close);
                let flushed = tokio::time::timeout(LAST_WORDS, writing).await;
                flushed.unwrap_or(End::Client(Ending::Server))
            }
            Ok(end) | Err(end @ End::Client(_)) => end,
        }
    };
    let by = finish(end, &mut sink, &mut stream).await;
    CLOSED.add_for(by, 1);
    connection.outbox().end();
    if let Some(session) = session {
        // A panic in the application ends here; the hub's task goes on to its own end.
        let _ended = AssertUnwindSafe(app.closed(session)).catch_unwind().await.is_ok();
    }
}

/// Reads messages and hands them to the application.
async fn read<S, A>(
    stream: &mut SplitStream<WebSocketStream<S>>,
    session: &mut Option<A::Session>,
    connection: &Connection,
    app: &A,
    options: &Options,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: App,
{
    let opened = AssertUnwindSafe(app.open(connection.clone())).catch_unwind().await;
    let session = match opened {
        Ok(Ok(opened)) => session.insert(opened),
        Ok(Err(close)) => return End::Close(close),
        Err(_) => return End::Close(Close::INTERNAL),
    };
    let first = tokio::time::timeout(options.first_message, message(stream)).await;
    let Ok(mut next) = first else {
        return End::Close(options.codes.first_message.clone());
    };
    loop {
        let inbound = match next {
            Ok(inbound) => inbound,
            Err(end) => return end,
        };
        RECEIVED.add(1);
        match AssertUnwindSafe(app.message(session, inbound)).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(close)) => return End::Close(close),
            Err(_) => return End::Close(Close::INTERNAL),
        }
        next = message(stream).await;
    }
}

/// Returns the next message of the client, or how the connection ends.
async fn message<S>(stream: &mut S) -> Result<Inbound, End>
where
    S: Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
{
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(Inbound::Text(text)),
            Some(Ok(Message::Binary(bytes))) => return Ok(Inbound::Binary(bytes)),
            // The library answers pings by itself; a close ends the stream after the answer.
            Some(Ok(
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_),
            )) => {}
            Some(Err(error)) => return Err(end_of(&error)),
            None => return Err(End::Client(Ending::Client)),
        }
    }
}

fn end_of(error: &tungstenite::Error) -> End {
    match error {
        tungstenite::Error::Capacity(_) => End::Close(Close::TOO_LARGE),
        tungstenite::Error::Utf8(_) => End::Close(Close::NOT_UTF8),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            End::Client(Ending::Lost)
        }
        tungstenite::Error::Protocol(_) => End::Close(Close::PROTOCOL),
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            End::Client(Ending::Client)
        }
        tungstenite::Error::Io(_)
        | tungstenite::Error::Tls(_)
        | tungstenite::Error::WriteBufferFull(_)
        | tungstenite::Error::AttackAttempt
        | tungstenite::Error::Url(_)
        | tungstenite::Error::Http(_)
        | tungstenite::Error::HttpFormat(_) => End::Client(Ending::Lost),
    }
}

/// Writes what waits, and a ping from time to time.
async fn write<W>(sink: &mut W, connection: &Connection, options: &Options) -> End
where
    W: Sink<Message, Error = tungstenite::Error> + Unpin,
{
    let mut pings = tokio::time::interval(options.heartbeat);
    pings.tick().await;
    loop {
        let (messages, count) = tokio::select! {
            batch = connection.outbox().next() => match batch {
                Batch::Frames(frames) => {
                    let count = frames.len();
                    (frames.into_iter().map(Frame::message).collect(), count)
                }
                Batch::Close(close) => return End::Close(close),
            },
            _ = pings.tick() => (vec![Message::Ping(Bytes::new())], 0),
        };
        match tokio::time::timeout(options.write, send(sink, messages)).await {
            Ok(Ok(())) => {
                connection.outbox().delivered(count);
                SENT.add(count as u64);
            }
            Ok(Err(_)) => return End::Client(Ending::Lost),
            Err(_) => return End::Close(options.codes.slow.clone()),
        }
    }
}

async fn send<W>(sink: &mut W, messages: Vec<Message>) -> Result<(), tungstenite::Error>
where
    W: Sink<Message, Error = tungstenite::Error> + Unpin,
{
    for message in messages {
        sink.feed(message).await?;
    }
    sink.flush().await
}

/// Watches the client's pulse; returns how to close it once it is lost.
async fn watch(pulse: &Pulse, options: &Options) -> Close {
    let step = options.assembly.min(options.silence) / 8;
    let mut looks = tokio::time::interval(step.max(Duration::from_millis(5)));
    loop {
        looks.tick().await;
        if options.silence <= pulse.silence() {
            return options.codes.silent.clone();
        }
        if options.assembly <= pulse.unfinished() {
            return options.codes.unfinished.clone();
        }
    }
}

/// Closes the connection politely, if it is still there.
async fn finish<S>(
    end: End,
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    stream: &mut SplitStream<WebSocketStream<S>>,
) -> Ending
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let close = match end {
        End::Client(by) => return by,
        End::Close(close) => close,
    };
    let frame = CloseFrame { code: close.code.into(), reason: close.short_reason().into() };
    let polite = async {
        if send(sink, vec![Message::Close(Some(frame))]).await.is_ok() {
            // The client's answer ends the stream; what it still says is not looked at.
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    // A client that does not take its close is simply cut off.
    let _in_time = tokio::time::timeout(LAST_WORDS, polite).await.is_ok();
    Ending::Server
}
