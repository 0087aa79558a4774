//! What is known in memory of one segment: of the one that is written, and of others until their
//! indexes stand.

use std::{collections::BTreeMap, ops::RangeInclusive};

use infra_core::{
    id::{Scope, StreamName},
    version::{FencingToken, Position, Version},
};

use super::{
    catalogue::{Effect, FrameAt},
    frame, segment,
    witness::Mark,
};
use crate::memtable::Memtable;

/// The last frame of a segment, by which an index is held against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Last {
    pub(super) offset: u64,
    pub(super) checksum: u32,
}

/// What became of a stream, beside its events.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ending {
    /// Events below this version are truncated.
    pub(super) truncated: Version,
    pub(super) is_tombstoned: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Unsealed {
    pub(super) first: Position,
    before: Mark,
    after: Mark,
    last: Last,
    /// Where the last frame ends.
    end: u64,
    pub(super) table: Memtable,
    /// Frames with events, by their first position.
    pub(super) frames: Vec<FrameAt>,
    pub(super) fences: BTreeMap<Scope, FencingToken>,
    pub(super) endings: BTreeMap<StreamName, Ending>,
}

impl Unsealed {
    pub(super) fn new(first: Position, before: Mark) -> Self {
        Self {
            first,
            before,
            after: before,
            last: Last::default(),
            end: segment::HEADER,
            table: Memtable::default(),
            frames: Vec::new(),
            fences: BTreeMap::new(),
            endings: BTreeMap::new(),
        }
    }

    pub(super) const fn before(&self) -> Mark {
        self.before
    }

    pub(super) const fn after(&self) -> Mark {
        self.after
    }

    pub(super) const fn last(&self) -> (Last, u64) {
        (self.last, self.end)
    }

    /// Takes a frame of this checksum, and all that it did beside events.
    pub(super) fn note(&mut self, at: FrameAt, checksum: u32, effect: &Effect) {
        self.last = Last { offset: at.offset, checksum };
        self.end = at.offset + frame::HEADER as u64 + u64::from(at.length);
        self.after = self.after.then(checksum);
        match effect {
            Effect::Append { fence: None, .. } => {}
            Effect::Append { fence: Some(fence), .. } => {
                let highest = self.fences.entry(fence.scope.clone()).or_default();
                *highest = (*highest).max(fence.token);
            }
            Effect::Truncate { stream, before } => {
                let ending = self.endings.entry(stream.clone()).or_default();
                ending.truncated = ending.truncated.max(*before);
            }
            Effect::Tombstone { stream } => {
                self.endings.entry(stream.clone()).or_default().is_tombstoned = true;
            }
        }
    }

    /// Returns the frames from the one with `position` on.
    pub(super) fn frames(&self, position: Position, limit: usize) -> &[FrameAt] {
        let after = self.frames.partition_point(|frame| frame.first <= position);
        let rest = self.frames.get(after.saturating_sub(1)..).unwrap_or_default();
        rest.get(..limit.min(rest.len())).unwrap_or_default()
    }

    /// Returns where some events of a stream are.
    pub(super) fn places(
        &self,
        stream: u32,
        versions: &RangeInclusive<Version>,
    ) -> Vec<(Position, FrameAt)> {
        let positions = self.table.positions(stream, versions).iter();
        positions.filter_map(|at| Some((*at, *self.frames(*at, 1).first()?))).collect()
    }
}
