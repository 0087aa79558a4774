//! What a store must know of every stream to judge an append, as a pure structure.
//!
//! Both stores use it: the log rebuilds it from its frames. It knows versions, positions, ids and
//! fences, but no payloads.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use infra_core::{
    Error, ErrorKind, Result,
    event::{Append, Direction, MAX_EVENTS, MAX_PAYLOAD, StreamAppend, StreamInfo},
    id::{EventId, Scope, StreamName},
    lease::Fence,
    version::{Expected, FencingToken, Position, Version},
};

const APPEND: &str = "append to stream";

/// The most facts beside one payload, and the longest name or value of one in bytes.
const MAX_FACTS: usize = 64;
const MAX_FACT: usize = 4_096;

/// A map whose hash is cheap and seeded for each map: names and ids come from clients.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// One stream.
#[derive(Debug, Clone, Default)]
struct Stream {
    incarnation: Option<EventId>,
    /// Events below this version are truncated.
    first: Version,
    /// The positions of versions `base + 1`, `base + 2`, ...
    base: u64,
    positions: Vec<Position>,
    ids: HashMap<EventId, Version>,
    is_tombstoned: bool,
}

impl Stream {
    fn last(&self) -> Version {
        Version::new(self.base + self.positions.len() as u64)
    }

    /// The last version whose position is not beyond `head`.
    fn last_up_to(&self, head: Position) -> Version {
        let seen = self.positions.partition_point(|position| *position <= head);
        Version::new(self.base + seen as u64)
    }
}

