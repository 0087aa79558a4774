//! Rooms: named sets of connections that hear the same broadcasts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;

use crate::{
    budget::Advance,
    connection::{Connection, ConnectionId},
    frame::{Class, Frame},
    lanes::Priority,
    post::Post,
};

/// Named sets of connections. A room exists while somebody is in it.
///
/// A broadcast shares one encoded frame among all members and waits for none of them.
#[derive(Debug, Default)]
pub struct Rooms(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    members: HashMap<String, HashMap<ConnectionId, Connection>>,
    rooms_of: HashMap<ConnectionId, HashSet<String>>,
}

impl Rooms {
    /// Creates no room yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a connection into a room; returns false if it is there already.
    pub fn join(&self, room: &str, connection: &Connection) -> bool {
        let mut state = self.0.write();
        state.rooms_of.entry(connection.id()).or_default().insert(room.to_owned());
        let members = state.members.entry(room.to_owned()).or_default();
        members.insert(connection.id(), connection.clone()).is_none()
    }

    /// Takes a connection out of a room; returns false if it was not there.
    pub fn leave(&self, room: &str, id: ConnectionId) -> bool {
        self.0.write().leave(room, id)
    }

    /// Takes a connection out of all its rooms and returns their names.
    pub fn leave_all(&self, id: ConnectionId) -> Vec<String> {
        let mut state = self.0.write();
        let rooms = state.rooms_of.remove(&id).unwrap_or_default();
        for room in &rooms {
            state.leave(room, id);
        }
        rooms.into_iter().collect()
    }

    /// Sends a frame to all members but `except`; returns how many took it.
    pub fn broadcast(
        &self,
        room: &str,
        frame: &Frame,
        class: Class,
        except: Option<ConnectionId>,
    ) -> usize {
        let state = self.0.read();
        let members = state.members.get(room).into_iter().flatten();
        let others = members.filter(|(id, _)| Some(**id) != except);
        let (post, mut advance) = (Post::new(frame.clone(), class, None), Advance::for_many());
        let mut send = |connection: &Connection| {
            connection.offer_post(Arc::clone(&post), Priority::Normal, &mut advance)
        };
        others.filter(|(_, connection)| send(connection).is_ok()).count()
    }

    /// Returns how many connections are in a room.
    pub fn count(&self, room: &str) -> usize {
        self.0.read().members.get(room).map_or(0, HashMap::len)
    }

    /// Returns how many rooms have somebody in them.
    pub fn len(&self) -> usize {
        self.0.read().members.len()
    }

    /// Returns whether nobody is in any room.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    fn leave(&mut self, room: &str, id: ConnectionId) -> bool {
        if let Some(rooms) = self.rooms_of.get_mut(&id) {
            rooms.remove(room);
            if rooms.is_empty() {
                self.rooms_of.remove(&id);
            }
        }
        let Some(members) = self.members.get_mut(room) else { return false };
        let was_there = members.remove(&id).is_some();
        if members.is_empty() {
            self.members.remove(room);
        }
        was_there
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use proptest::prelude::*;

    use super::*;
    use crate::{hub::Hub, options::Options, origin::OriginPolicy};

    fn hub() -> Arc<Hub> {
        Hub::for_tests(Options::new(OriginPolicy::same_host()))
    }

    #[test]
    fn a_broadcast_reaches_the_members_but_one() {
        let (hub, rooms) = (hub(), Rooms::new());
        let members: Vec<_> = (0..3).map(|_| hub.connect_for_tests()).collect();
        assert!(members.iter().all(|(member, _)| rooms.join("a", member)));
        assert!(!rooms.join("a", &members[0].0), "it is there already");
        rooms.join("b", &members[0].0);
        let frame = Frame::text("hello");
        let reached = rooms.broadcast("a", &frame, Class::Durable, Some(members[1].0.id()));
        assert_eq!(reached, 2);
        let sent: Vec<u64> = members.iter().map(|(member, _)| member.ledger().enqueued).collect();
        assert_eq!(sent, [1, 0, 1]);
        assert_eq!(rooms.broadcast("nowhere", &frame, Class::Durable, None), 0);
    }

    proptest! {
        #[test]
        fn rooms_equal_a_set_of_pairs_and_empty_ones_vanish(
            steps in proptest::collection::vec((0..3_u8, 0..4_usize, 0..3_usize), 0..100),
        ) {
            let (hub, rooms, names) = (hub(), Rooms::new(), ["a", "b", "c"]);
            let connections: Vec<_> = (0..4).map(|_| hub.connect_for_tests()).collect();
            let mut model = BTreeSet::new();
            for (step, who, room) in steps {
                let (name, (connection, _)) = (names[room], &connections[who]);
                match step {
                    0 => prop_assert_eq!(rooms.join(name, connection), model.insert((name, who))),
                    1 => {
                        let left = rooms.leave(name, connection.id());
                        prop_assert_eq!(left, model.remove(&(name, who)));
                    }
                    _ => {
                        let mut left = rooms.leave_all(connection.id());
                        left.sort();
                        let gone = model.iter().filter(|(_, other)| *other == who);
                        let gone: Vec<_> = gone.map(|(name, _)| *name).collect();
                        prop_assert_eq!(left, gone);
                        model.retain(|(_, other)| *other != who);
                    }
                }
                for name in names {
                    let count = model.iter().filter(|(room, _)| *room == name).count();
                    prop_assert_eq!(rooms.count(name), count);
                }
                let used: BTreeSet<_> = model.iter().map(|(name, _)| name).collect();
                prop_assert_eq!(rooms.len(), used.len());
                prop_assert_eq!(rooms.is_empty(), used.is_empty());
            }
        }
    }
}
