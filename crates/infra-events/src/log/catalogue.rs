//! All that is known of the log without reading its frames: the state of all streams, and of each
//! segment where its events are.

use std::sync::Arc;

use infra_core::{
    Error, ErrorKind, Result,
    event::Direction,
    id::{EventId, StreamName},
    lease::Fence,
    version::{Position, Version},
};

use super::{
    frame::Commit, index_format::Summary, segment_index::SegmentIndex, unsealed::Unsealed,
    witness::Mark,
};
use crate::index::{Extent, Found, Index, Places};

/// Where the events from `first` on are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameAt {
    pub(super) first: Position,
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// The length of the body.
    pub(super) length: u32,
}

/// What a commit does to the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Append { parts: Vec<(StreamName, Vec<EventId>)>, fence: Option<Fence> },
    Truncate { stream: StreamName, before: Version },
    Tombstone { stream: StreamName },
}

impl Effect {
    pub(super) fn of(commit: &Commit) -> Self {
        match commit {
            Commit::Append { events, fence } => {
                let mut parts: Vec<(StreamName, Vec<EventId>)> = Vec::new();
                for event in events {
                    match parts.last_mut() {
                        Some((stream, ids)) if *stream == event.stream => ids.push(event.event.id),
                        _ => parts.push((event.stream.clone(), vec![event.event.id])),
                    }
                }
                Self::Append { parts, fence: fence.clone() }
            }
            Commit::Truncate { stream, before } => {
                Self::Truncate { stream: stream.clone(), before: *before }
            }
            Commit::Tombstone { stream } => Self::Tombstone { stream: stream.clone() },
        }
    }
}

/// What is known of one segment.
#[derive(Debug, Clone)]
pub(super) enum Part {
    InMemory(Arc<Unsealed>),
    OnDisk(Arc<SegmentIndex>),
}

impl Part {
    fn first(&self) -> Position {
        match self {
            Self::InMemory(part) => part.first,
            Self::OnDisk(index) => index.first(),
        }
    }
}

/// Some events of a stream, and where they are.
#[derive(Debug)]
pub(super) enum Piece {
    Known(Vec<(Position, FrameAt)>),
    /// Those of an index on the disk: the stream's number in it, and the first event and their count.
    OnDisk(Arc<SegmentIndex>, u32, (u64, u64)),
}

/// Frames of one segment: those that were asked for, or who must be asked.
#[derive(Debug)]
pub(super) enum Frames {
    Known(Vec<FrameAt>),
    OnDisk(Arc<SegmentIndex>),
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalogue {
    pub(super) index: Index,
    /// By the number of the segment; the last one is in memory once it is written to.
    parts: Vec<Part>,
}

impl Catalogue {
    /// Begins the next segment, whose first frame comes after `before`.
    pub(super) fn begin(&mut self, before: Mark) {
        let part = Unsealed::new(self.index.head().next(), before);
        self.parts.push(Part::InMemory(Arc::new(part)));
    }

    /// Takes a sealed segment by its index, behind all others.
    pub(super) fn adopt(&mut self, index: SegmentIndex, summary: Summary) {
        let segment = number(self.parts.len());
        for fence in &summary.fences {
            self.index.fence(fence);
        }
        for (stream, change) in (0..).zip(summary.changes) {
            self.index.take(change, segment, stream);
        }
        self.parts.push(Part::OnDisk(Arc::new(index)));
    }

    /// Puts a sealed segment's index in the place of what is known of it in memory, and returns that.
    pub(super) fn settle(&mut self, index: SegmentIndex) -> Option<Part> {
        let part = self.parts.get_mut(usize::try_from(index.number()).ok()?)?;
        Some(std::mem::replace(part, Part::OnDisk(Arc::new(index))))
    }

    /// Counts the segments, and those of them whose events are known in memory.
    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        let in_memory = self.parts.iter().filter(|part| matches!(part, Part::InMemory(_)));
        (self.parts.len(), in_memory.count())
    }

