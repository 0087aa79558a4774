//! The positions and ids of events that are known in memory, by the number of their stream.

use std::ops::RangeInclusive;

use infra_core::{
    id::{EventId, StreamName},
    version::{Position, Version},
};

use crate::index::{Found, HashMap};

/// One stream.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) name: StreamName,
    /// The id of the first event that was taken.
    pub(crate) first: Option<EventId>,
    /// The positions of versions `base + 1`, `base + 2`, ...
    pub(crate) base: Version,
    pub(crate) positions: Vec<Position>,
    /// Each id's version, counted from `base`.
    ids: HashMap<EventId, u32>,
}

impl Run {
    /// Returns the ids in the order of their versions; one that came again later is only there.
    pub(crate) fn ids(&self) -> Vec<Option<EventId>> {
        let mut ids = vec![None; self.positions.len()];
        for (id, place) in &self.ids {
            let place = usize::try_from(*place).unwrap_or(usize::MAX);
            if let Some(slot) = place.checked_sub(1).and_then(|place| ids.get_mut(place)) {
                *slot = Some(*id);
            }
        }
        ids
    }

    fn count_up_to(&self, head: Position) -> u64 {
        self.positions.partition_point(|position| *position <= head) as u64
    }

    fn positions(&self, versions: &RangeInclusive<Version>) -> &[Position] {
        let at = |version: Version| {
            let place = version.get().saturating_sub(self.base.get());
            usize::try_from(place).unwrap_or(usize::MAX).min(self.positions.len())
        };
        let low = at(*versions.start()).saturating_sub(1);
        self.positions.get(low..at(*versions.end())).unwrap_or_default()
    }
}

/// What is known of the events of some streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memtable {
    runs: Vec<Run>,
}

impl Memtable {
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Begins a stream behind the version `base`, and returns its number.
    pub(crate) fn begin(&mut self, name: StreamName, base: Version) -> u32 {
        let number = u32::try_from(self.runs.len()).unwrap_or(u32::MAX);
        let (positions, ids) = (Vec::new(), HashMap::default());
        self.runs.push(Run { name, first: None, base, positions, ids });
        number
    }

    /// Takes the next event of a stream.
    pub(crate) fn push(&mut self, stream: u32, id: EventId, position: Position) {
        if let Some(run) = self.run_mut(stream) {
            run.first.get_or_insert(id);
            run.positions.push(position);
            run.ids.insert(id, u32::try_from(run.positions.len()).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn find(&self, stream: u32, id: EventId) -> Option<Found> {
        let run = self.run(stream)?;
        let place = *run.ids.get(&id)?;
        let position = run.positions.get(usize::try_from(place).ok()?.checked_sub(1)?)?;
        let version = Version::new(run.base.get() + u64::from(place));
        Some(Found { version, position: *position })
    }

    /// Counts the events of a stream that are not beyond `head`.
    pub(crate) fn count_up_to(&self, stream: u32, head: Position) -> u64 {
        self.run(stream).map_or(0, |run| run.count_up_to(head))
    }

    pub(crate) fn positions(&self, stream: u32, versions: &RangeInclusive<Version>) -> &[Position] {
        self.run(stream).map_or(&[], |run| run.positions(versions))
    }

    /// Forgets the events of a stream below `before`, and returns their positions.
    pub(crate) fn forget(&mut self, stream: u32, before: Version) -> Vec<Position> {
        let Some(run) = self.run_mut(stream) else { return Vec::new() };
        let gone = before.get().saturating_sub(run.base.get() + 1);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(run.positions.len());
        run.base = Version::new(run.base.get() + gone as u64);
        let gone_ids = u32::try_from(gone).unwrap_or(u32::MAX);
        run.ids.retain(|_, place| {
            *place = place.saturating_sub(gone_ids);
            *place != 0
        });
        let positions = run.positions.drain(..gone).collect();
        run.positions.shrink_to_fit();
        positions
    }

    fn run(&self, stream: u32) -> Option<&Run> {
        self.runs.get(usize::try_from(stream).ok()?)
    }

    fn run_mut(&mut self, stream: u32) -> Option<&mut Run> {
        self.runs.get_mut(usize::try_from(stream).ok()?)
    }
}
