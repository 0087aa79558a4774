//! The event store over the log.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Error, ErrorKind, Result,
    context::Context,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, RecordedEvent, StreamInfo,
        Subscription,
    },
    health::{Finding, HealthCheck},
    id::StreamName,
    version::{Expected, Position, Version},
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};

use super::{
    backup,
    options::{Mode, Options},
    order::{Condition, Job, Order},
    reader::Reader,
    recovery::{self, RecoveryReport},
    writer::Writer,
};
use crate::{
    index::check_shape,
    memory,
    subscription::{self, Source},
    telemetry::POISONED,
};

/// Keeps events in a segmented log on disk.
///
/// Every append is durable when it is acknowledged, whatever durability it asks for. Share it as
/// an `Arc`; dropping the last one ends the writer and releases the folder.
#[derive(Debug)]
pub struct LogEventStore {
    reader: Arc<Reader>,
    condition: Arc<Mutex<Condition>>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    permits: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
    options: Options,
    is_read_only: bool,
}

impl LogEventStore {
    /// Opens the log, reading and checking what [`Options::check`] says, and reports what was found.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if something acknowledged is damaged or missing, in
    /// [`Mode::Strict`]; [`ErrorKind::Unavailable`] if another process holds the folder or the disk
    /// fails; [`ErrorKind::Unsupported`] for a format of another version.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the opening finish in the background and closes the log again.
    pub async fn open(options: Options) -> Result<(Self, RecoveryReport)> {
        let opened = {
            let options = options.clone();
            blocking(move || recovery::open(&options)).await?
        };
        Self::start(options, opened)
    }

    fn start(options: Options, mut opened: recovery::Opened) -> Result<(Self, RecoveryReport)> {
        let (sender, head) = watch::channel(opened.catalogue.index.head());
        let catalogue = std::mem::take(&mut opened.catalogue);
        let segments = std::mem::take(&mut opened.segments);
        let reader = Arc::new(Reader::new(catalogue, segments, head, options.recent));
        let condition = Arc::new(Mutex::new(Condition::default()));
        let is_read_only = options.mode == Mode::ReadOnly;
        let permits = Arc::new(Semaphore::new(options.queue.max(1)));
        let report = opened.report.clone();
        let kept = options.clone();
        POISONED.set(0.0);
        let (jobs, receiver) = mpsc::channel();
        let writer = {
            let (reader, condition) = (Arc::clone(&reader), Arc::clone(&condition));
            Writer::new(options, &mut opened, reader, condition, sender)
        };
        let lock = opened.lock;
        let thread = std::thread::Builder::new().name("event-log".to_owned()).spawn(move || {
            writer.run(&receiver);
            drop(lock);
        });
        let thread = thread.map_err(|cause| {
            Error::new(ErrorKind::Unavailable, "start event log's writer").because(cause)
        })?;
        let store = Self {
            reader,
            condition,
            jobs: Mutex::new(Some(jobs)),
            permits,
            thread: Mutex::new(Some(thread)),
            options: kept,
            is_read_only,
        };
        Ok((store, report))
    }

    /// Reads every frame of a log in `options`' folder and checks it, without changing anything.
    ///
    /// The log may be open, in this process or another one. Damage is in the report, not an error;
    /// the segments behind the first damage are looked at one by one as well.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the disk fails, [`ErrorKind::Unsupported`] for a format of
    /// another version.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn verify(options: Options) -> Result<RecoveryReport> {
        blocking(move || recovery::check(&options)).await
    }

    /// Copies everything that was acknowledged to another folder while appends go on, and checks
    /// every frame of the copy; the copy is opened as any log.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the folder holds a log already, [`ErrorKind::Corrupt`] if the log
    /// or the copy is damaged, [`ErrorKind::Unavailable`] if the disk fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the copying finish in the background.
    pub async fn backup(&self, folder: impl Into<PathBuf>) -> Result<RecoveryReport> {
        Self::backup_of(self.options.clone(), folder).await
    }

    /// Copies the log in `options`' folder as [`backup`](Self::backup) does; it may be open in
    /// another process.
    ///
    /// # Errors
    ///
    /// As for [`backup`](Self::backup).
    ///
    /// # Cancel safety
    ///
    /// As for [`backup`](Self::backup).
    pub async fn backup_of(options: Options, folder: impl Into<PathBuf>) -> Result<RecoveryReport> {
        let folder = folder.into();
        let report = blocking(move || backup::copy(&options, &folder)).await?;
        match &report.lost {
            None => Ok(report),
            Some(lost) => Err(Error::new(ErrorKind::Corrupt, "back up event log")
                .detail(format!("{} at byte {}: {}", lost.segment, lost.offset, lost.why))),
        }
    }

    /// Ends the writer after everything that waits was written, and releases the folder.
    ///
    /// Later appends are [`ErrorKind::Closed`]; reads go on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the closing finish in the background.
    pub async fn close(&self) {
        drop(self.jobs.lock().take());
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A writer that panicked has ended too.
            let _ended = blocking(move || Ok(thread.join().is_ok())).await.is_ok();
        }
    }

    async fn order(&self, order: Order, operation: &'static str) -> Result<Appended> {
        if self.is_read_only {
            return Err(Error::new(ErrorKind::Denied, operation).detail("opened read only"));
        }
        let closed = || Error::new(ErrorKind::Closed, operation);
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let job = Job { order, reply, permit };
        let sent = self.jobs.lock().as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(closed());
        }
        let lost = || {
            Error::new(ErrorKind::Indeterminate, operation).detail("the writer died").idempotent()
        };
        answer.await.unwrap_or_else(|_| Err(lost()))
    }
}

