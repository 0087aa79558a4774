//! Reading: positions to frames, frames from memory or disk, every checksum checked.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    event::{Direction, EventPage, Filter, RecordedEvent},
    id::StreamName,
    version::{Position, Version},
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{
    catalogue::{Catalogue, FrameAt, Frames, Piece, missing},
    disk::read_full,
    frame::{self, Commit, Header},
    segment::Segment,
    segment_index::SegmentIndex,
};

/// The events of one frame.
pub(super) type Frame = Arc<Vec<RecordedEvent>>;

/// The latest frames, bounded by the bytes of their bodies.
#[derive(Debug)]
struct Recent {
    capacity: usize,
    bytes: usize,
    frames: VecDeque<(Position, usize, Frame)>,
}

impl Recent {
    fn push(&mut self, place: FrameAt, frame: Frame) {
        let bytes = usize::try_from(place.length).unwrap_or(usize::MAX);
        self.bytes += bytes;
        self.frames.push_back((place.first, bytes, frame));
    }

    /// Drops the oldest frames beyond the capacity.
    fn trim(&mut self) {
        while self.capacity < self.bytes {
            let Some((_, bytes, _)) = self.frames.pop_front() else { return };
            self.bytes -= bytes;
        }
    }

    fn get(&self, first: Position) -> Option<Frame> {
        let place = self.frames.binary_search_by_key(&first, |(first, _, _)| *first).ok()?;
        self.frames.get(place).map(|(_, _, frame)| Arc::clone(frame))
    }
}

/// The part of the log that readers and the writer share.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) catalogue: RwLock<Catalogue>,
    pub(super) segments: RwLock<Vec<Segment>>,
    pub(super) head: watch::Receiver<Position>,
    recent: Mutex<Recent>,
}

/// How many frames one call looks at, so that a filter that fits nothing still yields.
const FRAMES_PER_PAGE: usize = 1_024;

impl Reader {
    pub(super) fn new(
        catalogue: Catalogue,
        segments: Vec<Segment>,
        head: watch::Receiver<Position>,
        recent: usize,
    ) -> Self {
        let recent = Recent { capacity: recent, bytes: 0, frames: VecDeque::new() };
        Self {
            catalogue: RwLock::new(catalogue),
            segments: RwLock::new(segments),
            head,
            recent: Mutex::new(recent),
        }
    }

    /// Returns the last position that readers may see.
    pub(super) fn visible(&self) -> Position {
        *self.head.borrow()
    }

    /// Keeps frames that were just committed, until [`forget`](Self::forget) finds that they are old.
    pub(super) fn remember(&self, fresh: impl Iterator<Item = (FrameAt, Frame)>) {
        let mut recent = self.recent.lock();
        for (place, frame) in fresh {
            recent.push(place, frame);
        }
    }

    /// Drops the oldest frames beyond what is kept; nobody waits for the memory that they had.
    pub(super) fn forget(&self) {
        self.recent.lock().trim();
    }

