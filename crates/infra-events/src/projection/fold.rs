//! The fold of events into views, key by key: pure, and in parallel across keys.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use infra_core::{Error, ErrorKind, Result, event::RecordedEvent, version::Position};
use tokio::task::JoinSet;

use super::{Parked, Projection};

/// A view, how far it is, and whether it is held back.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot<V> {
    pub(super) view: V,
    /// The position of the last event that was applied.
    pub(super) position: Position,
    pub(super) parked: Option<Parked>,
    /// The position of the last event that was seen, applied or not.
    pub(super) seen: Position,
}

/// The slots of some keys.
pub(super) type Slots<V> = BTreeMap<String, Slot<V>>;

/// Groups events by the keys that they concern, in order.
pub(super) fn by_key<P: Projection>(
    projection: &P,
    events: &[Arc<RecordedEvent>],
) -> BTreeMap<String, Vec<Arc<RecordedEvent>>> {
    let mut groups: BTreeMap<String, Vec<Arc<RecordedEvent>>> = BTreeMap::new();
    for event in events {
        let mut keys = projection.keys(event);
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            groups.entry(key).or_default().push(Arc::clone(event));
        }
    }
    groups
}

/// Folds the events of one key into its slot; an event that was seen before changes nothing.
pub(super) fn fold<P: Projection>(
    projection: &P,
    key: &str,
    slot: &mut Slot<P::View>,
    events: &[Arc<RecordedEvent>],
) {
    for event in events {
        if event.position <= slot.seen {
            continue;
        }
        slot.seen = event.position;
        if let Some(parked) = &mut slot.parked {
            parked.waiting += 1;
            continue;
        }
        // A failed fold leaves the view as it was before the event.
        let mut next = slot.view.clone();
        let applied = catch_unwind(AssertUnwindSafe(|| projection.apply(key, &mut next, event)));
        match applied.unwrap_or_else(|_| Err(panicked())) {
            Ok(()) => (slot.view, slot.position) = (next, event.position),
            Err(error) => {
                let (key, cause) = (key.to_owned(), error.to_string());
                tracing::warn!(projection = projection.name(), key, cause, "key is parked");
                slot.parked = Some(Parked { key, position: event.position, cause, waiting: 0 });
            }
        }
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "apply event").detail("the projection panicked")
}

/// Folds groups of events into their slots, over so many tasks.
pub(super) async fn fold_all<P: Projection>(
    projection: &Arc<P>,
    mut slots: Slots<P::View>,
    groups: BTreeMap<String, Vec<Arc<RecordedEvent>>>,
    workers: usize,
) -> Result<Slots<P::View>> {
    let mut shares: Vec<Vec<_>> = (0..workers.max(1)).map(|_| Vec::new()).collect();
    let n_shares = shares.len();
    for (number, (key, events)) in groups.into_iter().enumerate() {
        let slot = slots.remove(&key).unwrap_or_default();
        if let Some(share) = shares.get_mut(number % n_shares) {
            share.push((key, slot, events));
        }
    }
    let mut tasks = JoinSet::new();
    for mut share in shares.into_iter().filter(|share| !share.is_empty()) {
        let projection = Arc::clone(projection);
        tasks.spawn(async move {
            for (key, slot, events) in &mut share {
                fold(projection.as_ref(), key, slot, events);
                tokio::task::consume_budget().await;
            }
            share
        });
    }
    while let Some(share) = tasks.join_next().await {
        let share =
            share.map_err(|cause| Error::new(ErrorKind::Internal, "fold events").because(cause))?;
        slots.extend(share.into_iter().map(|(key, slot, _)| (key, slot)));
    }
    Ok(slots)
}
