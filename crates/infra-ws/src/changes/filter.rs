//! Subscriptions to changes, as data.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::connection::ConnectionId;

/// What happened to an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// It is another.
    Updated,
    /// It is gone.
    Deleted,
}

/// A change that was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What kind of thing it is, such as `room`.
    pub entity: String,
    /// Which one.
    pub id: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// Which changes somebody wants; every part that is set must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Of this kind of thing.
    pub entity: Option<String>,
    /// Of this one.
    pub id: Option<String>,
    /// One of these; empty means any.
    pub kinds: BTreeSet<ChangeKind>,
}

impl Filter {
    /// Returns whether a change fits.
    ///
    /// ```
    /// use infra_ws::changes::{Change, ChangeKind, Filter};
    ///
    /// let filter = Filter { kinds: [ChangeKind::Created].into(), ..Filter::default() };
    /// let created =
    ///     Change { entity: "room".into(), id: "room-1".into(), kind: ChangeKind::Created };
    /// assert!(filter.admits(&created));
    /// assert!(!filter.admits(&Change { kind: ChangeKind::Updated, ..created }));
    /// ```
    pub fn admits(&self, change: &Change) -> bool {
        self.entity.as_ref().is_none_or(|entity| *entity == change.entity)
            && self.id.as_ref().is_none_or(|id| *id == change.id)
            && (self.kinds.is_empty() || self.kinds.contains(&change.kind))
    }
}

/// Names a subscription; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(u64);

/// Who wants which changes; a connection may have several subscriptions, also equal ones.
#[derive(Debug)]
pub struct Subscriptions {
    per_connection: usize,
    next: u64,
    all: BTreeMap<ConnectionId, BTreeMap<SubscriptionId, Filter>>,
}

impl Subscriptions {
    /// Creates none; a connection may have `per_connection` at most.
    pub const fn new(per_connection: usize) -> Self {
        Self { per_connection, next: 0, all: BTreeMap::new() }
    }

    /// Adds a subscription; `None` if the connection has as many as one may have.
    pub fn add(&mut self, connection: ConnectionId, filter: Filter) -> Option<SubscriptionId> {
        if self.per_connection <= self.all.get(&connection).map_or(0, BTreeMap::len) {
            return None;
        }
        self.next += 1;
        let id = SubscriptionId(self.next);
        self.all.entry(connection).or_default().insert(id, filter);
        Some(id)
    }

    /// Ends a subscription; returns false if the connection has none of that id.
    pub fn remove(&mut self, connection: ConnectionId, id: SubscriptionId) -> bool {
        let Some(own) = self.all.get_mut(&connection) else { return false };
        let was_there = own.remove(&id).is_some();
        if own.is_empty() {
            self.all.remove(&connection);
        }
        was_there
    }

    /// Ends all subscriptions of a connection.
    pub fn remove_all(&mut self, connection: ConnectionId) {
        self.all.remove(&connection);
    }

    /// Returns who wants a change, and by which subscriptions.
    pub fn matching(&self, change: &Change) -> Vec<(ConnectionId, Vec<SubscriptionId>)> {
        let matching = self.all.iter().map(|(connection, own)| {
            let ids = own.iter().filter(|(_, filter)| filter.admits(change)).map(|(id, _)| *id);
            (*connection, ids.collect::<Vec<_>>())
        });
        matching.filter(|(_, ids)| !ids.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [ChangeKind; 3] = [ChangeKind::Created, ChangeKind::Updated, ChangeKind::Deleted];

    fn change(entity: usize, id: usize, kind: usize) -> Change {
        Change { entity: format!("e{entity}"), id: format!("i{id}"), kind: KINDS[kind] }
    }

    #[test]
    fn two_subscriptions_of_one_connection_to_the_same_thing_live_side_by_side() {
        let mut subscriptions = Subscriptions::new(2);
        let connection = ConnectionId(1);
        let only = |kind| Filter { kinds: [kind].into(), ..Filter::default() };
        let first = subscriptions.add(connection, only(ChangeKind::Created)).unwrap();
        let second = subscriptions.add(connection, only(ChangeKind::Created)).unwrap();
        assert_eq!(subscriptions.add(connection, Filter::default()), None, "bounded");
        assert_eq!(subscriptions.matching(&change(0, 0, 0)), [(connection, vec![first, second])]);
        assert_eq!(subscriptions.matching(&change(0, 0, 1)), []);
        assert!(
            subscriptions.remove(connection, first) && !subscriptions.remove(connection, first)
        );
        assert_eq!(subscriptions.matching(&change(0, 0, 0)), [(connection, vec![second])]);
        subscriptions.remove_all(connection);
        assert!(subscriptions.all.is_empty());
    }

    proptest! {
        #[test]
        fn matching_is_what_each_filter_says_one_by_one(
            filters in proptest::collection::vec(
                (0..3_u64, proptest::option::of(0..2_usize), proptest::option::of(0..2_usize),
                 proptest::collection::btree_set(0..3_usize, 0..3)), 0..12),
            entity in 0..2_usize, id in 0..2_usize, kind in 0..3_usize,
        ) {
            let mut subscriptions = Subscriptions::new(100);
            let change = change(entity, id, kind);
            let mut wanted: BTreeMap<ConnectionId, Vec<SubscriptionId>> = BTreeMap::new();
            for (connection, of_entity, of_id, kinds) in filters {
                let fits = of_entity.is_none_or(|it| it == entity)
                    && of_id.is_none_or(|it| it == id)
                    && (kinds.is_empty() || kinds.contains(&kind));
                let filter = Filter {
                    entity: of_entity.map(|it| format!("e{it}")),
                    id: of_id.map(|it| format!("i{it}")),
                    kinds: kinds.into_iter().map(|it| KINDS[it]).collect(),
                };
                let connection = ConnectionId(connection);
                let id = subscriptions.add(connection, filter).unwrap();
                if fits {
                    wanted.entry(connection).or_default().push(id);
                }
            }
            prop_assert_eq!(subscriptions.matching(&change), wanted.into_iter().collect::<Vec<_>>());
        }
    }
}
