//! The list of a hub's connections, and who gives way when the process holds too much.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    budget::Budget,
    close::Close,
    connection::{Connection, ConnectionId, Ended},
    index::{Index, NotIdentified},
    ledger::Ledger,
    options::Options,
    telemetry::{Direction, SHED},
};

/// All connections of a hub.
#[derive(Debug)]
pub(crate) struct Registry {
    options: Arc<Options>,
    listed: Mutex<Listed>,
    pub(crate) inbound: Budget,
    pub(crate) outbound: Arc<Budget>,
    emptied: Notify,
}

#[derive(Debug)]
struct Listed {
    index: Index<Connection>,
    /// What became of the messages of connections that have ended.
    past: Ledger,
}

/// Takes a connection out of the list at its end, however that comes.
#[derive(Debug)]
pub(crate) struct Membership {
    registry: Arc<Registry>,
    connection: Connection,
}

impl Drop for Membership {
    fn drop(&mut self) {
        // For a task that was aborted; else it has ended already, and this changes nothing.
        self.connection.end(Ended::Lost);
        self.registry.remove(&self.connection);
    }
}

impl Registry {
    pub(crate) fn new(options: Arc<Options>) -> Arc<Self> {
        Arc::new(Self {
            inbound: Budget::new(options.inbound_budget),
            outbound: Arc::new(Budget::new(options.outbound_budget)),
            options,
            listed: Mutex::new(Listed { index: Index::new(), past: Ledger::default() }),
            emptied: Notify::new(),
        })
    }

    /// Lists a connection until the guard is dropped.
    pub(crate) fn list(self: &Arc<Self>, connection: &Connection) -> Membership {
        let is_new = self.listed.lock().index.add(connection.id(), connection.clone());
        debug_assert!(is_new, "ids are never used twice");
        Membership { registry: Arc::clone(self), connection: connection.clone() }
    }

    fn remove(&self, connection: &Connection) {
        let mut listed = self.listed.lock();
        if listed.index.remove(connection.id()).is_some() {
            listed.past += connection.ledger();
        }
        if listed.index.len() == 0 {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn identify(&self, id: ConnectionId, user: &Arc<str>) -> Result<(), NotIdentified> {
        self.listed.lock().index.identify(id, user, self.options.per_user)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<Connection> {
        self.listed.lock().index.get(id).cloned()
    }

    pub(crate) fn of_user(&self, user: &str) -> Vec<Connection> {
        self.listed.lock().index.of_user(user).cloned().collect()
    }

    pub(crate) fn all(&self) -> Vec<Connection> {
        self.listed.lock().index.values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.listed.lock().index.len()
    }

    pub(crate) fn users(&self) -> usize {
        self.listed.lock().index.users()
    }

    /// Returns the sum of all ledgers, of past connections too.
    pub(crate) fn ledger(&self) -> Ledger {
        let listed = self.listed.lock();
        let mut sum = listed.past;
        listed.index.values().for_each(|connection| sum += connection.ledger());
        sum
    }

    /// Waits until no connection is listed.
    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            // Listening begins before the look, so an end in between is not missed.
            emptied.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Closes those for which most waits, until the rest is within the budget.
    pub(crate) fn shed_outbound(&self) {
        self.shed(&self.outbound, Direction::Out, Connection::queued_bytes);
    }

    /// Closes those with the largest unfinished messages, until the rest is within the budget.
    pub(crate) fn shed_inbound(&self) {
        self.shed(&self.inbound, Direction::In, Connection::inbound_bytes);
    }

    fn shed(&self, budget: &Budget, direction: Direction, held: impl Fn(&Connection) -> usize) {
        let listed = self.listed.lock();
        // What those hold that are closing already is as good as free.
        let (closing, mut open): (Vec<_>, Vec<_>) =
            listed.index.values().partition(|connection| connection.outbox().closing().is_some());
        let mut leaving: usize = closing.into_iter().map(&held).sum();
        open.sort_by_key(|connection| held(connection));
        while budget.is_over_but(leaving)
            && let Some(largest) = open.pop()
        {
            leaving += held(largest);
            tracing::warn!(connection = %largest.id(), bytes = held(largest), "shed a connection");
            largest.shed(Close::OVERLOADED);
            SHED.add_for(direction, 1);
        }
    }
}
