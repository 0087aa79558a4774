//! The writer: one thread that takes what waits, writes it, syncs once, then answers.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use infra_core::{
    Error, ErrorKind, Result,
    clock::Instant,
    event::{Append, Appended, Metadata, NewEvent, RecordedEvent},
    id::CorrelationId,
    trace::TraceContext,
    version::Position,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    catalogue::{Effect, FrameAt},
    disk::DiskFile,
    frame::{self, Commit},
    options::Options,
    order::{Condition, Job, Order, Waiting},
    reader::Reader,
    recovery::Opened,
    segment::{self, Segment},
    segment_index::{Place, SegmentIndex},
    witness::{Mark, Testimony, Witness},
};
use crate::{
    index::Plan,
    memory::{is_same, reused},
    telemetry::{self, APPENDED, APPENDS, COMMIT, GROUP, HEAD, POISONED},
};

/// The most bytes that one group writes, so that its last append does not wait for ever.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Zeros that are written behind a group when what was written before is used up.
///
/// The file system knows reserved blocks that were never written, and a sync of the first write to
/// them waits for its journal too: half as long again as one of blocks that were written before
/// (`events-append-1` of the benches). The price is that a segment's bytes are written twice; that the
/// zeros cannot be written is a failure of the group, as its sync's.
const ZEROS: &[u8] = &[0; 128 * 1024];

/// The bytes of a group that pays less for reserved blocks, once, than for as many zeros again.
const LARGE: usize = ZEROS.len() / 8;

pub(super) struct Writer {
    options: Options,
    reader: Arc<Reader>,
    condition: Arc<Mutex<Condition>>,
    head: watch::Sender<Position>,
    witness: Option<Witness>,
    witness_synced: Instant,
    is_witness_dirty: bool,
    testimony: Testimony,
    /// Where the next frame goes in the last segment.
    end: u64,
    /// The bytes that are reserved for the last segment.
    capacity: u64,
    /// How far the last segment was written, be it with zeros.
    written: u64,
    /// Bytes of this group that are not written yet, and where they go.
    pending: Vec<u8>,
    pending_at: u64,
    fresh: Vec<(FrameAt, Vec<RecordedEvent>)>,
    n_events: u64,
    /// How many were answered at once the last time, when, and how long the sync before took.
    company: usize,
    answered: Instant,
    sync_took: Duration,
    /// Writes the index of the segment before.
    sealing: Option<JoinHandle<Option<SegmentIndex>>>,
    /// Indexes that stand, of segments that are not known by them yet.
    sealed: Vec<SegmentIndex>,
}

impl Writer {
    pub(super) fn new(
        options: Options,
        opened: &mut Opened,
        reader: Arc<Reader>,
        condition: Arc<Mutex<Condition>>,
        head: watch::Sender<Position>,
    ) -> Self {
        let now = options.clock.now();
        Self {
            witness_synced: now,
            options,
            condition,
            head,
            witness: opened.witness.take(),
            is_witness_dirty: false,
            testimony: opened.testimony,
            end: opened.end,
            capacity: capacity(&reader),
            written: opened.end,
            pending: Vec::new(),
            pending_at: opened.end,
            fresh: Vec::new(),
            n_events: 0,
            company: 0,
            answered: now,
            sync_took: Duration::ZERO,
            sealing: None,
            sealed: Vec::new(),
            reader,
        }
    }

