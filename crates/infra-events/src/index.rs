//! What a store must know of every stream to judge an append, as a pure structure.
//!
//! Both stores use it: the log rebuilds it from its frames. It knows where each stream begins and
//! ends, and fences, but no events: where those are is asked of [`Places`].

use std::ops::RangeInclusive;

use foldhash::fast::RandomState;
use infra_core::{
    Error, ErrorKind, Result,
    event::{Append, Direction, MAX_EVENTS, MAX_PAYLOAD, StreamAppend, StreamInfo},
    id::{EventId, Scope, StreamName},
    lease::Fence,
    version::{Expected, FencingToken, Position, Version},
};

use crate::memtable::Memtable;

const APPEND: &str = "append to stream";

/// The most facts beside one payload, and the longest name or value of one in bytes.
const MAX_FACTS: usize = 64;
const MAX_FACT: usize = 4_096;

/// A map whose hash is cheap and seeded for each map: names and ids come from clients.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// The versions of a stream in one segment: those behind `base`, up to the next extent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) base: Version,
    pub(crate) segment: u32,
    /// The stream's number in the segment.
    pub(crate) stream: u32,
}

/// An event that has an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) version: Version,
    pub(crate) position: Position,
}

/// Where the events of all streams are.
pub(crate) trait Places {
    /// Returns the event of an extent that has an id.
    fn find(&self, extent: Extent, id: EventId) -> Result<Option<Found>>;

    /// Counts the events of an extent that are not beyond `head`; `None` if none is.
    fn count_up_to(&self, extent: Extent, head: Position) -> Option<u64>;
}

/// One stream.
#[derive(Debug, Clone, Default)]
struct Stream {
    incarnation: Option<EventId>,
    /// Events below this version are truncated.
    first: Version,
    last: Version,
    is_tombstoned: bool,
    /// In the order of their versions; those that are truncated as a whole may be gone.
    extents: Vec<Extent>,
}

impl Stream {
    /// The last version whose position is not beyond `head`.
    fn last_up_to(&self, head: Position, places: &impl Places) -> Version {
        let mut last = self.last;
        for extent in self.extents.iter().rev() {
            match places.count_up_to(*extent, head) {
                None => return last,
                Some(0) => last = extent.base,
                Some(seen) => return Version::new(extent.base.get() + seen),
            }
        }
        last
    }

    /// Returns the event that has an id, unless it is truncated.
    fn find(&self, id: EventId, places: &impl Places) -> Result<Option<Found>> {
        for extent in self.extents.iter().rev() {
            if let Some(found) = places.find(*extent, id)? {
                return Ok(Some(found).filter(|found| self.first <= found.version));
            }
        }
        Ok(None)
    }

    /// Hides the events below `before`, and forgets extents that have no other.
    fn truncate(&mut self, before: Version) {
        self.first = self.first.max(before);
        let next = self.extents.iter().skip(1);
        let hidden = next.take_while(|next| next.base < self.first).count();
        self.extents.drain(..hidden);
        self.extents.shrink_to_fit();
    }

    fn end(&mut self) {
        self.is_tombstoned = true;
        self.extents = Vec::new();
    }
}

/// What a fitting append would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Write the events: the first version of each part.
    Write(Vec<Version>),
    /// All events are there: each has this position, to be compared by the store.
    Compare {
        /// Stream part, event of the part, and the position at which its id is.
        same: Vec<(usize, usize, Position)>,
        /// The version of each part after its events.
        versions: Vec<Version>,
        /// The position of the last of them.
        position: Position,
    },
}

/// What one segment did to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: StreamName,
    /// The version before the first of its events.
    pub(crate) base: Version,
    pub(crate) count: u64,
    /// The id of the first of them.
    pub(crate) first: Option<EventId>,
    /// Events below this version were truncated.
    pub(crate) truncated: Version,
    pub(crate) is_tombstoned: bool,
}

/// The state of all streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    streams: HashMap<StreamName, Stream>,
    fences: HashMap<Scope, FencingToken>,
    head: Position,
}

impl Index {
    /// Returns the last position that was given out.
    pub(crate) const fn head(&self) -> Position {
        self.head
    }

    /// Judges an append whose shape was checked, without changing anything.
    pub(crate) fn judge(&self, append: &Append, places: &impl Places) -> Result<Plan> {
        if let Some(fence) = &append.fence {
            self.check_fence(fence)?;
        }
        if let Some(plan) = self.repeated(append, places)? {
            return Ok(plan);
        }
        let mut firsts = Vec::with_capacity(append.streams.len());
        for part in &append.streams {
            let stream = self.streams.get(&part.stream);
            if stream.is_some_and(|stream| stream.is_tombstoned) {
                let gone = format!("stream {} is tombstoned", part.stream);
                return Err(Error::new(ErrorKind::Denied, APPEND).detail(gone));
            }
            let actual = stream.map_or(Version::ZERO, |stream| stream.last);
            if !part.expected.admits(actual) {
                return Err(Error::conflict(APPEND, part.expected, actual)
                    .detail(format!("stream {}", part.stream)));
            }
            firsts.push(actual.next());
        }
        Ok(Plan::Write(firsts))
    }

