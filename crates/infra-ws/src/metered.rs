//! A socket that tells when it last read, and since when a message is unfinished.
//!
//! It also takes frames to write past the WebSocket library, and keeps both from writing into the
//! middle of the other's frame.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use infra_core::{Clock, clock::Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{connection::Connection, tracker::Tracker};

/// What is known of a client from the bytes it sends.
// Relaxed throughout: each number stands for itself, and all of it is used by one task.
#[derive(Debug)]
pub(crate) struct Pulse {
    clock: Arc<dyn Clock>,
    /// Nanoseconds since the clock's start.
    heard: AtomicU64,
    /// Likewise, plus one; zero if nothing is unfinished.
    unfinished: AtomicU64,
    /// The application works on a message: nothing is read, and that is not the client's fault.
    is_busy: AtomicBool,
}

impl Pulse {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let heard = AtomicU64::new(nanos(clock.now()));
        Self { clock, heard, unfinished: AtomicU64::new(0), is_busy: AtomicBool::new(false) }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Returns how long nothing was heard of the client though it could have been.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        if self.is_busy.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let heard = Duration::from_nanos(self.heard.load(Ordering::Relaxed));
        now.since(Instant::from_start(heard))
    }

    /// Returns since when a message is unfinished.
    pub(crate) fn unfinished(&self) -> Option<Instant> {
        let since = self.unfinished.load(Ordering::Relaxed).checked_sub(1)?;
        let is_busy = self.is_busy.load(Ordering::Relaxed);
        (!is_busy).then(|| Instant::from_start(Duration::from_nanos(since)))
    }

    /// Stops the client's time while the application works.
    pub(crate) fn pause(&self) {
        self.is_busy.store(true, Ordering::Relaxed);
    }

    /// Lets the client's time go on, from its start.
    pub(crate) fn resume(&self) {
        let now = nanos(self.clock.now());
        self.heard.store(now, Ordering::Relaxed);
        if self.unfinished.load(Ordering::Relaxed) != 0 {
            self.unfinished.store(now + 1, Ordering::Relaxed);
        }
        self.is_busy.store(false, Ordering::Relaxed);
    }

    fn read(&self, is_unfinished: bool) {
        let now = nanos(self.clock.now());
        self.heard.store(now, Ordering::Relaxed);
        match (is_unfinished, self.unfinished.load(Ordering::Relaxed)) {
            (true, 0) => self.unfinished.store(now + 1, Ordering::Relaxed),
            (true, _) => {}
            (false, _) => self.unfinished.store(0, Ordering::Relaxed),
        }
    }
}

fn nanos(instant: Instant) -> u64 {
    u64::try_from(instant.since_start().as_nanos()).unwrap_or(u64::MAX - 1)
}

/// The socket.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    inner: S,
    pulse: Arc<Pulse>,
    tracker: Tracker,
    connection: Connection,
    /// The longest message; what claims to be longer is refused before it is held.
    max: usize,
    /// Frames that are written before anything else, and how many of their bytes were.
    frames: Vec<u8>,
    n_written: usize,
    /// The library has written a part of its frames.
    is_amid: bool,
}

impl<S> Metered<S> {
    pub(crate) fn new(inner: S, pulse: Arc<Pulse>, connection: Connection, max: usize) -> Self {
        let tracker = Tracker::default();
        let (frames, n_written, is_amid) = (Vec::new(), 0, false);
        Self { inner, pulse, tracker, connection, max, frames, n_written, is_amid }
    }

    /// Returns whether the library must write the rest of its frames first.
    pub(crate) const fn is_amid(&self) -> bool {
        self.is_amid
    }

    /// Takes whole frames to write; the library must not be amid its own, nor others be left.
    pub(crate) fn put(&mut self, frames: Vec<u8>) {
        (self.frames, self.n_written) = (frames, 0);
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    /// Writes the frames that were put in, until none is left.
    pub(crate) fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.frames.get(self.n_written..)
            && !rest.is_empty()
        {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.n_written += written;
        }
        // Who is idle holds no buffer.
        self.put(Vec::new());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if !fresh.is_empty() {
            this.tracker.feed(fresh);
            this.pulse.read(this.tracker.is_unfinished());
            this.connection.hold_inbound(this.tracker.held().min(this.max));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_frames(cx))?;
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        // The library always writes all it has, which are whole frames.
        this.is_amid = written < buf.len();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_frames(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
