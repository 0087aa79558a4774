//! What is archived: by stream and version, and by position.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use infra_core::{
    event::RecordedEvent,
    id::StreamName,
    version::{Position, Version},
};

use super::name::{Extent, Kind};

/// The archived parts of one stream.
#[derive(Debug, Clone, Default)]
struct Parts {
    /// Versions below are gone for good.
    before: Version,
    /// By first version.
    extents: BTreeMap<Version, Extent>,
}

/// Everything that is archived.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    streams: BTreeMap<StreamName, Parts>,
    /// By last position, for reads of the whole store.
    by_end: BTreeMap<(Position, StreamName), Extent>,
}

impl Catalogue {
    pub(super) fn add(&mut self, stream: &StreamName, kind: Kind) {
        let parts = self.streams.entry(stream.clone()).or_default();
        match kind {
            Kind::Before(version) => parts.before = parts.before.max(version),
            Kind::Segment(extent) => {
                parts.extents.insert(extent.first, extent);
                self.by_end.insert((extent.to, stream.clone()), extent);
            }
        }
    }

    /// Forgets a stream and returns what its objects were.
    pub(super) fn remove(&mut self, stream: &StreamName) -> Vec<Kind> {
        let Some(parts) = self.streams.remove(stream) else { return Vec::new() };
        self.by_end.retain(|(_, other), _| other != stream);
        let mut kinds: Vec<Kind> = parts.extents.into_values().map(Kind::Segment).collect();
        if Version::ZERO < parts.before {
            kinds.push(Kind::Before(parts.before));
        }
        kinds
    }

    /// Forgets the segments of a stream that lie below its truncation, and returns them.
    pub(super) fn prune(&mut self, stream: &StreamName) -> Vec<Extent> {
        let Some(parts) = self.streams.get_mut(stream) else { return Vec::new() };
        let before = parts.before;
        let gone: Vec<Extent> =
            parts.extents.values().filter(|extent| extent.last < before).copied().collect();
        for extent in &gone {
            parts.extents.remove(&extent.first);
            self.by_end.remove(&(extent.to, stream.clone()));
        }
        gone
    }

    pub(super) fn streams(&self) -> Vec<StreamName> {
        self.streams.keys().cloned().collect()
    }

    /// Returns the first version that is gone for good below.
    pub(super) fn before(&self, stream: &StreamName) -> Version {
        self.streams.get(stream).map_or(Version::ZERO, |parts| parts.before)
    }

    /// Returns the first archived version that can be read, and the last one.
    pub(super) fn range(&self, stream: &StreamName) -> Option<(Version, Version)> {
        let parts = self.streams.get(stream)?;
        let (first, last) = (parts.extents.values().next()?, parts.extents.values().next_back()?);
        Some((first.first.max(parts.before), last.last))
    }

    /// Returns the versions below `first`, where the store below begins, that are neither archived nor gone for
    /// good.
    pub(super) fn hole(&self, stream: &StreamName, first: Version) -> Option<(Version, Version)> {
        let mut next = self.before(stream).max(Version::new(1));
        for extent in self.of_stream(stream) {
            if next < extent.first {
                break;
            }
            next = next.max(extent.last.next());
        }
        (next < first).then(|| (next, first.previous()))
    }

    /// Returns the segments of a stream in order.
    pub(super) fn of_stream(&self, stream: &StreamName) -> Vec<Extent> {
        let parts = self.streams.get(stream);
        parts.map(|parts| parts.extents.values().copied().collect()).unwrap_or_default()
    }

    /// Returns the segments with positions after `after` and up to `to`.
    pub(super) fn between(
        &self,
        after: Position,
        to: Position,
        admits: impl Fn(&StreamName) -> bool,
    ) -> Vec<(StreamName, Extent)> {
        let mut found = Vec::new();
        for ((end, stream), extent) in &self.by_end {
            // Of what was truncated an object may still be there, or be gone a moment later.
            let is_gone = extent.last < self.before(stream);
            if !is_gone && after < *end && extent.from <= to && admits(stream) {
                found.push((stream.clone(), *extent));
            }
        }
        found
    }

    /// Returns whether an archived event was truncated.
    pub(super) fn is_readable(&self, event: &RecordedEvent) -> bool {
        self.before(&event.stream) <= event.version
    }
}

/// The segments that were read last, bounded by their number of events.
#[derive(Debug)]
pub(super) struct Recent {
    capacity: usize,
    events: usize,
    segments: VecDeque<(String, Arc<Vec<RecordedEvent>>)>,
}

impl Recent {
    pub(super) const fn new(capacity: usize) -> Self {
        Self { capacity, events: 0, segments: VecDeque::new() }
    }

    pub(super) fn get(&mut self, name: &str) -> Option<Arc<Vec<RecordedEvent>>> {
        let place = self.segments.iter().position(|(known, _)| known == name)?;
        let entry = self.segments.remove(place)?;
        let segment = Arc::clone(&entry.1);
        self.segments.push_back(entry);
        Some(segment)
    }

    pub(super) fn put(&mut self, name: String, segment: &Arc<Vec<RecordedEvent>>) {
        self.events += segment.len();
        self.segments.push_back((name, Arc::clone(segment)));
        while self.capacity < self.events {
            let Some((_, oldest)) = self.segments.pop_front() else { return };
            self.events -= oldest.len();
        }
    }
}
