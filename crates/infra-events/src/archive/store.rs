//! The event store whose ended streams are archived.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Error, ErrorKind, Result,
    archive::ArchiveStore,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, RecordedEvent, StreamInfo,
        Subscription,
    },
    id::StreamName,
    version::{Expected, Position, Version},
};
use parking_lot::{Mutex, RwLock};

use super::{
    catalogue::{Catalogue, Recent},
    name::{self, Extent, Kind},
    segment,
};
use crate::{
    subscription::{self, Source},
    telemetry::ARCHIVED,
};

const ARCHIVE: &str = "archive stream";

/// How many events a segment has at most, and how many bytes of payload.
const SEGMENT_EVENTS: usize = 4_096;
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// How many decoded events of the archive stay in memory.
const RECENT: usize = 65_536;

/// How many names are listed at a time.
const LIST: usize = 1_000;

/// What was archived by one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Archived {
    /// Events that were moved.
    pub events: u64,
    /// Objects that hold them.
    pub segments: usize,
    /// Their bytes, compressed.
    pub bytes: u64,
}

/// An event store whose streams can be moved to an archive, and are read as before.
///
/// Event ids of archived events are forgotten, as those of truncated ones: appending one again
/// finds a stream at another version. Cheap to clone; clones share everything.
///
/// Truncate streams through it and never below it: then what is in no object is lost, and a read of its stream is
/// [`Corrupt`](ErrorKind::Corrupt), naming the versions. A page over all streams meets what is named only: an
/// object that was already missing when the store was opened leaves no trace there.
#[derive(Debug, Clone)]
pub struct ArchivedEventStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn EventStore>,
    archive: Arc<dyn ArchiveStore>,
    prefix: String,
    catalogue: RwLock<Catalogue>,
    recent: Mutex<Recent>,
}

impl ArchivedEventStore {
    /// Puts an archive behind a store; learns from the names below `prefix` what is archived.
    ///
    /// An archival, truncation or tombstone that was cut short is completed or can be repeated.
    ///
    /// # Errors
    ///
    /// What the stores fail with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the archive as it was, or nearer to its completion.
    pub async fn open(
        inner: Arc<dyn EventStore>,
        archive: Arc<dyn ArchiveStore>,
        prefix: impl Into<String>,
    ) -> Result<Self> {
        let prefix = prefix.into();
        let (catalogue, recent) = (RwLock::default(), Mutex::new(Recent::new(RECENT)));
        let store = Self(Arc::new(Shared { inner, archive, prefix, catalogue, recent }));
        store.0.learn(&store.0.prefix).await?;
        let streams = store.0.catalogue.read().streams();
        for stream in streams {
            if store.0.inner.stream_info(&stream).await?.is_none() {
                store.0.forget(&stream).await?;
            }
        }
        Ok(store)
    }

    /// Moves the events of a stream to the archive.
    ///
    /// Each object is read back and compared before anything is removed from the store below.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is no such stream,
    /// [`Corrupt`](ErrorKind::Corrupt) if the archive does not give back what it was given, and
    /// what the stores fail with. Whatever happens, every event can be read on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some events in both places; it may be repeated.
    #[tracing::instrument(level = "debug", skip_all, fields(%stream))]
    pub async fn archive(&self, stream: &StreamName) -> Result<Archived> {
        let shared = &self.0;
        let mut archived = Archived::default();
        let info = shared.inner.stream_info(stream).await?;
        let info = info
            .ok_or_else(|| Error::new(ErrorKind::NotFound, ARCHIVE).detail(stream.to_string()))?;
        let mut from = info.first;
        while from <= info.last {
            let events = shared.cut(stream, from, info.last).await?;
            let (Some(first), Some(last)) = (events.first(), events.last()) else { break };
            let (next, to) = (last.version.next(), last.position);
            let extent =
                Extent { first: first.version, last: last.version, from: first.position, to };
            archived.bytes += shared.keep(stream, extent, &events).await?;
            archived.segments += 1;
            archived.events += events.len() as u64;
            from = next;
        }
        shared.inner.truncate_before(stream, from).await?;
        ARCHIVED.add(archived.events);
        Ok(archived)
    }

    /// Returns whether all events of a stream are in the archive.
    ///
    /// # Errors
    ///
    /// What the store below fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn is_archived(&self, stream: &StreamName) -> Result<bool> {
        let info = self.0.inner.stream_info(stream).await?;
        let is_empty = info.is_some_and(|info| info.last < info.first);
        Ok(is_empty && self.0.catalogue.read().range(stream).is_some())
    }
}