/// What a fitting append would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Write the events: the first version and position of each part.
    Write(Vec<Version>),
    /// All events are there: each has this stream and version, to be compared by the store.
    Compare {
        /// Stream part, event of the part, and the version at which its id is.
        same: Vec<(usize, usize, Version)>,
        /// The version of each part after its events.
        versions: Vec<Version>,
        /// The position of the last of them.
        position: Position,
    },
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
    pub(crate) fn judge(&self, append: &Append) -> Result<Plan> {
        if let Some(fence) = &append.fence {
            self.check_fence(fence)?;
        }
        if let Some(plan) = self.repeated(append)? {
            return Ok(plan);
        }
        let mut firsts = Vec::with_capacity(append.streams.len());
        for part in &append.streams {
            let stream = self.streams.get(&part.stream);
            if stream.is_some_and(|stream| stream.is_tombstoned) {
                let gone = format!("stream {} is tombstoned", part.stream);
                return Err(Error::new(ErrorKind::Denied, APPEND).detail(gone));
            }
            let actual = stream.map_or(Version::ZERO, Stream::last);
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
    fn repeated(&self, append: &Append) -> Result<Option<Plan>> {
        let is_known = |part: &StreamAppend| {
            let stream = self.streams.get(&part.stream);
            stream.is_some_and(|known| part.events.iter().any(|e| known.ids.contains_key(&e.id)))
        };
        if !append.streams.iter().any(is_known) {
            return Ok(None);
        }
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
            let mut last = stream.last();
            for (event_idx, event) in part.events.iter().enumerate() {
                let Some(version) = stream.ids.get(&event.id) else { continue };
                same.push((part_idx, event_idx, *version));
                position = position.max(self.position(&part.stream, *version).unwrap_or_default());
                last = *version;
            }
            versions.push(last);
        }
        let found = same.len();
        if found == n_events {
            return Ok(Some(Plan::Compare { same, versions, position }));
        }
        let detail = format!("{found} of {n_events} event ids are in the stream already");
        Err(Error::invalid(APPEND, detail))
    }

    /// Takes the events of a fitting append, or of one that is read back.
    pub(crate) fn apply(&mut self, parts: &[(StreamName, Vec<EventId>)], fence: Option<&Fence>) {
        for (name, ids) in parts {
            if ids.is_empty() {
                continue;
            }
            let stream = self.streams.entry(name.clone()).or_default();
            for id in ids {
                self.head = self.head.next();
                stream.positions.push(self.head);
                let version = Version::new(stream.base + stream.positions.len() as u64);
                stream.ids.insert(*id, version);
                stream.incarnation.get_or_insert(*id);
                stream.first = stream.first.max(Version::new(1));
            }
        }
        if let Some(fence) = fence {
            let highest = self.fences.entry(fence.scope.clone()).or_default();
            *highest = (*highest).max(fence.token);
        }
    }

    /// Returns the position of a version, unless it was truncated.
    pub(crate) fn position(&self, stream: &StreamName, version: Version) -> Option<Position> {
        let stream = self.streams.get(stream)?;
        let place = version.get().checked_sub(stream.base + 1)?;
        stream.positions.get(usize::try_from(place).ok()?).copied()
    }

    /// Returns the positions to read, in the order of `direction`, none beyond `head`.
    pub(crate) fn range(
        &self,
        stream: &StreamName,
        (from, direction): (Version, Direction),
        head: Position,
        limit: usize,
    ) -> Vec<Position> {
        let Some(stream) = self.streams.get(stream).filter(|stream| !stream.is_tombstoned) else {
            return Vec::new();
        };
        let last = stream.last_up_to(head);
        let at = |version: Version| {
            let place = version.get().saturating_sub(stream.base);
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            place.min(stream.positions.len())
        };
        let positions = match direction {
            Direction::Forward => {
                let first = from.max(stream.first).max(Version::new(1));
                if last < first {
                    return Vec::new();
                }
                stream.positions.get(at(first) - 1..at(last)).unwrap_or_default()
            }
            Direction::Backward => {
                let end = from.min(last);
                if end < stream.first || end == Version::ZERO {
                    return Vec::new();
                }
                stream.positions.get(at(stream.first) - 1..at(end)).unwrap_or_default()
            }
        };
        match direction {
            Direction::Forward => positions.iter().take(limit).copied().collect(),
            Direction::Backward => positions.iter().rev().take(limit).copied().collect(),
        }
    }

    /// Returns whether an event can still be read.
    pub(crate) fn is_readable(&self, stream: &StreamName, version: Version) -> bool {
        let found = self.streams.get(stream);
        found.is_some_and(|found| !found.is_tombstoned && found.first <= version)
    }

    /// Returns what is known of a stream up to `head`.
    pub(crate) fn info(&self, stream: &StreamName, head: Position) -> Option<StreamInfo> {
        let stream = self.streams.get(stream).filter(|stream| !stream.is_tombstoned)?;
        let last = stream.last_up_to(head);
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
        if stream.last().next() < before {
            let detail = format!("version {before} of {name}, which ends at {}", stream.last());
            return Err(Error::invalid(TRUNCATE, detail));
        }
        Ok(())
    }

    /// Hides the events below `before`, forgets their ids, and returns their positions.
    ///
    /// Positions beyond `settled` are kept until the next truncation: readers do not see them yet,
    /// and the version that they see is counted by them.
    pub(crate) fn truncate(
        &mut self,
        name: &StreamName,
        before: Version,
        settled: Position,
    ) -> HashSet<Position> {
        let Some(stream) = self.streams.get_mut(name) else { return HashSet::new() };
        stream.first = stream.first.max(before);
        let first = stream.first;
        stream.ids.retain(|_, version| first <= *version);
        let hidden = usize::try_from(first.get() - 1 - stream.base).unwrap_or(usize::MAX);
        let settled = stream.positions.partition_point(|position| *position <= settled);
        let gone: HashSet<_> = stream.positions.drain(..hidden.min(settled)).collect();
        stream.base += gone.len() as u64;
        stream.positions.shrink_to_fit();
        gone
    }

    /// Judges a tombstone.
    pub(crate) fn judge_tombstone(&self, name: &StreamName, expected: Expected) -> Result<()> {
        const TOMBSTONE: &str = "tombstone stream";
        let stream = self.streams.get(name).filter(|stream| !stream.is_tombstoned);
        let Some(stream) = stream else {
            return Err(Error::new(ErrorKind::NotFound, TOMBSTONE).detail(name.to_string()));
        };
        if !expected.admits(stream.last()) {
            return Err(Error::conflict(TOMBSTONE, expected, stream.last()));
        }
        Ok(())
    }

    /// Ends a stream for good.
    pub(crate) fn tombstone(&mut self, name: &StreamName) {
        if let Some(stream) = self.streams.get_mut(name) {
            stream.is_tombstoned = true;
            stream.ids = HashMap::default();
            stream.base += stream.positions.len() as u64;
            stream.positions = Vec::new();
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