    /// Returns what is known of the last segment, if it is in memory.
    pub(super) fn last(&self) -> Option<&Arc<Unsealed>> {
        match self.parts.last() {
            Some(Part::InMemory(part)) => Some(part),
            _ => None,
        }
    }

    /// Forgets where the events of the last segment are.
    pub(super) fn forget_last(&mut self) {
        if let Some(Part::InMemory(part)) = self.parts.last_mut() {
            *part = Arc::new(Unsealed::new(part.first, part.before()));
        }
    }

    /// Takes what a commit did, whose frame of this checksum is at `at` in the last segment.
    pub(super) fn apply(&mut self, at: FrameAt, checksum: u32, effect: &Effect) {
        let segment = number(self.parts.len().saturating_sub(1));
        let Some(Part::InMemory(part)) = self.parts.last_mut() else { return };
        let part = Arc::make_mut(part);
        part.note(at, checksum, effect);
        match effect {
            Effect::Append { parts, fence } => {
                let first = self.index.head().next();
                self.index.apply(parts, fence.as_ref(), (segment, &mut part.table));
                if first <= self.index.head() {
                    part.frames.push(FrameAt { first, ..at });
                }
            }
            Effect::Truncate { stream, before } => self.index.truncate(stream, *before),
            Effect::Tombstone { stream } => self.index.tombstone(stream),
        }
    }

    /// Returns the frames from the one with `position` on, as many as its segment has up to `limit`,
    /// and the first position behind that segment.
    pub(super) fn frames(&self, position: Position, limit: usize) -> Option<(Frames, Position)> {
        let head = self.index.head();
        let after = self.parts.partition_point(|part| part.first() <= position);
        let part = self.parts.get(after.checked_sub(1)?).filter(|_| position <= head)?;
        let frames = match part {
            Part::InMemory(part) => Frames::Known(part.frames(position, limit).to_vec()),
            Part::OnDisk(index) => Frames::OnDisk(Arc::clone(index)),
        };
        Some((frames, self.parts.get(after).map_or(head.next(), Part::first)))
    }

    /// Returns where the events of a stream are that are to be read, in the order of their versions.
    pub(super) fn pieces(
        &self,
        stream: &StreamName,
        wanted: (Version, Direction),
        visible: Position,
        limit: usize,
    ) -> Vec<Piece> {
        let Some(span) = self.index.span(stream, wanted, (visible, self), limit) else {
            return Vec::new();
        };
        let extents = self.index.extents(stream, &span).into_iter();
        extents
            .filter_map(|(extent, versions)| match self.part(extent)? {
                Part::InMemory(part) => Some(Piece::Known(part.places(extent.stream, &versions))),
                Part::OnDisk(index) => {
                    let from = versions.start().get() - extent.base.get() - 1;
                    let count = versions.end().get() - versions.start().get() + 1;
                    Some(Piece::OnDisk(Arc::clone(index), extent.stream, (from, count)))
                }
            })
            .collect()
    }

    fn part(&self, extent: Extent) -> Option<&Part> {
        self.parts.get(usize::try_from(extent.segment).ok()?)
    }
}

impl Places for Catalogue {
    fn find(&self, extent: Extent, id: EventId) -> Result<Option<Found>> {
        match self.part(extent) {
            None => Ok(None),
            Some(Part::InMemory(part)) => Ok(part.table.find(extent.stream, id)),
            Some(Part::OnDisk(index)) => index.find(extent, id),
        }
    }

    fn count_up_to(&self, extent: Extent, head: Position) -> Option<u64> {
        match self.part(extent)? {
            Part::InMemory(part) => Some(part.table.count_up_to(extent.stream, head)),
            // It was visible as a whole before its index took its place.
            Part::OnDisk(_) => None,
        }
    }
}

pub(super) fn missing(position: Position) -> Error {
    Error::new(ErrorKind::Corrupt, "read event log")
        .detail(format!("position {position} is missing"))
}

/// Returns the number of the segment before which there are so many.
fn number(n_segments: usize) -> u32 {
    u32::try_from(n_segments).unwrap_or(u32::MAX)
}