    fn check_fence(&self, fence: &Fence) -> Result<()> {
        let highest = self.fences.get(&fence.scope).copied().unwrap_or_default();
        if fence.token < highest {
            let detail = format!("scope {}: token {} is below {highest}", fence.scope, fence.token);
            return Err(Error::new(ErrorKind::Fenced, APPEND).detail(detail));
        }
        Ok(())
    }

    /// Returns a comparison if every event of the append is in its stream already.
    fn repeated(&self, append: &Append, places: &impl Places) -> Result<Option<Plan>> {
        let mut same = Vec::new();
        let mut versions = Vec::with_capacity(append.streams.len());
        let mut position = Position::ZERO;
        let mut n_events = 0;
        for (part_idx, part) in append.streams.iter().enumerate() {
            n_events += part.events.len();
            let Some(stream) = self.streams.get(&part.stream) else {
                versions.push(Version::ZERO);
                continue;
            };
            let mut last = stream.last;
            for (event_idx, event) in part.events.iter().enumerate() {
                let Some(found) = stream.find(event.id, places)? else { continue };
                same.push((part_idx, event_idx, found.position));
                position = position.max(found.position);
                last = found.version;
            }
            versions.push(last);
        }
        match same.len() {
            0 => Ok(None),
            found if found == n_events => Ok(Some(Plan::Compare { same, versions, position })),
            found => {
                let detail = format!("{found} of {n_events} event ids are in the stream already");
                Err(Error::invalid(APPEND, detail))
            }
        }
    }

    /// Takes the events of a fitting append, or of one that is read back, into a segment's table.
    pub(crate) fn apply(
        &mut self,
        parts: &[(StreamName, Vec<EventId>)],
        fence: Option<&Fence>,
        (segment, table): (u32, &mut Memtable),
    ) {
        for (name, ids) in parts {
            let Some(first) = ids.first() else { continue };
            let stream = self.streams.entry(name.clone()).or_default();
            stream.incarnation.get_or_insert(*first);
            stream.first = stream.first.max(Version::new(1));
            let known = stream.extents.last().filter(|extent| extent.segment == segment);
            let number = if let Some(extent) = known {
                extent.stream
            } else {
                let number = table.begin(name.clone(), stream.last);
                stream.extents.push(Extent { base: stream.last, segment, stream: number });
                number
            };
            for id in ids {
                self.head = self.head.next();
                stream.last = stream.last.next();
                table.push(number, *id, self.head);
            }
        }
        if let Some(fence) = fence {
            self.fence(fence);
        }
    }

    /// Takes what a sealed segment did to the stream that has this number in it.
    pub(crate) fn take(&mut self, change: Change, segment: u32, number: u32) {
        let stream = self.streams.entry(change.name).or_default();
        if 0 < change.count {
            stream.incarnation = stream.incarnation.or(change.first);
            stream.first = stream.first.max(Version::new(1));
            stream.last = Version::new(change.base.get() + change.count);
            stream.extents.push(Extent { base: change.base, segment, stream: number });
            self.head = Position::new(self.head.get() + change.count);
        }
        if Version::ZERO < change.truncated {
            stream.truncate(change.truncated);
        }
        if change.is_tombstoned {
            stream.end();
        }
    }

    /// Takes a token that an append was fenced by.
    pub(crate) fn fence(&mut self, fence: &Fence) {
        let highest = self.fences.entry(fence.scope.clone()).or_default();
        *highest = (*highest).max(fence.token);
    }

    /// Returns the versions to read, none of them beyond `head`; the last ones if backward.
    pub(crate) fn span(
        &self,
        stream: &StreamName,
        (from, direction): (Version, Direction),
        (head, places): (Position, &impl Places),
        limit: usize,
    ) -> Option<RangeInclusive<Version>> {
        let stream = self.streams.get(stream).filter(|stream| !stream.is_tombstoned)?;
        let last = stream.last_up_to(head, places);
        let beyond = (limit as u64).checked_sub(1)?;
        let (low, high) = match direction {
            Direction::Forward => {
                let low = from.max(stream.first).max(Version::new(1));
                (low, last.min(Version::new(low.get().saturating_add(beyond))))
            }
            Direction::Backward => {
                let high = from.min(last);
                let low = Version::new(high.get().saturating_sub(beyond));
                (low.max(stream.first).max(Version::new(1)), high)
            }
        };
        (low <= high).then_some(low..=high)
    }