impl Drop for LogEventStore {
    fn drop(&mut self) {
        // The writer ends by itself once nobody can send to it.
        drop(self.jobs.lock().take());
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|cause| {
        Err(Error::new(ErrorKind::Internal, "read event log").because(cause))
    })
}

struct LogSource(Arc<Reader>);

#[async_trait]
impl Source for LogSource {
    async fn page(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        // A subscriber that is near the end, as most are, costs no thread.
        if let Some(page) = self.0.all_in_memory(after, filter, limit) {
            return Ok(page);
        }
        let (reader, filter) = (Arc::clone(&self.0), filter.clone());
        blocking(move || reader.all(after, &filter, limit)).await
    }

    async fn changed(&self, after: Position) -> bool {
        subscription::beyond(&self.0.head, after).await
    }
}

#[async_trait]
impl EventStore for LogEventStore {
    #[tracing::instrument(level = "debug", skip_all, fields(streams = append.streams.len()))]
    async fn append(&self, append: Append) -> Result<Appended> {
        check_shape(&append)?;
        let context = Context::current();
        let (correlation, trace) = (context.correlation_id(), context.trace_context());
        let order = Order::Append { append, correlation, trace, headers: context.headers() };
        self.order(order, "append to stream").await
    }

    #[tracing::instrument(name = "read stream", level = "debug", skip_all, fields(%stream, limit))]
    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        let (reader, stream) = (Arc::clone(&self.reader), stream.clone());
        blocking(move || reader.stream(&stream, from, direction, limit)).await
    }

    #[tracing::instrument(name = "read all events", level = "debug", skip_all, fields(%after, limit))]
    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        LogSource(Arc::clone(&self.reader)).page(after, filter, limit).await
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        let source = Arc::new(LogSource(Arc::clone(&self.reader)));
        Ok(subscription::start(source, after, filter))
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        let visible = self.reader.visible();
        let catalogue = self.reader.catalogue.read();
        Ok(catalogue.index.info(stream, visible, &*catalogue))
    }

    async fn stable_head(&self) -> Result<Position> {
        Ok(self.reader.visible())
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        memory::wait_for(self.reader.head.clone(), position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        let order = Order::Truncate { stream: stream.clone(), before };
        self.order(order, "truncate stream").await.map(|_| ())
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        let order = Order::Tombstone { stream: stream.clone(), expected };
        self.order(order, "tombstone stream").await.map(|_| ())
    }
}

#[async_trait]
impl HealthCheck for LogEventStore {
    fn name(&self) -> &'static str {
        "events"
    }

    async fn check(&self) -> Finding {
        let is_full = self.condition.lock().full.is_some();
        if is_full {
            // Whether there is room again is seen at the next look at the condition.
            let _roomy = self.order(Order::Probe, "check event log").await.is_ok();
        }
        let condition = self.condition.lock();
        if let Some(poison) = &condition.poisoned {
            return Finding::down(poison.to_string());
        }
        match &condition.full {
            Some(cause) => Finding::down(format!("no new segment: {cause}")),
            None if self.jobs.lock().is_none() => Finding::down("closed"),
            None => Finding::up(),
        }
    }
}

#[cfg(test)]
mod tests {
    use infra_core::{
        clock::Timestamp,
        codec::Payload,
        event::NewEvent,
        id::{EventId, EventType},
        random::Random,
    };

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn events_of_sealed_segments_are_known_by_their_indexes_alone() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path()).segment_bytes(4_096);
        let (store, _) = LogEventStore::open(options).await.unwrap();
        let random = Random::seeded(7);
        let append = async |number: u64| {
            let stream = StreamName::new(format!("room-{}", number % 3)).unwrap();
            let id = EventId::generate(Timestamp::EPOCH, &random);
            let payload = Payload::json(1, &number).unwrap();
            let event = NewEvent::new(id, EventType::new("said").unwrap(), payload);
            store.append(Append::to(stream, Expected::Any, vec![event])).await.unwrap();
        };
        for number in 0..400 {
            append(number).await;
        }
        // The last one is written, the one before is being sealed.
        for number in 0..1_000 {
            let (n_segments, n_in_memory) = store.reader.catalogue.read().count();
            assert!(10 < n_segments);
            if n_in_memory <= 2 {
                return;
            }
            append(number).await;
        }
        panic!("events of sealed segments stay in memory");
    }
}