    /// Serves jobs until all who could send one are gone.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Some(first) = self.wait(jobs) {
            let begun = self.options.clock.now();
            if self.sync_took < begun.since(self.answered) {
                // Who was answered then does something else.
                self.company = 0;
            }
            let mut waiting: Vec<Waiting> = Vec::new();
            let mut permits = Vec::new();
            let mut next = Some(first);
            while let Some(job) = next {
                let result = self.carry_out(job.order);
                waiting.push((job.reply, result));
                permits.push(job.permit);
                let taken_for = self.options.clock.now().since(begun);
                let is_full = self.is_full(taken_for);
                next = if is_full { None } else { self.next(jobs, waiting.len(), taken_for) };
            }
            self.settle(waiting, begun);
        }
        self.sync_witness();
        self.await_sealing();
    }

    /// Takes another job into a group of so many that was begun so long ago.
    ///
    /// Those who were just answered often append again at once. To wait for them, at most for as
    /// long as a sync takes, costs less than the sync that they would wait for otherwise.
    fn next(&self, jobs: &Receiver<Job>, n_taken: usize, taken_for: Duration) -> Option<Job> {
        let waiting = jobs.try_recv().ok();
        let patience = self.sync_took.min(self.options.latency_budget).saturating_sub(taken_for);
        if waiting.is_some() || self.company <= n_taken || patience.is_zero() {
            return waiting;
        }
        jobs.recv_timeout(patience).ok()
    }

    /// Returns whether a group that was begun so long ago takes no more.
    fn is_full(&self, taken_for: Duration) -> bool {
        GROUP_BYTES <= self.pending.len() || self.options.latency_budget <= taken_for
    }

    /// Waits for a job; syncs the witness when nothing is to be done.
    fn wait(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        if self.is_witness_dirty {
            match jobs.recv_timeout(self.options.witness_interval.max(Duration::from_millis(1))) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Timeout) => self.sync_witness(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        jobs.recv().ok()
    }

    fn carry_out(&mut self, order: Order) -> Result<Appended> {
        if let Some(poison) = &self.condition.lock().poisoned {
            return Err(poison.clone());
        }
        match order {
            Order::Append { append, correlation, trace, headers } => {
                self.append(append, (correlation, trace), &headers)
            }
            Order::Truncate { stream, before } => {
                self.reader.catalogue.read().index.judge_truncate(&stream, before)?;
                self.take(&Commit::Truncate { stream, before })?;
                Ok(self.done())
            }
            Order::Tombstone { stream, expected } => {
                self.reader.catalogue.read().index.judge_tombstone(&stream, expected)?;
                self.take(&Commit::Tombstone { stream })?;
                Ok(self.done())
            }
            Order::Probe => {
                let is_full = self.condition.lock().full.is_some();
                if is_full { self.roll(0) } else { Ok(()) }.map(|()| self.done())
            }
        }
    }

    fn done(&self) -> Appended {
        let position = self.reader.catalogue.read().index.head();
        Appended { position, versions: Vec::new(), is_duplicate: false }
    }

    fn append(
        &mut self,
        append: Append,
        (correlation, trace): (Option<CorrelationId>, Option<TraceContext>),
        headers: &Metadata,
    ) -> Result<Appended> {
        let (plan, mut position) = {
            let catalogue = self.reader.catalogue.read();
            (catalogue.index.judge(&append, &*catalogue)?, catalogue.index.head())
        };
        let first = match plan {
            Plan::Write(first) => first,
            Plan::Compare { same, versions, position } => {
                self.compare(&append, &same)?;
                return Ok(Appended { position, versions, is_duplicate: true });
            }
        };
        let recorded = self.options.clock.wall();
        let mut versions = Vec::with_capacity(first.len());
        let n_events = append.streams.iter().map(|part| part.events.len()).sum();
        let mut events = Vec::with_capacity(n_events);
        for (part, mut version) in append.streams.into_iter().zip(first) {
            for event in part.events {
                position = position.next();
                let stream = part.stream.clone();
                events.push(RecordedEvent {
                    position,
                    stream,
                    version,
                    event,
                    recorded,
                    correlation,
                    trace,
                    headers: headers.clone(),
                });
                version = version.next();
            }
            versions.push(version.previous());
        }
        if events.is_empty() && append.fence.is_none() {
            return Ok(Appended { position, versions, is_duplicate: false });
        }
        let commit = Commit::Append { events, fence: append.fence };
        let place = self.take(&commit)?;
        let Commit::Append { events, .. } = commit else { return Ok(self.done()) };
        if let Some(event) = events.first() {
            self.n_events += events.len() as u64;
            self.fresh.push((FrameAt { first: event.position, ..place }, events));
        }
        Ok(Appended { position, versions, is_duplicate: false })
    }

    /// Takes a commit into the group and the catalogue.
    fn take(&mut self, commit: &Commit) -> Result<FrameAt> {
        let (place, checksum) = self.stage(commit)?;
        self.reader.catalogue.write().apply(place, checksum, &Effect::of(commit));
        Ok(place)
    }

    /// Holds repeated events against those that are stored.
    fn compare(&self, append: &Append, same: &[(usize, usize, Position)]) -> Result<()> {
        for (part, event, position) in same {
            let part = append.streams.get(*part);
            let Some(offered) = part.and_then(|part| part.events.get(*event)) else { continue };
            if !is_same(&self.stored(*position)?, offered) {
                return Err(reused(offered.id));
            }
        }
        Ok(())
    }

    fn stored(&self, position: Position) -> Result<NewEvent> {
        let mut fresh = self.fresh.iter().flat_map(|(_, events)| events);
        match fresh.find(|event| event.position == position) {
            Some(event) => Ok(event.event.clone()),
            None => self.reader.event(position).map(|event| event.event),
        }
    }

    /// Puts a commit's frame behind the group's others, and makes room for it first; returns its
    /// place and its checksum.
    fn stage(&mut self, commit: &Commit) -> Result<(FrameAt, u32)> {
        let begin = self.pending.len();
        let checksum = frame::encode(commit, &mut self.pending);
        let frame_length = self.pending.len() - begin;
        let length = frame_length as u64;
        if self.capacity < self.end + length {
            // It belongs to the next segment; what was before it is written to this one.
            let frame = self.pending.split_off(begin);
            self.roll(length)?;
            self.pending = frame;
        }
        let segment = self.reader.segments.read().len().saturating_sub(1);
        let place = FrameAt {
            first: Position::ZERO,
            segment: u32::try_from(segment).unwrap_or(u32::MAX),
            offset: self.end,
            length: u32::try_from(frame_length - frame::HEADER).unwrap_or(u32::MAX),
        };
        self.end += length;
        let mark = self.mark().then(checksum);
        (self.testimony.frames, self.testimony.digest) = (mark.frames, mark.digest);
        Ok((place, checksum))
    }

    const fn mark(&self) -> Mark {
        Mark { frames: self.testimony.frames, digest: self.testimony.digest }
    }

    /// Begins a new segment with room for a frame of `length` bytes.
    ///
    /// A disk that is full is found here, before anything of the append was written, so the append
    /// fails as a whole and the log stays sound.
    fn roll(&mut self, length: u64) -> Result<()> {
        self.flush().map_err(|cause| self.poison(cause))?;
        let first = self.reader.catalogue.read().index.head().next();
        let length = self.options.segment.max(segment::HEADER + length);
        match self.make_room(first, length) {
            Ok(()) => {
                self.condition.lock().full = None;
                Ok(())
            }
            Err(cause) => {
                self.condition.lock().full = Some(cause.to_string());
                Err(Error::new(ErrorKind::Unavailable, "append to stream")
                    .detail("no room for a new segment; nothing was written")
                    .because(cause))
            }
        }
    }

    fn make_room(&mut self, first: Position, length: u64) -> io::Result<()> {
        let last = self.reader.segments.read().last().cloned();
        if let Some(last) = last.as_ref().filter(|last| last.first == first) {
            // It holds no event yet, so the next one would have its name: it grows instead.
            last.file.allocate(self.end + length).and_then(|()| last.file.sync())?;
            self.capacity = self.end + length;
            return Ok(());
        }
        let disk = self.options.disk.as_ref();
        let segment = segment::create(disk, &self.options.folder, first, length)?;
        self.reader.segments.write().push(segment);
        if let Some(full) = last {
            self.seal(full);
        }
        self.reader.catalogue.write().begin(self.mark());
        (self.end, self.capacity) = (segment::HEADER, length);
        (self.pending_at, self.written) = (segment::HEADER, segment::HEADER);
        Ok(())
    }

    /// Writes the index of a full segment, in a thread of its own: no append waits for it, unless
    /// the next segment is full before.
    fn seal(&mut self, segment: Segment) {
        self.await_sealing();
        let Some(full) = self.reader.catalogue.read().last().map(Arc::clone) else { return };
        let number = self.reader.segments.read().len().saturating_sub(2);
        let place = Place {
            disk: Arc::clone(&self.options.disk),
            folder: self.options.folder.clone(),
            segment,
            number: u32::try_from(number).unwrap_or(u32::MAX),
            writes: true,
        };
        let sealing = std::thread::Builder::new().name("event-log-index".to_owned());
        // Without a thread there is no index, and the next opening makes it.
        self.sealing = sealing.spawn(move || SegmentIndex::write(place, &full)).ok();
    }

    fn await_sealing(&mut self) {
        if let Some(sealing) = self.sealing.take() {
            self.sealed.extend(sealing.join().ok().flatten());
        }
    }

    /// Lets sealed segments be known by their indexes, once all of them was shown to readers.
    fn settle_sealed(&mut self) {
        if self.sealing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.await_sealing();
        }
        for index in self.sealed.drain(..) {
            // What was known of it in memory is freed when nobody waits for the catalogue.
            let _known = self.reader.catalogue.write().settle(index);
        }
    }

    /// Writes and syncs what is pending.
    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let segment = self.reader.segments.read().last().cloned();
        let segment = segment.ok_or_else(|| io::Error::other("the log has no segment"))?;
        segment.file.write_at(&self.pending, self.pending_at)?;
        self.write_ahead(segment.file.as_ref())?;
        segment.file.sync()?;
        self.pending.clear();
        self.pending_at = self.end;
        self.testimony.turn += 1;
        self.testimony.segment = segment.first.get();
        self.testimony.end = self.end;
        if let Some(witness) = &self.witness {
            witness.write(&self.testimony)?;
            self.is_witness_dirty = true;
        }
        Ok(())
    }

    /// Writes zeros behind a small group that went beyond what was written before.
    fn write_ahead(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        if self.end <= self.written || LARGE <= self.pending.len() {
            return Ok(());
        }
        let reserved = self.capacity.saturating_sub(self.end);
        let length = usize::try_from(reserved).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_at(ZEROS.get(..length).unwrap_or_default(), self.end)?;
        self.written = self.end + length as u64;
        Ok(())
    }

    /// Flushes the group; one that failed before is never tried again, for after a failed sync
    /// nothing is known of what the disk has (Rebello et al., Can Applications Recover from fsync
    /// Failures?, 2020).
    fn commit(&mut self) -> Result<()> {
        if self.condition.lock().poisoned.is_some() && !self.pending.is_empty() {
            return Err(fate_unknown());
        }
        self.flush().map_err(|cause| self.poison(cause))
    }

    fn poison(&self, cause: io::Error) -> Error {
        tracing::error!(error = &cause as &dyn std::error::Error, "the event log is poisoned");
        POISONED.set(1.0);
        let cause = Arc::new(cause);
        let later = Error::new(ErrorKind::Poisoned, "append to stream")
            .detail("an earlier write failed; reopen the log")
            .because(Arc::clone(&cause));
        self.condition.lock().poisoned = Some(later);
        fate_unknown().because(cause)
    }

    /// Makes the group durable, shows it to readers, and answers everybody.
    fn settle(&mut self, waiting: Vec<Waiting>, begun: Instant) {
        let taken = self.options.clock.now();
        let failed = self.commit().err();
        let n_waiting = waiting.len();
        self.company = n_waiting;
        self.sync_took = self.options.clock.now().since(taken);
        if failed.is_none() {
            self.publish();
        }
        self.fresh.clear();
        for (reply, result) in waiting {
            let result = match (&failed, result) {
                (Some(error), Ok(_)) => Err(error.clone()),
                (_, result) => result,
            };
            APPENDS.add_for(telemetry::outcome(&result), 1);
            // Who has gone does not hear it; what was written stays written.
            let _heard = reply.send(result).is_ok();
        }
        self.reader.forget();
        if failed.is_none() {
            self.settle_sealed();
        }
        let now = self.options.clock.now();
        self.answered = now;
        COMMIT.record(now.since(begun).as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a group is far below 2^53")]
        GROUP.record(n_waiting as f64);
        if self.options.witness_interval <= now.since(self.witness_synced) {
            self.sync_witness();
        }
    }

    fn publish(&mut self) {
        let fresh = self.fresh.drain(..);
        self.reader.remember(fresh.map(|(place, events)| (place, Arc::new(events))));
        let head = self.reader.catalogue.read().index.head();
        self.head.send_if_modified(|visible| {
            let is_later = *visible < head;
            *visible = head;
            is_later
        });
        APPENDED.add(std::mem::take(&mut self.n_events));
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
        HEAD.set(head.get() as f64);
    }

    fn sync_witness(&mut self) {
        if let Some(witness) = self.witness.as_ref().filter(|_| self.is_witness_dirty) {
            if let Err(cause) = witness.sync() {
                tracing::warn!(error = &cause as &dyn std::error::Error, "witness not synced");
            }
            self.is_witness_dirty = false;
            self.witness_synced = self.options.clock.now();
        }
    }
}

/// Returns the bytes that are reserved for the last segment.
fn capacity(reader: &Reader) -> u64 {
    let segments = reader.segments.read();
    segments.last().and_then(|segment| segment.file.length().ok()).unwrap_or(0)
}

fn fate_unknown() -> Error {
    Error::new(ErrorKind::Indeterminate, "append to stream")
        .detail("the write or its sync failed")
        .idempotent()
}