    /// Returns the extents that have a stream's versions, each with those that it has.
    pub(crate) fn extents(
        &self,
        stream: &StreamName,
        versions: &RangeInclusive<Version>,
    ) -> Vec<(Extent, RangeInclusive<Version>)> {
        let extents = self.streams.get(stream).map_or(&[][..], |stream| &stream.extents);
        let after = extents.partition_point(|extent| extent.base < *versions.start());
        let rest = extents.get(after.saturating_sub(1)..).unwrap_or_default();
        let ends = rest.iter().skip(1).map(|next| next.base).chain([Version::MAX]);
        rest.iter()
            .zip(ends)
            .map(|(extent, end)| {
                let low = extent.base.next().max(*versions.start());
                (*extent, low..=end.min(*versions.end()))
            })
            .take_while(|(_, versions)| !versions.is_empty())
            .collect()
    }

    /// Returns whether an event can still be read.
    pub(crate) fn is_readable(&self, stream: &StreamName, version: Version) -> bool {
        let found = self.streams.get(stream);
        found.is_some_and(|found| !found.is_tombstoned && found.first <= version)
    }

    /// Returns what is known of a stream up to `head`.
    pub(crate) fn info(
        &self,
        stream: &StreamName,
        head: Position,
        places: &impl Places,
    ) -> Option<StreamInfo> {
        let stream = self.streams.get(stream).filter(|stream| !stream.is_tombstoned)?;
        let last = stream.last_up_to(head, places);
        let incarnation = stream.incarnation.filter(|_| last != Version::ZERO)?;
        Some(StreamInfo { incarnation, first: stream.first, last })
    }

    /// Judges a truncation.
    pub(crate) fn judge_truncate(&self, name: &StreamName, before: Version) -> Result<()> {
        const TRUNCATE: &str = "truncate stream";
        let stream = self.streams.get(name).filter(|stream| !stream.is_tombstoned);
        let Some(stream) = stream else {
            return Err(Error::new(ErrorKind::NotFound, TRUNCATE).detail(name.to_string()));
        };
        if stream.last.next() < before {
            let detail = format!("version {before} of {name}, which ends at {}", stream.last);
            return Err(Error::invalid(TRUNCATE, detail));
        }
        Ok(())
    }

    /// Hides the events below `before`, and forgets their ids.
    pub(crate) fn truncate(&mut self, name: &StreamName, before: Version) {
        if let Some(stream) = self.streams.get_mut(name) {
            stream.truncate(before);
        }
    }

    /// Judges a tombstone.
    pub(crate) fn judge_tombstone(&self, name: &StreamName, expected: Expected) -> Result<()> {
        const TOMBSTONE: &str = "tombstone stream";
        let stream = self.streams.get(name).filter(|stream| !stream.is_tombstoned);
        let Some(stream) = stream else {
            return Err(Error::new(ErrorKind::NotFound, TOMBSTONE).detail(name.to_string()));
        };
        if !expected.admits(stream.last) {
            return Err(Error::conflict(TOMBSTONE, expected, stream.last));
        }
        Ok(())
    }

    /// Ends a stream for good.
    pub(crate) fn tombstone(&mut self, name: &StreamName) {
        if let Some(stream) = self.streams.get_mut(name) {
            stream.end();
        }
    }
}

/// Refuses an append that no store could take, whatever it holds.
pub(crate) fn check_shape(append: &Append) -> Result<()> {
    let refuse = |detail: String| Err(Error::invalid(APPEND, detail));
    if append.streams.is_empty() {
        return refuse("no stream is named".to_owned());
    }
    if let Some(stream) = twice(append.streams.iter().map(|part| &part.stream)) {
        return refuse(format!("stream {stream} is named twice"));
    }
    let ids = append.streams.iter().flat_map(|part| &part.events).map(|event| event.id);
    let n_events = ids.clone().count();
    if MAX_EVENTS < n_events {
        return refuse(format!("{n_events} events, at most {MAX_EVENTS}"));
    }
    if let Some(id) = twice(ids) {
        return refuse(format!("event id {id} stands twice"));
    }
    for StreamAppend { stream: _, expected: _, events } in &append.streams {
        for event in events {
            let length = event.payload.body.len();
            if MAX_PAYLOAD < length {
                return refuse(format!("payload of {length} bytes, at most {MAX_PAYLOAD}"));
            }
            let is_long =
                |(name, value): (&String, &String)| MAX_FACT < name.len().max(value.len());
            if MAX_FACTS < event.metadata.len() || event.metadata.iter().any(is_long) {
                return refuse(format!("metadata beyond {MAX_FACTS} facts of {MAX_FACT} bytes"));
            }
        }
    }
    Ok(())
}

/// Returns something that stands twice.
fn twice<T: Ord>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = all.collect();
    if all.len() < 2 {
        return None;
    }
    all.sort_unstable();
    let place = all.array_windows().position(|[one, next]| one == next)?;
    Some(all.swap_remove(place))
}
