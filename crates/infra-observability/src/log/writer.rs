//! A writer that never blocks whoever logs: a bounded buffer and a thread that empties it.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Error, ErrorKind, Result,
    metric::{Counter, Gauge, Label, LabelSet},
};
use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// What became of a line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Written,
    Dropped,
    Failed,
}

impl Label for Fate {
    const SET: LabelSet = LabelSet { name: "fate", values: &["written", "dropped", "failed"] };

    fn value(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

pub(super) const LINES: Counter<Fate> = Counter::labelled(
    "infra_observability_log_lines_total",
    "Lines of the log: written, dropped because the buffer was full, or failed to be written.",
);

pub(super) const BUFFERED: Gauge = Gauge::new(
    "infra_observability_log_buffered_bytes",
    "bytes",
    "Bytes of the log that wait to be written.",
);

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    capacity: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { capacity: 4 * 1024 * 1024 }
    }
}

impl Options {
    /// Sets the bytes that may wait to be written; 4 MiB by default. A line that does not fit is
    /// dropped and counted.
    #[must_use]
    pub const fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    lines: u64,
    /// Bytes that the thread took and is writing.
    in_hand: usize,
    is_closed: bool,
}

#[derive(Debug)]
struct Shared {
    capacity: usize,
    waiting: Mutex<Waiting>,
    /// Told when there is something to write, or nothing any more.
    changed: Condvar,
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// Ends the thread when the last handle is gone.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.waiting.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

/// A handle to the bounded buffer. Cheap to clone; lines are whole or not there at all.
///
/// The buffer is of a fixed size: when the sink is slower than the log, the newest lines are
/// dropped, and `infra_observability_log_lines_total{fate="dropped"}` says how many.
#[derive(Clone)]
pub struct Writer(Arc<Owner>);

impl Writer {
    /// Starts the thread that writes to `sink`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](infra_core::ErrorKind::Unavailable) if the thread cannot start.
    pub fn start(options: Options, sink: impl Write + Send + 'static) -> Result<Self> {
        let shared = Arc::new(Shared {
            capacity: options.capacity,
            waiting: Mutex::default(),
            changed: Condvar::new(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let empty = Arc::clone(&shared);
        let started = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || empty.run(sink));
        started.map_err(|cause| {
            Error::new(ErrorKind::Unavailable, "start log writer").because(cause)
        })?;
        Ok(Self(Arc::new(Owner(shared))))
    }

    /// Waits until everything that was logged so far is written, up to `patience`; returns whether
    /// it is.
    ///
    /// It blocks the thread: it is for the end of the process.
    pub fn flush(&self, patience: Duration) -> bool {
        let shared = &self.0.0;
        let mut waiting = shared.waiting.lock();
        let is_busy = |waiting: &mut Waiting| 0 < waiting.lines || 0 < waiting.in_hand;
        let timed = shared.changed.wait_while_for(&mut waiting, is_busy, patience);
        !timed.timed_out()
    }

    /// Returns how many lines were written.
    pub fn written(&self) -> u64 {
        self.0.0.written.load(Ordering::Relaxed)
    }

    /// Returns how many lines were dropped because the buffer was full.
    pub fn dropped(&self) -> u64 {
        self.0.0.dropped.load(Ordering::Relaxed)
    }

    /// Returns how many lines the sink failed to take.
    pub fn failed(&self) -> u64 {
        self.0.0.failed.load(Ordering::Relaxed)
    }

    /// Returns the bytes that wait to be written, and those that the sink is taking.
    pub fn waiting(&self) -> usize {
        let waiting = self.0.0.waiting.lock();
        waiting.bytes.len() + waiting.in_hand
    }

    /// Puts one whole line into the buffer; returns whether there was room.
    fn put(&self, line: &[u8]) -> bool {
        let shared = &self.0.0;
        let mut waiting = shared.waiting.lock();
        if shared.capacity < waiting.bytes.len() + line.len() {
            drop(waiting);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            LINES.add_for(Fate::Dropped, 1);
            return false;
        }
        waiting.bytes.extend_from_slice(line);
        waiting.lines += 1;
        let is_first = waiting.lines == 1;
        drop(waiting);
        if is_first {
            shared.changed.notify_all();
        }
        true
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = (self.written(), self.dropped(), self.failed());
        f.debug_struct("Writer").field("written_dropped_failed", &counts).finish_non_exhaustive()
    }
}

impl Write for Writer {
    /// Takes one line; it is never an error, a line without room is counted.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.put(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Writer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Shared {
    /// Writes what waits, all of it at once, until the last handle is gone and nothing waits.
    fn run(&self, mut sink: impl Write) {
        let mut batch = Vec::new();
        while let Some(lines) = self.take(&mut batch) {
            let result = sink.write_all(&batch).and_then(|()| sink.flush());
            let (counter, fate) = match result {
                Ok(()) => (&self.written, Fate::Written),
                Err(_) => (&self.failed, Fate::Failed),
            };
            counter.fetch_add(lines, Ordering::Relaxed);
            LINES.add_for(fate, lines);
            batch.clear();
            self.waiting.lock().in_hand = 0;
            self.changed.notify_all();
        }
    }

    /// Waits for lines and takes them all; none when it is over.
    fn take(&self, batch: &mut Vec<u8>) -> Option<u64> {
        let mut waiting = self.waiting.lock();
        self.changed.wait_while(&mut waiting, |waiting| waiting.lines == 0 && !waiting.is_closed);
        if waiting.lines == 0 {
            return None;
        }
        std::mem::swap(&mut waiting.bytes, batch);
        waiting.in_hand = batch.len();
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        BUFFERED.set(batch.len() as f64);
        Some(std::mem::take(&mut waiting.lines))
    }
}