impl Shared {
    /// Reads as many events as fit one segment.
    async fn cut(
        &self,
        stream: &StreamName,
        from: Version,
        last: Version,
    ) -> Result<Vec<RecordedEvent>> {
        let left = usize::try_from(last.get() - from.get() + 1).unwrap_or(usize::MAX);
        let limit = left.min(SEGMENT_EVENTS);
        let mut events = self.inner.read_stream(stream, from, Direction::Forward, limit).await?;
        let mut bytes = 0;
        let fitting = events.iter().take_while(|event| {
            bytes += event.event.payload.body.len();
            bytes <= SEGMENT_BYTES
        });
        // One event fits in any case.
        let fitting = fitting.count().max(1);
        events.truncate(fitting);
        Ok(events)
    }

    /// Writes a segment, reads it back, and tells readers of it.
    async fn keep(
        &self,
        stream: &StreamName,
        extent: Extent,
        events: &[RecordedEvent],
    ) -> Result<u64> {
        let kind = Kind::Segment(extent);
        let name = name::object(&self.prefix, stream, kind);
        let object = segment::encode(events)?;
        let length = object.len() as u64;
        match self.archive.create(&name, object).await {
            // It is there from an attempt that was cut short; whether it is right is seen below.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {}
            created => created?,
        }
        if self.read(&name).await?.as_slice() != events {
            let detail = format!("{name} is not what was written; the stream is left as it is");
            return Err(Error::new(ErrorKind::Corrupt, ARCHIVE).detail(detail));
        }
        self.catalogue.write().add(stream, kind);
        Ok(length)
    }

    async fn read(&self, name: &str) -> Result<Vec<RecordedEvent>> {
        let object = self.archive.get(name).await?.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "read archived segment")
                .detail(format!("{name} is missing"))
        })?;
        segment::decode(name, &object)
    }

    async fn segment(
        &self,
        stream: &StreamName,
        extent: Extent,
    ) -> Result<Arc<Vec<RecordedEvent>>> {
        let name = name::object(&self.prefix, stream, Kind::Segment(extent));
        if let Some(segment) = self.recent.lock().get(&name) {
            return Ok(segment);
        }
        let segment = Arc::new(self.read(&name).await?);
        self.recent.lock().put(name, &segment);
        Ok(segment)
    }

    /// Learns from the names below a folder what is archived or gone for good.
    async fn learn(&self, folder: &str) -> Result<()> {
        let mut after = String::new();
        loop {
            let names = self.archive.list(folder, &after, LIST).await?;
            for object in &names {
                if let Some((stream, kind)) = name::parse(&self.prefix, &object.name) {
                    self.catalogue.write().add(&stream, kind);
                }
            }
            match names.last() {
                Some(last) if LIST <= names.len() => after.clone_from(&last.name),
                _ => return Ok(()),
            }
        }
    }

    /// Refuses a read that comes to versions which are nowhere, though nobody has truncated them.
    async fn check_hole(
        &self,
        stream: &StreamName,
        first: Version,
        (from, direction): (Version, Direction),
    ) -> Result<()> {
        let hole = || {
            let hole = self.catalogue.read().hole(stream, first);
            hole.filter(|(lost_from, lost_to)| match direction {
                Direction::Forward => from <= *lost_to,
                Direction::Backward => *lost_from <= from,
            })
        };
        if hole().is_none() {
            return Ok(());
        }
        // Another process may have moved or truncated them since.
        let folder = name::folder(&self.prefix, stream);
        self.learn(&folder).await?;
        let Some((lost_from, lost_to)) = hole() else { return Ok(()) };
        Err(Error::new(ErrorKind::Corrupt, "read archived segment").detail(format!(
            "events {lost_from} to {lost_to} of {stream} are in no object of {folder}/"
        )))
    }

    /// Removes everything of a stream from the archive.
    async fn forget(&self, stream: &StreamName) -> Result<()> {
        let kinds = self.catalogue.write().remove(stream);
        for kind in kinds {
            self.archive.delete(&name::object(&self.prefix, stream, kind)).await?;
        }
        Ok(())
    }

    /// Returns the archived events of a stream from a version on, in the order of reading.
    async fn archived(
        &self,
        stream: &StreamName,
        (from, direction): (Version, Direction),
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        let (mut extents, before) = {
            let catalogue = self.catalogue.read();
            (catalogue.of_stream(stream), catalogue.before(stream))
        };
        match direction {
            Direction::Forward => extents.retain(|extent| from.max(before) <= extent.last),
            Direction::Backward => {
                extents.retain(|extent| extent.first <= from && before <= extent.last);
                extents.reverse();
            }
        }
        let fits = |version: Version| match direction {
            Direction::Forward => from <= version && before <= version,
            Direction::Backward => version <= from && before <= version,
        };
        let mut events = Vec::new();
        for extent in extents {
            if limit <= events.len() {
                break;
            }
            let segment = self.segment(stream, extent).await?;
            let fitting = segment.iter().filter(|event| fits(event.version)).cloned();
            match direction {
                Direction::Forward => events.extend(fitting),
                Direction::Backward => events.extend(fitting.rev()),
            }
        }
        Ok(events)
    }
}

