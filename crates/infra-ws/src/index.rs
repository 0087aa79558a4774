//! Connections by id and by user, kept consistent.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use crate::connection::ConnectionId;

/// Why a connection was not identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotIdentified {
    /// It belongs to another user already; a connection never changes hands.
    Other,
    /// The user has as many connections as one may have.
    TooMany,
    /// The connection has ended.
    Ended,
}

impl fmt::Display for NotIdentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Other => "connection belongs to another user",
            Self::TooMany => "user has too many connections",
            Self::Ended => "connection has ended",
        })
    }
}

impl std::error::Error for NotIdentified {}

/// Values by connection id, and ids by user.
#[derive(Debug)]
pub(crate) struct Index<T> {
    entries: HashMap<ConnectionId, (T, Option<Arc<str>>)>,
    users: HashMap<Arc<str>, BTreeSet<ConnectionId>>,
}

impl<T> Index<T> {
    pub(crate) fn new() -> Self {
        Self { entries: HashMap::new(), users: HashMap::new() }
    }

    /// Adds an entry; one of the same id is never replaced.
    pub(crate) fn add(&mut self, id: ConnectionId, value: T) -> bool {
        if self.entries.contains_key(&id) {
            return false;
        }
        self.entries.insert(id, (value, None));
        true
    }

    /// Says whose connection it is; saying it again changes nothing.
    pub(crate) fn identify(
        &mut self,
        id: ConnectionId,
        user: &Arc<str>,
        per_user: usize,
    ) -> Result<(), NotIdentified> {
        let Some((_, owner)) = self.entries.get_mut(&id) else {
            return Err(NotIdentified::Ended);
        };
        match owner {
            Some(owner) if owner == user => return Ok(()),
            Some(_) => return Err(NotIdentified::Other),
            None => {}
        }
        if per_user <= self.users.get(user).map_or(0, BTreeSet::len) {
            return Err(NotIdentified::TooMany);
        }
        *owner = Some(Arc::clone(user));
        self.users.entry(Arc::clone(user)).or_default().insert(id);
        Ok(())
    }

    /// Takes an entry out of everything.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let (value, user) = self.entries.remove(&id)?;
        if let Some(user) = user
            && let Some(ids) = self.users.get_mut(&user)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.users.remove(&user);
            }
        }
        Some(value)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&T> {
        self.entries.get(&id).map(|(value, _)| value)
    }

    /// Returns what belongs to a user, oldest first.
    pub(crate) fn of_user(&self, user: &str) -> impl Iterator<Item = &T> {
        self.users.get(user).into_iter().flatten().filter_map(|id| self.get(*id))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|(value, _)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn users(&self) -> usize {
        self.users.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_indexes_agree_with_a_list_of_triples(
            steps in proptest::collection::vec((0..3_u8, 0..5_u64, 0..3_usize), 0..150),
        ) {
            let users: Vec<Arc<str>> = ["ann", "bob", "eve"].map(Arc::from).to_vec();
            let mut index = Index::new();
            let mut model: BTreeMap<u64, (usize, Option<usize>)> = BTreeMap::new();
            for (turn, (step, id, user)) in steps.into_iter().enumerate() {
                let key = ConnectionId(id);
                match step {
                    0 => {
                        let is_new = !model.contains_key(&id);
                        prop_assert_eq!(index.add(key, turn), is_new, "never replaced");
                        model.entry(id).or_insert((turn, None));
                    }
                    1 => {
                        let count = model.values().filter(|(_, who)| *who == Some(user)).count();
                        let wanted = match model.get(&id) {
                            None => Err(NotIdentified::Ended),
                            Some((_, Some(owner))) if *owner == user => Ok(()),
                            Some((_, Some(_))) => Err(NotIdentified::Other),
                            Some((_, None)) if 2 <= count => Err(NotIdentified::TooMany),
                            Some((_, None)) => Ok(()),
                        };
                        prop_assert_eq!(index.identify(key, &users[user], 2), wanted);
                        if wanted.is_ok() && let Some(entry) = model.get_mut(&id) {
                            entry.1 = Some(user);
                        }
                    }
                    _ => {
                        let removed = model.remove(&id).map(|(value, _)| value);
                        prop_assert_eq!(index.remove(key), removed);
                    }
                }
                prop_assert_eq!(index.len(), model.len());
                for id in 0..5 {
                    let wanted = model.get(&id).map(|(value, _)| value);
                    prop_assert_eq!(index.get(ConnectionId(id)), wanted);
                }
                for (number, user) in users.iter().enumerate() {
                    let wanted: Vec<_> = model.values().filter(|(_, who)| *who == Some(number)).collect();
                    let found: Vec<_> = index.of_user(user).collect();
                    prop_assert_eq!(found, wanted.iter().map(|(value, _)| value).collect::<Vec<_>>());
                }
                let known: BTreeSet<_> = model.values().filter_map(|(_, who)| *who).collect();
                prop_assert_eq!(index.users(), known.len(), "no user without a connection is kept");
            }
        }
    }
}
