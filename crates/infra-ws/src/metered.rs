//! A socket that tells when it last read, and since when a message is unfinished.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use infra_core::{Clock, clock::Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tracker::Tracker;

/// What is known of a client from the bytes it sends.
#[derive(Debug)]
pub(crate) struct Pulse {
    clock: Arc<dyn Clock>,
    /// Nanoseconds since the clock's start.
    heard: AtomicU64,
    /// Likewise, plus one; zero if nothing is unfinished.
    unfinished: AtomicU64,
}

impl Pulse {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let heard = AtomicU64::new(nanos(clock.now()));
        Arc::new(Self { clock, heard, unfinished: AtomicU64::new(0) })
    }

    /// Returns how long nothing was heard.
    pub(crate) fn silence(&self) -> Duration {
        // Relaxed: both numbers stand for themselves, and both sides run in one task.
        let heard = Duration::from_nanos(self.heard.load(Ordering::Relaxed));
        self.clock.now().since(Instant::from_start(heard))
    }

    /// Returns how long a message has been unfinished.
    pub(crate) fn unfinished(&self) -> Duration {
        match self.unfinished.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => {
                let since = Instant::from_start(Duration::from_nanos(since - 1));
                self.clock.now().since(since)
            }
        }
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
}

impl<S> Metered<S> {
    pub(crate) fn new(inner: S, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse, tracker: Tracker::default() }
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
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