/// Returns whether a read of the store below has all that was asked for, wherever the stream begins.
fn is_whole(
    events: &[RecordedEvent],
    (from, direction): (Version, Direction),
    limit: usize,
) -> bool {
    match direction {
        Direction::Forward => {
            events.first().is_some_and(|first| first.version <= from.max(Version::new(1)))
        }
        Direction::Backward => {
            limit <= events.len()
                || events.last().is_some_and(|last| last.version == Version::new(1))
        }
    }
}

#[async_trait]
impl Source for ArchivedEventStore {
    async fn page(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        self.read_all(after, filter, limit).await
    }

    async fn changed(&self, after: Position) -> bool {
        loop {
            match self.0.inner.wait_for(after.next(), Duration::from_mins(1)).await {
                Ok(()) => return true,
                Err(error) if *error.kind() == ErrorKind::Closed => return false,
                Err(error) if *error.kind() == ErrorKind::Timeout => {}
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

#[async_trait]
impl EventStore for ArchivedEventStore {
    async fn append(&self, append: Append) -> Result<Appended> {
        self.0.inner.append(append).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        // The store first: what is moved meanwhile is in the catalogue before it is removed.
        let mut events = self.0.inner.read_stream(stream, from, direction, limit).await?;
        let is_archived = self.0.catalogue.read().range(stream).is_some();
        if !is_archived && is_whole(&events, (from, direction), limit) {
            return Ok(events);
        }
        let Some(info) = self.0.inner.stream_info(stream).await? else { return Ok(Vec::new()) };
        self.0.check_hole(stream, info.first, (from, direction)).await?;
        events.extend(self.0.archived(stream, (from, direction), limit).await?);
        events.sort_by_key(|event| event.version);
        events.dedup_by_key(|event| event.version);
        if direction == Direction::Backward {
            events.reverse();
        }
        events.truncate(limit);
        Ok(events)
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        let mut page = self.0.inner.read_all(after, filter, limit).await?;
        let fits = |stream: &StreamName| {
            let prefix = filter.stream_prefix.as_deref().unwrap_or_default();
            stream.as_str().starts_with(prefix)
        };
        let segments = self.0.catalogue.read().between(after, page.read_to, fits);
        for (stream, extent) in segments {
            let segment = self.0.segment(&stream, extent).await?;
            let catalogue = self.0.catalogue.read();
            let within = segment.iter().filter(|event| {
                after < event.position
                    && event.position <= page.read_to
                    && filter.admits(event)
                    && catalogue.is_readable(event)
            });
            page.events.extend(within.cloned());
        }
        page.events.sort_by_key(|event| event.position);
        page.events.dedup_by_key(|event| event.position);
        if limit < page.events.len() {
            page.events.truncate(limit);
            page.read_to = page.events.last().map_or(after, |event| event.position);
            page.is_end = false;
        }
        Ok(page)
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        Ok(subscription::start(Arc::new(self.clone()), after, filter))
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        let mut info = self.0.inner.stream_info(stream).await?;
        if let Some(info) = &mut info {
            let archived = self.0.catalogue.read().range(stream);
            info.first = archived.map_or(info.first, |(first, _)| first.min(info.first));
        }
        Ok(info)
    }

    async fn stable_head(&self) -> Result<Position> {
        self.0.inner.stable_head().await
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        self.0.inner.wait_for(position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        let shared = &self.0;
        let last = shared.inner.stream_info(stream).await?.map(|info| info.last);
        if last.is_none_or(|last| last.next() < before) {
            // It is refused, and the archive stays as it is.
            return shared.inner.truncate_before(stream, before).await;
        }
        let known = shared.catalogue.read().before(stream);
        if known < before {
            // First, so that what is gone is never taken for what the archive has lost.
            let kind = Kind::Before(before);
            let marker = name::object(&shared.prefix, stream, kind);
            shared.archive.replace(&marker, bytes::Bytes::from_static(b"truncated")).await?;
            shared.catalogue.write().add(stream, kind);
        }
        shared.inner.truncate_before(stream, before).await?;
        let gone = shared.catalogue.write().prune(stream);
        let mut gone: Vec<Kind> = gone.into_iter().map(Kind::Segment).collect();
        gone.extend((Version::ZERO < known && known < before).then_some(Kind::Before(known)));
        for kind in gone {
            shared.archive.delete(&name::object(&shared.prefix, stream, kind)).await?;
        }
        Ok(())
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        self.0.inner.tombstone(stream, expected).await?;
        self.0.forget(stream).await
    }
}
