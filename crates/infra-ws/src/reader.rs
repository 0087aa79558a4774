//! The reading half of a connection's task.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use infra_core::clock::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::{self, Message, error::ProtocolError};

use crate::{
    app::{App, Inbound},
    close::Close,
    connection::Ended,
    driver::{Driver, End},
    socket::Socket,
    telemetry::RECEIVED,
};

/// How many control frames came in the current heartbeat.
#[derive(Debug)]
struct Controls {
    since: Instant,
    count: u32,
}

impl<A: App> Driver<A> {
    /// Reads messages and hands them to the application.
    pub(crate) async fn read<S>(&self, socket: &Socket<S>, session: &mut Option<A::Session>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let session = match self.work(self.app.open(self.connection.clone())).await {
            Ok(opened) => session.insert(opened),
            Err(end) => return end,
        };
        let mut controls = Controls { since: self.pulse.now(), count: 0 };
        let first = self.message(socket, &mut controls);
        let Ok(mut next) = tokio::time::timeout(self.options.first_message, first).await else {
            return End::Close(self.options.codes.first_message.clone());
        };
        loop {
            let inbound = match next {
                Ok(inbound) => inbound,
                Err(end) => return end,
            };
            RECEIVED.add(1);
            if let Err(end) = self.work(self.app.message(session, inbound)).await {
                return end;
            }
            next = self.message(socket, &mut controls).await;
        }
    }

    /// Lets the application work; meanwhile the client's time stands still.
    async fn work<T>(&self, work: impl Future<Output = Result<T, Close>>) -> Result<T, End> {
        self.pulse.pause();
        let done = AssertUnwindSafe(work).catch_unwind().await;
        self.pulse.resume();
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(close)) => Err(End::Close(close)),
            Err(_) => Err(End::Close(Close::INTERNAL)),
        }
    }

    /// Returns the next message of the client, or how the connection ends.
    async fn message<S>(&self, socket: &Socket<S>, controls: &mut Controls) -> Result<Inbound, End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut code = None;
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(Inbound::Text(text)),
                Some(Ok(Message::Binary(bytes))) => return Ok(Inbound::Binary(bytes)),
                // The library answers pings by itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    if self.is_flood(controls) {
                        return Err(End::Cut(Close::POLICY));
                    }
                }
                // A close ends the stream once the answer is written.
                Some(Ok(Message::Close(frame))) => code = frame.map(|frame| frame.code.into()),
                Some(Ok(Message::Frame(_))) => {}
                Some(Err(error)) => return Err(end_of(&error)),
                None => return Err(End::Client(Ended::Client(code))),
            }
        }
    }

    fn is_flood(&self, controls: &mut Controls) -> bool {
        let now = self.pulse.now();
        if self.options.heartbeat <= now.since(controls.since) {
            *controls = Controls { since: now, count: 0 };
        }
        controls.count = controls.count.saturating_add(1);
        self.options.control_frames < controls.count
    }
}

fn end_of(error: &tungstenite::Error) -> End {
    match error {
        tungstenite::Error::Capacity(_) => End::Close(Close::TOO_LARGE),
        tungstenite::Error::Utf8(_) => End::Close(Close::NOT_UTF8),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            End::Client(Ended::Lost)
        }
        tungstenite::Error::Protocol(_) => End::Close(Close::PROTOCOL),
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            End::Client(Ended::Client(None))
        }
        tungstenite::Error::Io(_)
        | tungstenite::Error::Tls(_)
        | tungstenite::Error::WriteBufferFull(_)
        | tungstenite::Error::AttackAttempt
        | tungstenite::Error::Url(_)
        | tungstenite::Error::Http(_)
        | tungstenite::Error::HttpFormat(_) => End::Client(Ended::Lost),
    }
}