    /// Reads events of a stream; blocks on the disk for what is not in memory.
    pub(super) fn stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        let visible = self.visible();
        let pieces = self.catalogue.read().pieces(stream, (from, direction), visible, limit);
        let mut places = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Known(known) => places.extend(known),
                Piece::OnDisk(index, stream, wanted) => {
                    places.extend(index.places(stream, wanted)?);
                }
            }
        }
        if direction == Direction::Backward {
            places.reverse();
        }
        let mut last: Option<(Position, Frame)> = None;
        let mut events = Vec::with_capacity(places.len());
        for (position, place) in places {
            let frame = match last.take() {
                Some((first, frame)) if first == place.first => frame,
                _ => self.frame(place)?,
            };
            events.push(pick(&frame, position)?);
            last = Some((place.first, frame));
        }
        Ok(events)
    }

    /// Reads events of all streams; blocks on the disk for what is not in memory.
    pub(super) fn all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        let places = self.places(after, SegmentIndex::frames)?;
        self.page((after, limit), filter, places, |place| self.frame(place))
    }

    /// Reads events of all streams without the disk; `None` if some of them are not in memory.
    pub(super) fn all_in_memory(
        &self,
        after: Position,
        filter: &Filter,
        limit: usize,
    ) -> Option<EventPage> {
        let places = self.places(after, |_, _, _| Err(())).ok()?;
        let in_memory = |place: FrameAt| self.recent.lock().get(place.first).ok_or(());
        self.page((after, limit), filter, places, in_memory).ok()
    }

    /// Returns the frames of one page; those of an index on the disk are asked of `on_disk`.
    fn places<E>(
        &self,
        after: Position,
        on_disk: impl Fn(&SegmentIndex, Position, usize) -> std::result::Result<Vec<FrameAt>, E>,
    ) -> std::result::Result<Vec<FrameAt>, E> {
        let (mut places, mut next) = (Vec::new(), after.next());
        while places.len() < FRAMES_PER_PAGE {
            let n_left = FRAMES_PER_PAGE - places.len();
            let found = self.catalogue.read().frames(next, n_left);
            let Some((frames, end)) = found else { break };
            match frames {
                Frames::Known(known) => places.extend(known),
                Frames::OnDisk(index) => places.extend(on_disk(&index, next, n_left)?),
            }
            next = end;
        }
        Ok(places)
    }

    fn page<E>(
        &self,
        (after, limit): (Position, usize),
        filter: &Filter,
        places: Vec<FrameAt>,
        frame: impl Fn(FrameAt) -> std::result::Result<Frame, E>,
    ) -> std::result::Result<EventPage, E> {
        let visible = self.visible();
        let mut page = EventPage { events: Vec::new(), read_to: after, is_end: false };
        if limit == 0 {
            page.is_end = visible <= after;
            return Ok(page);
        }
        // What lies beyond is staged, and may not be on the disk yet.
        for place in places.into_iter().take_while(|place| place.first <= visible) {
            for event in frame(place)?.iter() {
                if event.position <= after {
                    continue;
                }
                if visible < event.position {
                    page.is_end = true;
                    return Ok(page);
                }
                if limit <= page.events.len() {
                    return Ok(page);
                }
                page.read_to = event.position;
                let is_readable =
                    || self.catalogue.read().index.is_readable(&event.stream, event.version);
                if filter.admits(event) && is_readable() {
                    page.events.push(event.clone());
                }
            }
        }
        page.is_end = visible <= page.read_to;
        Ok(page)
    }

    /// Reads one event, whether it is visible yet or not.
    pub(super) fn event(&self, position: Position) -> Result<RecordedEvent> {
        let found = self.catalogue.read().frames(position, 1);
        let places = match found.ok_or_else(|| missing(position))?.0 {
            Frames::Known(known) => known,
            Frames::OnDisk(index) => index.frames(position, 1)?,
        };
        let place = places.first().ok_or_else(|| missing(position))?;
        pick(&self.frame(*place)?, position)
    }

    fn frame(&self, place: FrameAt) -> Result<Frame> {
        if let Some(frame) = self.recent.lock().get(place.first) {
            return Ok(frame);
        }
        let segment = usize::try_from(place.segment).unwrap_or(usize::MAX);
        let segment = self.segments.read().get(segment).cloned();
        let segment = segment.ok_or_else(|| missing(place.first))?;
        let damaged = |what: &str| {
            let name = segment.path.file_name().unwrap_or_default().to_string_lossy();
            Error::new(ErrorKind::Corrupt, "read event log")
                .detail(format!("{name} at byte {}: {what}", place.offset))
        };
        let length = frame::HEADER + usize::try_from(place.length).unwrap_or(usize::MAX);
        let bytes = read_full(segment.file.as_ref(), place.offset, length)
            .map_err(|cause| Error::new(ErrorKind::Unavailable, "read event log").because(cause))?;
        let Header::Frame { length: body_length, checksum } = frame::header(&bytes) else {
            return Err(damaged("the frame's header is damaged"));
        };
        let body = Bytes::from(bytes).split_off(frame::HEADER.min(length));
        if body.len() != body_length || crc32c::crc32c(&body) != checksum {
            return Err(damaged("the frame fails its checksum"));
        }
        match frame::decode(&body)? {
            Commit::Append { events, fence: _ } => Ok(Arc::new(events)),
            Commit::Truncate { .. } | Commit::Tombstone { .. } => {
                Err(damaged("another commit was expected"))
            }
        }
    }
}

fn pick(frame: &[RecordedEvent], position: Position) -> Result<RecordedEvent> {
    let first = frame.first().map_or(Position::ZERO, |event| event.position);
    let place = position.get().checked_sub(first.get());
    let found = place.and_then(|place| frame.get(usize::try_from(place).ok()?));
    found.filter(|event| event.position == position).cloned().ok_or_else(|| missing(position))
}
